"""The Protector: any length and rate in, as much speech out, the same in pieces and after a round trip to disk."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import psegan
from psegan.common.errors import PseganError
from psegan.common.random import of_utterance, secret, seeded
from psegan.models.vocos import Vocos
from psegan.protection.protector import Protector
from psegan.protection.streaming import stitch, windows
from psegan.speech.audio import SAMPLE_RATE
from psegan.weights import load_part, read_about
from tests.support.protectors import EMOTIONS, small_protector, speech


@pytest.fixture(scope="module")
def protector() -> Protector:
    return small_protector()


@pytest.fixture(scope="module")
def folder(protector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped") / "small"
    protector.save_pretrained(folder, card="# A small one\n")
    return folder


@pytest.mark.parametrize("samples", [1, 480, 16_000, 40_001])
def test_as_long_as_the_recording(protector, samples):
    protected = protector(speech(samples / SAMPLE_RATE), SAMPLE_RATE, seed=0)
    assert protected.shape == (samples,) and protected.dtype == torch.float32
    assert protected.isfinite().all() and protected.abs().max() <= 1


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_and_channels(protector, rate):
    waveform = speech(1.0, rate=rate)
    protected = protector(torch.stack([waveform, waveform]), rate, seed=0)
    assert protected.shape == (SAMPLE_RATE,)
    assert torch.equal(protected, protector(waveform, rate, seed=0))


def test_channels_that_cancel_are_not_averaged(protector):
    waveform = speech(1.0)
    with pytest.warns(
        UserWarning, match="channels cancel one another, so that only channel 1, the loudest, is protected"
    ):
        protected = protector(torch.stack([waveform, -0.9 * waveform]), SAMPLE_RATE, seed=0)
    assert torch.equal(protected, protector(waveform, SAMPLE_RATE, seed=0))


def test_a_seed_repeats_and_without_one_nothing_does(protector):
    waveform = speech(1.0)
    assert torch.equal(protector(waveform, SAMPLE_RATE, seed=3), protector(waveform, SAMPLE_RATE, seed=3))
    secret = [protector(waveform, SAMPLE_RATE) for _ in range(2)]
    assert not torch.equal(*secret)


def test_every_emotion_is_drawn_and_one_can_be_chosen(protector):
    drawn = {int(protector.draw(seeded(i))["target"]) for i in range(50)}
    assert drawn == set(range(len(EMOTIONS)))
    assert int(protector.draw(seeded(0), "sad")["target"]) == EMOTIONS.index("sad")
    first, second = (protector(speech(1.0), SAMPLE_RATE, seed=0, target=name) for name in ("happy", "sad"))
    assert not torch.equal(first, second)
    with pytest.raises(PseganError, match="'bored' is not known; there are neutral, happy, sad"):
        protector(speech(1.0), SAMPLE_RATE, target="bored")


def whole(protector: Protector, waveform: torch.Tensor, draws) -> torch.Tensor:
    """What the networks make of a recording in one piece."""
    mel, frames = protector.front_end(waveform[None], torch.tensor([len(waveform)]))
    converted = protector.conversion(protector.scaler(mel), frames, draws)
    return protector.vocoder(protector.scaler.inverse(converted), frames)[0, : len(waveform)].clamp(-1, 1)


def test_a_long_recording_in_windows_is_what_it_is_in_one_piece(protector):
    """Without gated layers the receptive field is shorter than what windows share: they differ in level alone, by little."""
    waveform = speech(45.0)
    draws = protector.draw(seeded(0))
    pieces = list(protector.protect(waveform.split(100_000), draws))
    assert len(waveform) == sum(map(len, pieces))
    assert len(pieces) > 2, "this recording is not long"
    with torch.inference_mode():
        torch.testing.assert_close(torch.cat(pieces), whole(protector, waveform, draws), rtol=0, atol=2e-4)


def test_gated_layers_see_further_than_a_window_but_no_seam_is_heard():
    """Their dilations reach over a minute and a half: windows differ from the whole, but no more at a seam than elsewhere."""
    protector = small_protector(grn_repeats=2)
    weight = protector.conversion.generator.unet.bottleneck.unfold.weight
    torch.nn.init.normal_(weight, std=0.3, generator=seeded("gated layers"))
    waveform = speech(45.0)
    draws = protector.draw(seeded(0))
    with torch.inference_mode():
        mel, frames = protector.front_end(waveform[None], torch.tensor([len(waveform)]))
        one_piece = protector.conversion(protector.scaler(mel), frames, draws)[0]

        def joined(fade: int) -> torch.Tensor:
            converted = (
                protector.conversion(window[None], torch.tensor([window.shape[1]]), draws)[0]
                for window in windows([protector.scaler(mel[0])])
            )
            return torch.cat(list(stitch(converted, fade)), 1)

    soft, hard = joined(32), joined(1)
    assert (soft - one_piece).abs().mean() < 0.01
    seams = [768 * k + 128 for k in range(1, 4)]

    def step(made: torch.Tensor, seam: int) -> float:
        """What windows add to the change from frame to frame around a seam, at worst."""
        return float((made - one_piece).diff(dim=1)[:, seam - 20 : seam + 20].abs().mean(0).max())

    elsewhere = (soft - one_piece).diff(dim=1).abs().mean(0).quantile(0.99)
    assert max(step(soft, seam) for seam in seams) < max(3 * elsewhere, 2e-3)
    assert max(step(hard, seam) for seam in seams) > 4 * max(step(soft, seam) for seam in seams), "a cut would show"


@pytest.mark.parametrize("seconds", [0.03, 1.0, 20.0, 40.0])
def test_where_blocks_end_changes_no_bit(protector, seconds):
    waveform, draws = speech(seconds), protector.draw(seeded(0))
    whole = torch.cat(list(protector.protect([waveform], draws)))
    for size in (997, 100_000):
        assert torch.equal(torch.cat(list(protector.protect(waveform.split(size), draws))), whole)
    named = of_utterance(4, "calls/one")
    by_name = protector(waveform, SAMPLE_RATE, seed=4, id="calls/one")
    assert torch.equal(by_name, protector.transform(waveform, named).waveform)


def test_a_recording_that_fails_says_why(protector):
    def broken():
        yield speech(30.0)
        raise PseganError("the disk is gone")

    with pytest.raises(PseganError, match="the disk is gone"):
        list(protector.protect(broken(), protector.draw(seeded(0))))


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(0), 16_000, "at least one, none of them NaN or infinite"),
        (torch.tensor([0.0, torch.nan]), 16_000, "none of them NaN or infinite"),
        (torch.tensor([torch.inf]), 16_000, "none of them NaN or infinite"),
        (torch.zeros(100, dtype=torch.int16), 16_000, "floating point"),
        (torch.zeros(1, 1, 100), 16_000, "floating point"),
        (torch.zeros(100, 2), 16_000, "transpose it"),
        (torch.zeros(100), 22_050.5, "a rate of 22050.5 Hz"),
        (torch.zeros(100), 0, "a rate of 0 Hz"),
    ],
)
def test_what_is_no_speech_is_refused(protector, waveform, rate, message):
    with pytest.raises(PseganError, match=message):
        protector(waveform, rate)


def test_an_odd_rate_is_taken_for_the_nearest_simple_one(protector):
    assert abs(len(protector(speech(1.0, rate=44_101), 44_101, seed=0)) - SAMPLE_RATE) <= 1


def test_broken_weights_are_an_error(protector):
    broken = small_protector()
    with torch.no_grad():
        broken.vocoder.head.bias.fill_(torch.nan)
    with pytest.raises(PseganError, match="not finite"):
        broken(speech(1.0), SAMPLE_RATE)


def test_a_folder_gives_the_same_protector_again(protector, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "README.md").read_text() == "# A small one\n"
    again = psegan.Protector.from_pretrained(folder)
    assert again.emotions == EMOTIONS and not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    waveform = speech(1.0)
    assert torch.equal(again(waveform, SAMPLE_RATE, seed=0), protector(waveform, SAMPLE_RATE, seed=0))
    assert read_about(folder) == protector.about
    assert type(load_part(folder, "vocoder")).__name__ == "Vocos"
    with pytest.raises(PseganError, match="holds conversion, vocoder, but no encoder"):
        load_part(folder, "encoder")


def test_weights_that_may_be_untrained_in_long_recordings_are_loaded_with_a_line(tmp_path, capsys):
    """Where the export says how long crops were, that decides; where it doesn't, one line says so."""
    small_protector().save_pretrained(tmp_path / "short")
    small_protector(grn_repeats=1).save_pretrained(tmp_path / "far")
    capsys.readouterr()
    Protector.from_pretrained(tmp_path / "short")
    assert not capsys.readouterr().err, "without gated layers every utterance trains all weights"
    Protector.load(tmp_path / "far", Vocos(width=8, hidden=8, depth=1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: warning: {tmp_path / 'far'}: nobody says how long its training speech was")
    assert "more than 24.6 s" in line
    path = tmp_path / "far" / "config.json"
    config = json.loads(path.read_text())
    for heard, refused in (([25.0], False), ([3.0], True), ([3.0, 25.0], False)):
        config["about"]["trained_on"] = [
            {"role": "itself", "data": {"class_path": "datamodules.X", "init_args": {"crop_seconds": seconds}}}
            for seconds in heard
        ]
        path.write_text(json.dumps(config))
        if refused:
            with pytest.raises(PseganError, match="of 1537 frames or more, but the longest training utterance has 188"):
                Protector.from_pretrained(tmp_path / "far")
        else:
            Protector.from_pretrained(tmp_path / "far")
    assert not capsys.readouterr().err


def test_half_the_size_is_nearly_the_same(protector, folder, tmp_path):
    protector.save_pretrained(tmp_path / "half", half=True)
    psegan.Protector.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == "# A small one\n", (
        "licence and limits stay with the weights"
    )
    sizes = [(where / "model.safetensors").stat().st_size for where in (tmp_path / "half", folder)]
    assert sizes[0] < 0.6 * sizes[1]
    again = Protector.from_pretrained(tmp_path / "half")
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    waveform = speech(1.0)
    ours, theirs = again(waveform, SAMPLE_RATE, seed=0), protector(waveform, SAMPLE_RATE, seed=0)
    assert (ours - theirs).square().mean() < 1e-3 * theirs.square().mean()


def test_nothing_is_overwritten(protector, folder):
    with pytest.raises(PseganError, match="exists already"):
        protector.save_pretrained(folder)


def test_damaged_folders_are_errors_of_one_line(folder, tmp_path):
    copy = tmp_path / "copy"

    def damage(name: str, content: bytes | None) -> str:
        copy.mkdir(exist_ok=True)
        for path in folder.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        if content is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(content)
        with pytest.raises(PseganError) as caught:
            Protector.from_pretrained(copy)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    weights = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert "cannot be loaded" in damage("model.safetensors", weights[: len(weights) // 2])
    assert "cannot be loaded" in damage("model.safetensors", None)
    assert "cannot be loaded" in damage("config.json", None)
    assert "(config.json: no such file); name a folder that psegan export wrote" in damage("config.json", None)
    assert "(config.json is not JSON)" in damage("config.json", b"{")
    assert "(config.json lacks parts and about" in damage("config.json", b'{"parts": {}, "about": []}')
    named = {**config, "about": {**config["about"], "emotions": 3}}
    assert "emotions in config.json are no list of names" in damage("config.json", json.dumps(named).encode())
    parts = config["parts"]
    for name, spec, reason in (
        (
            "vocoder",
            {"class_path": "os.system", "init_args": {"command": "true"}},
            "os.system is no module of psegan.models",
        ),
        ("vocoder", {"class_path": "psegan.models.melgan.nn.Linear"}, "is no module of psegan.models"),
        ("vocoder", {"class_path": "psegan.models.vocos.FFT"}, "is no module of psegan.models"),
        ("vocoder", "psegan.models.vocos.Vocos", "is no class_path with init_args"),
        ("vocoder", {"class_path": "psegan.models.vocos.Vocos", "init_args": "/etc/passwd"}, "cannot be loaded"),
        (
            "vocoder",
            {"class_path": "psegan.models.vocos.Vocos", "init_args": {"breadth": 3}},
            "cannot be made of these",
        ),
        ("vocoder", parts["conversion"], "which protects nothing"),
        ("conversion", {**parts["conversion"], "init_args": {"generator": "os.path", "n_emotions": 3}}, "cannot be"),
    ):
        changed = {**config, "parts": {**parts, name: spec}}
        assert reason in damage("config.json", json.dumps(changed).encode())
    del config["parts"]["vocoder"]
    others = "there is conversion (ToEmotion), which protects nothing; a protector has conversion and vocoder"
    assert others in damage("config.json", json.dumps(config).encode())


def test_weights_of_another_shape_are_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = load_file(copy / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if key != "vocoder.head.weight"}, copy / "model.safetensors"
    )
    with pytest.raises(PseganError, match="cannot be loaded"):
        Protector.from_pretrained(copy)


def test_pickles_are_not_read(folder, tmp_path, monkeypatch):
    """A hub's repository with a pickle and no safetensors, in a cache as the hub's library keeps it."""
    cache = tmp_path / "hub"
    commit = "0" * 40
    snapshot = cache / "models--somebody--theirs" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (cache / "models--somebody--theirs" / "refs").mkdir()
    (cache / "models--somebody--theirs" / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text((folder / "config.json").read_text())
    torch.save({}, snapshot / "pytorch_model.bin")
    with pytest.raises(PseganError, match="somebody/theirs: cannot be loaded"):
        Protector.from_pretrained("somebody/theirs", cache_dir=cache, local_files_only=True)
    (snapshot / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    found = Protector.from_pretrained("somebody/theirs", cache_dir=cache, local_files_only=True)
    assert found.emotions == EMOTIONS


def test_the_hub_gets_what_a_folder_would(protector, folder, monkeypatch):
    from huggingface_hub import HfApi

    uploaded = {}

    def create_repo(self, repo_id, **kwargs):
        return type("Url", (), {"repo_id": repo_id})()

    def upload_folder(self, *, folder_path, **kwargs):
        uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    protector.push_to_hub("somebody/ours")
    assert uploaded["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert json.loads(uploaded["config.json"]) == json.loads((folder / "config.json").read_text())
    assert b"ToEmotion" in uploaded["README.md"]


def test_secret_draws_are_those_of_no_seed():
    """torch keeps 32 bits of a seed; the secret generator's state is all of it from the operating system."""
    first, second = secret(), secret()
    words = [generator.get_state()[24 : 24 + 8 * 624].view(torch.int64) for generator in (first, second)]
    assert not torch.equal(*words) and all(0 <= int(w.min()) and int(w.max()) < 2**32 for w in words)
    drawn = torch.rand(100_000, generator=first)
    assert drawn.mean() == pytest.approx(0.5, abs=0.01) and drawn.std() == pytest.approx(12**-0.5, abs=0.01)
    assert torch.randint(8, (8_000,), generator=second).bincount(minlength=8).min() > 850


RELEASED = (
    "psegan-ravdess", "psegan-emodb", "psegan-nemo", "vocos", "melgan", "content-matcher",
    "speaker-matcher-ravdess", "speaker-matcher-emodb", "speaker-matcher-nemo",
)  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_load_and_have_a_card(name):
    from psegan.models.state import weights_hash
    from psegan.weights import PretrainedModel, find, released

    assert set(released()) == set(RELEASED)
    card = (Path(find(name)) / "README.md").read_text()
    for heading in ("Data", "Licence", "Protocol", "Results", "Limits", "Hash"):
        assert f"## {heading}" in card
    assert str(weights_hash(PretrainedModel.from_pretrained(name))) in card
    assert read_about(name)["trained_on"]


def test_released_weights_are_small():
    from psegan.weights import released

    assert sum(path.stat().st_size for folder in released().values() for path in Path(folder).iterdir()) < 60e6


@pytest.mark.parametrize("name", ["psegan-ravdess", "psegan-emodb", "psegan-nemo"])
def test_released_protectors_protect(name, capsys):
    protector = Protector.from_pretrained(name)
    assert not capsys.readouterr().err
    waveform = speech(2.0)
    protected = protector(waveform, SAMPLE_RATE, seed=0)
    assert len(protected) == len(waveform)
    assert 0.01 < protected.square().mean() / waveform.square().mean() < 100
