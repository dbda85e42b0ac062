"""Pieces of a recording give what the whole gives."""

import pytest
import torch

from psegan.protection.streaming import OVERLAP, WINDOW, mel_blocks, pieces, stitch, windows
from psegan.speech.audio import HOP, LogMel


@pytest.mark.parametrize("samples", [1, 255, 256, 1023, 16_000, 40_001])
@pytest.mark.parametrize("block", [1_000, 4_096, 50_000])
def test_spectrogram_of_blocks_is_that_of_the_whole(samples, block):
    waveform = torch.randn(samples, generator=torch.Generator().manual_seed(0)) * 0.1
    front_end = LogMel()
    whole, frames = front_end(waveform[None], torch.tensor([samples]))
    pieces = torch.cat(list(mel_blocks(waveform.split(block), front_end)), 1)
    assert pieces.shape[1] == int(frames)
    torch.testing.assert_close(pieces, whole[0], rtol=0, atol=1e-4)


def test_blocks_may_be_empty():
    waveform = torch.randn(5_000) * 0.1
    blocks = [waveform[:0], waveform[:3_000], waveform[:0], waveform[3_000:]]
    assert sum(mel.shape[1] for mel in mel_blocks(blocks, LogMel())) == 5_000 // HOP + 1


@pytest.mark.parametrize("frames", [1, WINDOW, WINDOW + 1, 2 * WINDOW - OVERLAP, 5_000])
@pytest.mark.parametrize("piece", [100, 3_000])
def test_windows_joined_again_are_the_spectrogram(frames, piece):
    mel = torch.randn(80, frames, generator=torch.Generator().manual_seed(0))
    found = list(windows(mel.split(piece, 1)))
    assert all(window.shape[1] == WINDOW for window in found[:-1]) and found[-1].shape[1] <= WINDOW
    torch.testing.assert_close(torch.cat(list(stitch(found)), 1), mel)


def test_windows_fade_into_each_other_in_the_middle_of_what_they_share():
    found = list(windows([torch.zeros(80, WINDOW + 500)]))
    joined = torch.cat(list(stitch(torch.full_like(window, i) for i, window in enumerate(found))), 1)[0]
    assert (joined[: WINDOW - OVERLAP // 2 - 16] == 0).all() and (joined[WINDOW - OVERLAP // 2 + 16 :] == 1).all()
    assert (joined.diff() >= 0).all() and joined.diff().max() < 0.05


@pytest.mark.parametrize("context", [0, 5, 40, None])
@pytest.mark.parametrize("frames", [1, 63, 64, 65, 1_000])
def test_pieces_cover_everything_once_with_their_context(context, frames):
    mel = torch.arange(frames).float().expand(80, frames)
    found = list(pieces(mel.split(37, 1), context, size=64))
    counted = [piece[0, first:end] for piece, first, end in found]
    for i, (piece, first, end) in enumerate(found):
        if context is not None:
            assert first == min(context, int(counted[i][0]))
            assert piece.shape[1] - end == (0 if i == len(found) - 1 else context)
    assert torch.equal(torch.cat(counted), mel[0])
