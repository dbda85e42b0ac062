"""The Protector: any length and rate in, as much speech out, the same in pieces, batches and after a round trip to disk."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import psegan
from psegan.audio import SAMPLE_RATE
from psegan.errors import PseganError
from psegan.pretrained import load_part, read_about
from psegan.protect import Protector, Recording
from psegan.random import seeded
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
    """Without gated layers the receptive field is shorter than what windows share, so nothing differs at all."""
    waveform = speech(45.0)
    draws = protector.draw(seeded(0))
    heard: list[torch.Tensor] = []
    (done,) = protector.protect([Recording(waveform.split(100_000), draws, heard.append)])
    assert done.error is None and done.samples == len(waveform) == sum(map(len, heard))
    assert len(heard) > 2, "this recording is not long"
    with torch.inference_mode():
        torch.testing.assert_close(torch.cat(heard), whole(protector, waveform, draws), rtol=0, atol=2e-5)


def test_gated_layers_see_further_than_a_window_but_no_seam_is_heard():
    """Their dilations reach over a minute and a half: windows differ from the whole, but no more at a seam than elsewhere."""
    protector = small_protector(grn_repeats=2)
    with torch.no_grad():
        torch.nn.init.normal_(protector.conversion.generator.unet.bottleneck.unfold.weight, std=0.02)
    waveform, heard = speech(45.0), []
    draws = protector.draw(seeded(0))
    list(protector.protect([Recording([waveform], draws, heard.append)]))
    with torch.inference_mode():
        difference = torch.cat(heard) - whole(protector, waveform, draws)
    power = difference.unfold(0, 4_096, 4_096).square().mean(1)
    loudness = torch.cat(heard).square().mean()
    assert power.max() < 0.05 * loudness
    jumps = torch.cat(heard).diff().abs()
    seams = [(768 * k + 128) * 256 for k in range(1, 3)]
    for seam in seams:  # a click would be a step between samples
        assert jumps[seam - 512 : seam + 512].max() <= jumps.max() * 1.01 and jumps[seam - 512 : seam + 512].max() < 0.5


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_change_nothing(protector, batch_size):
    lengths = (0.4, 20.0, 1.0, 0.03, 40.0)
    alone, together = [], []
    for i, seconds in enumerate(lengths):
        heard: list[torch.Tensor] = []
        list(protector.protect([Recording([speech(seconds, i)], protector.draw(seeded(i)), heard.append)]))
        alone.append(torch.cat(heard))
    sinks: list[list[torch.Tensor]] = [[] for _ in lengths]
    recordings = [
        Recording([speech(seconds, i)], protector.draw(seeded(i)), sinks[i].append, name=i)
        for i, seconds in enumerate(lengths)
    ]
    done = list(protector.protect(recordings, batch_size))
    assert [recording.name for recording in done] == list(range(len(lengths)))
    together = [torch.cat(sink) for sink in sinks]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_a_recording_that_fails_leaves_the_others_alone(protector):
    def broken():
        yield speech(30.0)
        raise PseganError("the disk is gone")

    def full(_):
        raise PseganError("no space")

    good: list[torch.Tensor] = []
    recordings = [
        Recording(broken(), protector.draw(seeded(0)), lambda _: None, name="broken"),
        Recording([speech(60.0)], protector.draw(seeded(0)), full, name="full"),
        Recording([speech(20.0)], protector.draw(seeded(0)), good.append, name="good"),
    ]
    for batch_size in (1, 2, 8):
        good.clear()
        for recording in recordings:
            recording.error, recording.samples, recording.written = None, 0, 0
        recordings[0].blocks = broken()
        done = list(protector.protect(recordings, batch_size))
        assert [recording.name for recording in done] == ["broken", "full", "good"]
        assert [str(recording.error) for recording in done] == ["the disk is gone", "no space", "None"]
        assert sum(map(len, good)) == 20 * SAMPLE_RATE


@pytest.mark.parametrize(
    "waveform", [torch.zeros(0), torch.tensor([0.0, torch.nan]), torch.tensor([torch.inf])], ids=["empty", "nan", "inf"]
)
def test_what_is_no_speech_is_refused(protector, waveform):
    with pytest.raises(PseganError, match="at least one, none of them NaN or infinite"):
        protector(waveform, SAMPLE_RATE)


def test_broken_weights_are_told(protector):
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


def test_half_the_size_is_nearly_the_same(protector, folder, tmp_path):
    protector.save_pretrained(tmp_path / "half", half=True)
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


def test_damaged_folders_are_told_in_one_line(folder, tmp_path):
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
    assert "cannot be loaded" in damage("config.json", b"{")
    config["parts"]["vocoder"] = {"class_path": "os.system", "init_args": {"command": "true"}}
    assert "os.system is no module of psegan.models" in damage("config.json", json.dumps(config).encode())
    del config["parts"]["vocoder"]
    assert "a protector has a conversion and a vocoder" in damage("config.json", json.dumps(config).encode())


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
