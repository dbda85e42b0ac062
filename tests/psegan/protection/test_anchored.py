"""AnchoredProtector: nothing of the recording but what is said in it reaches what comes out, and that is of any length."""

import copy

import pytest
import torch

from psegan import Protector
from psegan.common.errors import PseganError
from psegan.protection.anchored import FASTEST, PAUSE, SLOWEST, AnchoredProtector
from psegan.speech.audio import HOP
from psegan.speech.edges import trimmed
from tests.support.protectors import small_anchored, small_voice, speech


@pytest.fixture(scope="module")
def protector():
    return small_anchored()


@pytest.fixture(scope="module")
def ada(protector):
    return protector.speaking_as(small_voice())


@pytest.fixture(scope="module")
def dubbed(protector):
    return protector.speaking_as(small_voice(), keep_timing=True)


def whole(protector, blocks, seed=0):
    return torch.cat(list(protector.protect(blocks, protector.draw(torch.Generator().manual_seed(seed)))))


def test_the_tempo_is_drawn(ada):
    recording = speech(4)
    n = -(-len(trimmed(recording)) // HOP)
    made = [len(whole(ada, [recording], seed)) / HOP for seed in range(20)]
    assert all(round(n * FASTEST) <= frames <= round(n * SLOWEST) for frames in made) and len(set(made)) > 15
    assert torch.equal(whole(ada, [recording], 3), whole(ada, [recording], 3))
    assert not ada.keeps_length


@pytest.mark.parametrize("samples", [1, 255, 4000, 100_001, 16_000 * 14])
def test_kept_timing_has_the_recordings_length(dubbed, samples):
    made = whole(dubbed, [speech(15)[:samples]])
    assert dubbed.keeps_length and len(made) == samples
    assert torch.isfinite(made).all() and made.abs().max() <= 1


@pytest.mark.parametrize("size", [999, 50_000])
def test_blocks_make_no_difference(ada, dubbed, size):
    recording = speech(14)
    for protector in (ada, dubbed):
        assert torch.equal(whole(protector, recording.split(size)), whole(protector, [recording]))


def test_the_recordings_level_is_not_heard(dubbed):
    recording = speech(3)
    loud, soft = whole(dubbed, [recording]), whole(dubbed, [recording * 0.1])
    assert (loud - soft).abs().max() < 0.02 * loud.abs().max()


def test_nothing_of_the_recording_is_heard_but_its_codes(dubbed, monkeypatch):
    """Whatever goes in, if the codes are the same, the same comes out."""
    codes = torch.randint(-2, 3, (1, 12, 200), generator=torch.Generator().manual_seed(0)) / 2

    def coded(mel, lengths):
        return codes[..., : -(-mel.shape[2] // 2)], (lengths + 1) // 2

    first = dubbed.speaking_as(dubbed.voice, keep_timing=True)
    plain = whole(first, [speech(3)])  # its profile is made before
    monkeypatch.setattr(dubbed.encoder, "forward", coded)
    one, other = whole(first, [speech(3)]), whole(first, [speech(3, seed=9) * 0.3 + 0.01])
    assert torch.equal(one, other) and not torch.equal(one, plain)


def test_another_voice_says_it_otherwise(protector, ada):
    other = protector.speaking_as(small_voice("Ben", 7))
    recording = speech(3)
    assert other.voice.name == "Ben" and ada.voice.name == "Ada" and protector.voice is None
    assert not torch.equal(whole(other, [recording]), whole(ada, [recording]))


def test_it_goes_where_the_networks_go(dubbed):
    moved = copy.deepcopy(dubbed).to(torch.float64).to(torch.float32)
    assert torch.equal(whole(moved, [speech(1)]), whole(dubbed, [speech(1)]))
    moved._profile = moved._profile._replace(keys=moved._profile.keys.to("meta"))  # as if it had been on a GPU
    assert torch.equal(whole(moved, [speech(1)]), whole(dubbed, [speech(1)]))


def test_too_quiet_is_no_silence(ada, dubbed):
    for protector in (ada, dubbed):
        with pytest.raises(
            PseganError, match="too quiet: its loudest sample is at 0.0005 of full scale.*amplify it first"
        ):
            whole(protector, [torch.full((64_000,), 5e-4)])
        assert len(whole(protector, [])) == 0


def test_silence_stays_silence(ada, dubbed):
    assert len(whole(ada, [torch.zeros(64_000)])) == PAUSE // HOP * HOP + HOP
    recording = torch.cat([torch.zeros(100_000), speech(2)])
    made = whole(dubbed, [recording])
    assert made[:40_000].abs().max() < 0.1 * made[-32_000:].abs().max()


def test_it_speaks_as_nobody_yet(protector):
    with pytest.raises(PseganError, match="speaks with a voice profile: give it one by speaking_as"):
        protector(speech(1), 16_000)
    with pytest.raises(PseganError, match="target emotion 'sad' is not known; there are none"):
        protector.draw(torch.Generator(), "sad")


def test_saved_and_loaded(ada, tmp_path):
    ada.save_pretrained(tmp_path / "weights")
    for load in (Protector.from_pretrained, Protector.load, AnchoredProtector.load):
        again = load(tmp_path / "weights")
        assert isinstance(again, AnchoredProtector) and again.voice is None and again.needs_voice
        recording = speech(2)
        assert torch.equal(whole(again.speaking_as(small_voice()), [recording]), whole(ada, [recording]))
    assert again.weights == ada.weights and again.speaking_as(small_voice()).describe() == ada.describe()
    others = again, again.speaking_as(small_voice(), keep_timing=True), again.speaking_as(small_voice(seed=5))
    assert all(other.describe() != ada.describe() for other in others)


def test_other_parts_are_refused(protector):
    parts = dict(protector.named_children())
    with pytest.raises(
        PseganError, match=r"there is decoder \(ProfileDecoder\), vocoder \(Vocos\), which protects nothing"
    ):
        AnchoredProtector.assemble({"decoder": parts["decoder"], "vocoder": parts["vocoder"]}, {})
