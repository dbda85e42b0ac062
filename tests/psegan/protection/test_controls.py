"""Protectors: what each does to speech, edge cases, identities, and errors of one line."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter, welch

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.vocoder import GriffinLim
from psegan.protection.controls import (
    AdditiveNoise,
    CopySynthesis,
    Identity,
    McAdams,
    PitchShift,
    load_protector,
    mcadams,
    shift_pitch,
    stretch,
)
from psegan.protection.protector import Protector
from psegan.protection.transform import Transform, Transformed
from psegan.speech.audio import SAMPLE_RATE, LogMel
from psegan.training import command as training

CONTROLS = {
    "identity": Identity(),
    "copy-synthesis": CopySynthesis(GriffinLim(n_iter=4)),
    "noise": AdditiveNoise(10),
    "mcadams": McAdams(),
    "pitch": PitchShift(),
}


def noise(samples: int, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(samples, generator=seeded("test", samples))


def vowel(f0: float, seconds: float = 1.0) -> torch.Tensor:
    """A pulse train with three formants, at a peak of 0.5."""
    phase = np.cumsum(np.full(round(seconds * SAMPLE_RATE), f0 / SAMPLE_RATE))
    wave = np.diff(np.floor(phase), prepend=0.0)
    for formant, width in ((700, 80), (1200, 90), (2600, 120)):
        radius = math.exp(-math.pi * width / SAMPLE_RATE)
        wave = lfilter([1.0], [1, -2 * radius * math.cos(2 * math.pi * formant / SAMPLE_RATE), radius**2], wave)
    return torch.from_numpy(0.5 * wave / np.abs(wave).max()).float()


def fundamental(waveform: torch.Tensor, near: float) -> float:
    """F0 in Hz within three semitones of ``near``, by autocorrelation with parabolic interpolation."""
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4].double().numpy()
    r = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    r = r / np.arange(len(r), 0, -1)
    low, high = (round(SAMPLE_RATE / (near * 2 ** (s / 12))) for s in (3, -3))
    k = low + int(np.argmax(r[low : high + 1]))
    before, here, after = r[k - 1 : k + 2]
    return SAMPLE_RATE / (k + 0.5 * (before - after) / (before - 2 * here + after))


def db(ratio: torch.Tensor) -> float:
    return 20 * math.log10(float(ratio))


def rms(waveform: torch.Tensor) -> torch.Tensor:
    return waveform.square().mean().sqrt()


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize(
    "waveform",
    [torch.zeros(8000), torch.zeros(1), noise(480), noise(1), torch.ones(4000), noise(20_001), 5 * noise(4000)],
    ids=["silence", "silent sample", "30 ms", "one sample", "constant", "odd length", "loud"],
)
def test_a_protector_keeps_length_and_range_and_repeats_itself(name, waveform):
    waveform = waveform.clamp(-1, 1)
    before = waveform.clone()
    protected, target, passed = CONTROLS[name].transform(waveform, seeded(0))
    assert protected.shape == waveform.shape and protected.dtype == torch.float32
    assert torch.isfinite(protected).all() and protected.abs().max() <= 1
    assert target is None and passed is None
    assert torch.equal(protected, CONTROLS[name].transform(waveform, seeded(0)).waveform)
    assert torch.equal(waveform, before), "the original is left as it is"


@pytest.mark.parametrize("name", CONTROLS)
def test_silence_stays_silent(name):
    assert CONTROLS[name].transform(torch.zeros(8000), seeded(0)).waveform.abs().max() < 1e-3


def test_identity_changes_no_bit():
    waveform = torch.arange(-32768, 32768).float() / 32768
    assert torch.equal(Identity().transform(waveform, seeded(0)).waveform, waveform)


@pytest.mark.parametrize("snr", [-5, 0, 10, 30])
def test_noise_has_the_ratio_asked_for(snr):
    waveform = vowel(150)[:8000] * 0.05
    added = AdditiveNoise(snr).transform(waveform, seeded(1)).waveform - waveform
    assert db(rms(waveform) / rms(added)) == pytest.approx(snr, abs=1e-3)
    spectrum = welch(added.numpy(), SAMPLE_RATE, nperseg=256)[1][1:-1]
    assert spectrum.max() / spectrum.min() < 5, "white"


def test_mcadams_with_one_changes_nothing():
    for waveform in (vowel(120), noise(5000)):
        assert (mcadams(waveform, 1.0) - waveform).abs().max() < 1e-5


def test_mcadams_agrees_with_a_frame_by_frame_implementation():
    waveform, alpha, order, window = vowel(130, 0.25) + noise(4000, 0.01), 0.7, 20, 320
    taper = np.sqrt(np.hanning(window + 1)[:-1])
    padded = np.pad(waveform.double().numpy(), (window, window))
    expected = np.zeros(len(padded))
    for start in range(0, len(padded) - window + 1, window // 2):
        frame = taper * padded[start : start + window]
        r = np.correlate(frame, frame, "full")[window - 1 : window + order]
        column = r[:-1].copy()
        column[0] += 1e-9 * r[0] + 1e-12
        predictor = np.concatenate([[1.0], -solve_toeplitz(column, r[1:])])
        poles = np.roots(predictor)
        moved = [p if p.imag == 0 else abs(p) * np.exp(1j * np.sign(p.imag) * abs(np.angle(p)) ** alpha) for p in poles]
        residual = lfilter(predictor, [1.0], frame)
        expected[start : start + window] += taper * lfilter([1.0], np.poly(moved).real, residual)
    expected = expected[window:-window]
    expected *= np.sqrt(np.mean(waveform.double().numpy() ** 2) / np.mean(expected**2))
    assert np.abs(mcadams(waveform, alpha).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("alpha", [0.6, 0.8])
def test_mcadams_moves_a_resonance_as_the_formula_says_and_keeps_the_level(alpha):
    angle, radius = 2 * math.pi * 1000 / SAMPLE_RATE, 0.97
    resonance = lfilter([1.0], [1, -2 * radius * math.cos(angle), radius**2], noise(32_000).double().numpy())
    waveform = torch.from_numpy(resonance).float() * 0.02
    moved = mcadams(waveform, alpha)
    frequencies, power = welch(moved.numpy(), SAMPLE_RATE, nperseg=1024)
    assert frequencies[power.argmax()] == pytest.approx(angle**alpha / (2 * math.pi) * SAMPLE_RATE, rel=0.04)
    assert db(rms(moved) / rms(waveform)) == pytest.approx(0, abs=1e-3)


def test_mcadams_keeps_the_pitch():
    assert fundamental(mcadams(vowel(140), 0.8), 140) == pytest.approx(140, rel=0.005)


def test_mcadams_lowers_the_level_rather_than_cutting_peaks():
    waveform = vowel(100) * 2
    assert 0.999 < mcadams(waveform, 0.5).abs().max() <= 1 + 1e-6
    assert rms(mcadams(waveform, 0.5)) < rms(waveform)


@pytest.mark.parametrize("semitones", [-4, -1.5, 0.3, 4, 7])
@pytest.mark.parametrize("f0", [110, 210])
def test_pitch_moves_by_the_semitones_asked_for(semitones, f0):
    waveform = vowel(f0)
    shifted = shift_pitch(waveform, semitones)
    expected = f0 * 2 ** (semitones / 12)
    assert 12 * math.log2(fundamental(shifted, expected) / expected) == pytest.approx(0, abs=0.05)
    assert db(rms(shifted) / rms(waveform)) == pytest.approx(0, abs=0.5)


def test_no_shift_changes_nothing():
    assert torch.equal(shift_pitch(noise(1000), 0.0), noise(1000))


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.4])
def test_stretching_changes_the_duration_alone(ratio):
    waveform = vowel(150)
    stretched = stretch(waveform, ratio)
    assert len(stretched) == math.ceil(len(waveform) * ratio)
    assert fundamental(stretched, 150) == pytest.approx(150, rel=0.002)
    assert ratio != 1 or (stretched - waveform).abs().max() < 1e-6


def test_events_stay_where_they_are():
    burst = torch.zeros(24_000)
    burst[12_000:12_800] = noise(800, 0.3)
    for protector in (PitchShift(4.0), PitchShift(-4.0), McAdams(0.8), CopySynthesis(GriffinLim(4))):
        power = protector.transform(burst, seeded(0)).waveform.square()
        centre = float((power * torch.arange(24_000)).sum() / power.sum())
        assert centre == pytest.approx(12_400, abs=320), f"{protector}: within 20 ms"


@pytest.mark.parametrize("cls", [McAdams, PitchShift])
def test_ranges_are_drawn_from_and_numbers_are_not(cls):
    ends = (0.5, 0.9)
    drawn = [cls(ends).transform(vowel(150), seeded(i)).waveform for i in (0, 1)]
    fixed = [cls(0.7).transform(vowel(150), seeded(i)).waveform for i in (0, 1)]
    assert not torch.equal(*drawn) and torch.equal(*fixed)


def test_copy_synthesis_is_the_vocoder_on_the_log_mel():
    waveform = vowel(150, 0.3)
    log_mel, frames = LogMel()(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    expected = GriffinLim(4)(log_mel, frames)[0, : len(waveform)]
    assert torch.equal(CopySynthesis(GriffinLim(4)).transform(waveform, seeded(0)).waveform, expected.clamp(-1, 1))


def test_a_trained_system(psegan_arguments, from_repository, tmp_path):
    training.main(psegan_arguments)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    protector = load_protector(str(path))
    assert isinstance(protector, Protector) and protector.n_targets == 5
    waveform = vowel(150, 0.5)
    outcomes = [protector.transform(waveform, seeded(i)) for i in range(8)]
    assert {outcome.target for outcome in outcomes} <= set(range(5)) and len({o.target for o in outcomes}) > 1
    assert all(len(outcome.waveform) == len(waveform) for outcome in outcomes)
    assert not torch.equal(outcomes[0].waveform, outcomes[1].waveform), "fresh targets and noise"
    again = protector.transform(waveform, seeded(0))
    assert torch.equal(again.waveform, outcomes[0].waveform) and again.target == outcomes[0].target
    assert protector.transform(torch.zeros(480), seeded(0)).waveform.shape == (480,)

    shutil.copy(path, tmp_path / "copy.ckpt")
    assert load_protector(str(tmp_path / "copy.ckpt")).describe() == protector.describe(), "contents, not paths"
    assert protector.describe()["weights"] and "PSEGAN" in str(protector)
    fewer = {"checkpoint": str(path), "vocoder": {"class_path": "GriffinLim", "init_args": {"n_iter": 2}}}
    other = load_protector({"class_path": "Protector", "init_args": fewer})
    assert other.describe() != protector.describe()


def test_a_broken_system_is_an_error():
    class Broken(Transform):
        def _transform(self, waveform, random):
            return Transformed(waveform / 0)

    with pytest.raises(PseganError, match=r"Broken\(\) gives samples that are not finite"):
        Broken().transform(torch.zeros(10), seeded(0))


def test_identities_tell_settings_apart():
    specs = [
        {"class_path": "McAdams"},
        {"class_path": "McAdams", "init_args": {"alpha": [0.5, 0.8]}},
        {"class_path": "McAdams", "init_args": {"alpha": 0.5}},
        {"class_path": "psegan.protection.controls.PitchShift", "init_args": {"semitones": 2}},
        {"class_path": "CopySynthesis"},
        {"class_path": "CopySynthesis",
         "init_args": {"vocoder": {"class_path": "psegan.models.vocoder.GriffinLim", "init_args": {"n_iter": 3}}}},
    ]  # fmt: skip
    described = [str(load_protector(spec).describe()) for spec in specs]
    assert len(set(described)) == len(specs)
    assert described == [str(load_protector(spec).describe()) for spec in specs]
    names = [str(load_protector(spec)) for spec in specs]
    assert names[1] == "McAdams(alpha=[0.5, 0.8])" and names[5] == "CopySynthesis(vocoder=GriffinLim(n_iter=3))"


def test_weights_of_a_vocoder_are_part_of_the_identity():
    class Trained(GriffinLim):
        def __init__(self, n_iter: int = 1):
            super().__init__(n_iter)
            self.layer = torch.nn.Linear(2, 2)

    first, second = Trained(), Trained()
    assert CopySynthesis(first).weights != CopySynthesis(second).weights
    second.load_state_dict(first.state_dict())
    assert CopySynthesis(first).describe() == CopySynthesis(second).describe()
    assert CopySynthesis(GriffinLim()).weights is None
    assert CopySynthesis().describe() == CopySynthesis("vocos").describe(), "the released one speaks by default"


def test_a_protector_from_a_file(tmp_path):
    path = tmp_path / "noise.yaml"
    path.write_text("class_path: psegan.protection.controls.AdditiveNoise\ninit_args: {snr_db: 5}\n")
    assert load_protector(str(path)).describe() == AdditiveNoise(5.0).describe()
    assert isinstance(load_protector("Identity"), Identity)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Mcadams", "Mcadams is no Transform; psegan.protection.controls has AdditiveNoise, .*McAdams"),
        ("Transform", "Transform is no Transform|abstract"),
        ("nowhere.Thing", "nowhere.Thing cannot be imported .*correct its path"),
        ("psegan.models.vocoder.GriffinLim", "is no Transform"),
        ("AdditiveNoise", "required: init_args.snr_db"),
        ("missing.ckpt", "missing.ckpt: no such checkpoint"),
        ("missing.yaml", "missing.yaml: cannot be read"),
        (
            {"class_path": "AdditiveNoise", "init_args": {"snr": 3}},
            "does not accept option 'snr' .its arguments: snr_db",
        ),
        ({"class_path": "AdditiveNoise", "init_args": {"snr_db": "loud"}}, "snr_db.*Got value: loud"),
        ({"class_path": "AdditiveNoise", "init_args": {"snr_db": float("nan")}}, "snr_db is nan"),
        ({"class_path": "AdditiveNoise", "init_args": 3}, "AdditiveNoise: "),
        ({"class_path": "McAdams", "init_args": {"alpha": [0.9, 0.5]}}, "alpha is .*a range .low, high."),
        ({"class_path": "McAdams", "init_args": {"alpha": 0}}, "alpha is 0.*must lie above 0"),
        ({"class_path": "McAdams", "init_args": {"alpha": [0.5]}}, "alpha.*2 elements"),
        ({"class_path": "PitchShift", "init_args": {"semitones": 13}}, "semitones is 13.*an octave"),
        ({"class_path": "CopySynthesis", "init_args": {"vocoder": {"class_path": "x.Y"}}}, "No module named 'x'"),
        ({"class_path": "McAdams", "init_arg": {}}, "unknown key 'init_arg'"),
        ({"init_args": {}}, "names no class"),
        ({"class_path": 3}, "names no class"),
    ],
)
def test_errors_are_one_line(spec, message):
    with pytest.raises(PseganError, match=message) as caught:
        load_protector(spec)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else(trained):
    with pytest.raises(PseganError, match="holds Classifier; give a checkpoint of a protecting system"):
        load_protector(trained("speaker_matcher"))


def test_a_specification_is_left_as_it_is():
    """It is written down afterwards: in a journal, in results."""
    vocoder = {"class_path": "psegan.models.vocoder.GriffinLim", "init_args": {"n_iter": 2}}
    spec = {"class_path": "psegan.protection.controls.CopySynthesis", "init_args": {"vocoder": vocoder}}
    before = json.dumps(spec)
    protector = load_protector(spec)
    assert json.dumps(spec) == before
    assert protector.vocoder.n_iter == 2 and json.dumps(protector.describe())
