"""What Moonshine's encoder hears, frame by frame of this project's features."""

import pytest
import torch
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.models.content import STRIDE
from psegan.models.moonshine import FEATURES, MoonshineEncoder
from psegan.speech.audio import LogMel
from psegan.speech.masking import strided_length
from tests.support.protectors import speech

pytest.importorskip("moonshine_voice")


@pytest.fixture(scope="module")
def hear():
    return MoonshineEncoder()


@pytest.mark.parametrize("samples", [1, 255, 511, 512, 16_000, 40_001])
def test_it_has_as_many_frames_as_the_networks_that_learn_from_it(hear, samples):
    waveform = speech(3)[:samples]
    _, frames = LogMel()(waveform[None], torch.tensor([samples]))
    heard = hear(waveform)
    assert heard.shape == (FEATURES, int(strided_length(frames, STRIDE))) and torch.isfinite(heard).all()


def test_what_is_later_is_heard_later(hear):
    """Speech after twenty frames of silence, each frame at its place."""
    heard, later = hear(speech(2)), hear(F.pad(speech(2), (20 * 512, 0)))
    centred = heard - heard.mean(1, keepdim=True)

    def likeness(delay: int) -> float:
        moved = later[:, delay : delay + heard.shape[1]]
        return float(F.cosine_similarity(centred, moved - moved.mean(1, keepdim=True), dim=0).mean())

    likenesses = {delay: likeness(delay) for delay in range(15, 21)}
    assert max(likenesses, key=likenesses.__getitem__) in (19, 20), likenesses


def test_without_its_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("psegan.common.packages.version", lambda package: "0.0.1")
    with pytest.raises(PseganError, match=r"moonshine-voice 0.0.1 lacks the weights .* pip install 'psegan\[judges\]'"):
        MoonshineEncoder()
