"""Anchored's networks: what the cut can carry, what reaches the output, and that padding reaches nothing."""

import pytest
import torch

from psegan.models.adversary import FrameReader, UtteranceReader, reverse_gradient
from psegan.models.analysis import Analysis
from psegan.models.anchored import PROSODY, CodeEncoder, Profile, ProfileDecoder
from psegan.models.convnext import TimeConv
from psegan.models.quantiser import ScalarQuantiser


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return CodeEncoder(dims=4, levels=3, width=16, hidden=32, depth=2, lookahead=1).eval()


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(1)
    return ProfileDecoder(dims=4, width=16, hidden=32, heads=2, depth=1).eval()


def enrolled(encoder, decoder, lengths=(20, 14)):
    random = torch.Generator().manual_seed(2)
    mel = torch.rand(len(lengths), 80, 2 * max(lengths), generator=random)
    curves = torch.randn(len(lengths), 80 + PROSODY, 2 * max(lengths), generator=random)
    frames = 2 * torch.tensor(lengths)
    inside = (torch.arange(mel.shape[2]) < frames.unsqueeze(1)).unsqueeze(1)
    codes, of_codes = encoder(mel * inside, frames)
    return decoder.enrol(codes, curves * inside, of_codes, torch.full((len(lengths),), 5.0))


def said(encoder, decoder, mel, frames, profile, group):
    codes, lengths = encoder(mel, frames)
    words = decoder.embed(codes, lengths)
    found = decoder.retrieve(words, profile, group)
    pitch = decoder.intone(words, found, lengths)[..., : mel.shape[2]]
    return codes, decoder(words, found, pitch, frames)


def test_codes_are_on_the_grid_and_gradients_pass():
    quantiser = ScalarQuantiser(5)
    x = torch.linspace(-9, 9, 101, requires_grad=True)
    rounded = quantiser(x)
    assert set(rounded.tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0} and quantiser.bits == pytest.approx(2.3219, abs=1e-4)
    rounded.sum().backward()
    assert torch.allclose(x.grad, 1 - x.detach().tanh().square(), atol=1e-6)


def test_what_a_code_carries(encoder):
    assert encoder.bits == pytest.approx(4 * 1.58496, abs=1e-4)
    codes, lengths = encoder(torch.rand(2, 80, 31), torch.tensor([31, 10]))
    assert codes.shape == (2, 4, 16) and lengths.tolist() == [16, 5]
    assert set(codes.unique().tolist()) <= {-1.0, 0.0, 1.0} and not codes[1, :, 5:].any()


def test_level_and_colour_of_the_recording_are_left_out(encoder):
    random = torch.Generator().manual_seed(3)
    mel = torch.rand(1, 80, 40, generator=random)
    other = mel + 0.1 + 0.05 * torch.randn(80, 1, generator=random)
    frames = torch.tensor([40])
    assert torch.allclose(encoder.bounded(mel, frames)[0], encoder.bounded(other, frames)[0], atol=1e-4)


@torch.no_grad()
def test_padding_reaches_nothing(encoder, decoder):
    mel, frames = torch.rand(3, 80, 41), torch.tensor([41, 24, 13])
    mel = mel * (torch.arange(41) < frames[:, None])[:, None]
    profile = enrolled(encoder, decoder)
    _, together = said(encoder, decoder, mel, frames, profile, torch.tensor([0, 1, 1]))
    assert together.shape == (3, 80, 41)
    for row, speaker in ((1, 1), (2, 1)):
        n = int(frames[row])
        own = Profile(
            *(part[speaker : speaker + 1, ..., :14] for part in profile[:-1]), profile.pitch[speaker : speaker + 1]
        )
        _, alone = said(encoder, decoder, mel[row : row + 1, :, :n], frames[row : row + 1], own, torch.tensor([0]))
        assert torch.allclose(together[row, :, :n], alone[0], atol=1e-5) and not together[row, :, n:].any()


@torch.no_grad()
def test_whose_profile_it_is_is_heard(encoder, decoder):
    mel, frames, profile = torch.rand(1, 80, 40), torch.tensor([40]), enrolled(encoder, decoder)
    made = [said(encoder, decoder, mel, frames, profile, torch.tensor([who]))[1] for who in (0, 1)]
    assert not torch.allclose(*made, atol=1e-2)


@torch.no_grad()
def test_half_precision_leaves_the_retrieved_spectrogram_alone(encoder, decoder):
    codes, lengths = encoder(torch.rand(1, 80, 40), torch.tensor([40]))
    with torch.autocast("cpu", torch.bfloat16):
        profile = enrolled(encoder, decoder)
        found = decoder.retrieve(decoder.embed(codes, lengths), profile, torch.tensor([0])).mel
    exact = decoder.retrieve(decoder.embed(codes, lengths), enrolled(encoder, decoder), torch.tensor([0])).mel
    assert found.dtype == torch.float32 and torch.allclose(found, exact, atol=0.05)


def test_a_code_that_the_profile_has_finds_its_frame():
    """With sharp attention and keys of single codes, what is retrieved are the frames with that code."""
    decoder = ProfileDecoder(dims=4, width=16, hidden=32, heads=2, depth=1)
    with torch.no_grad():
        decoder.sharpness.fill_(6.0)
        for linear in (decoder.query, decoder.key):
            linear.weight.copy_(torch.eye(16))
            linear.bias.zero_()
        keys = torch.randn(1, 16, 5)
        frames = torch.arange(5.0).expand(1, 160, 5)
        profile = Profile(keys, torch.zeros(1, 16, 5), frames, torch.ones(1, 1, 5), torch.full((1,), 5.0))
        found = decoder.retrieve(keys[..., [3, 0, 4]], profile, torch.tensor([0])).mel
    assert torch.allclose(found[0, 0], torch.tensor([3.0, 3, 0, 0, 4, 4]), atol=1e-3)


def test_a_lookahead_is_how_far_ahead_a_convolution_sees():
    for ahead, kernel in ((None, 5), (0, 5), (1, 7)):
        conv = TimeConv(1, 1, kernel, lookahead=ahead)
        x = torch.zeros(1, 1, 21, requires_grad=True)
        conv(x)[0, 0, 10].backward()
        seen = x.grad[0, 0].nonzero().squeeze(1)
        assert int(seen.max()) - 10 == (kernel // 2 if ahead is None else ahead) and len(seen) == kernel


def test_readers_mind_no_padding_and_their_gradient_can_be_turned_round():
    codes, lengths = torch.randn(2, 4, 12), torch.tensor([12, 7])
    codes[1, :, 7:] = 0
    for reader in (FrameReader(4, 3, 8, 1).eval(), UtteranceReader(4, 3, 8, 1).eval()):
        together, alone = reader(codes, lengths), reader(codes[1:, :, :7], lengths[1:])
        assert torch.allclose(together[1][: len(alone[0])], alone[0], atol=1e-5)
    x = torch.ones(3, requires_grad=True)
    (reverse_gradient(x, 0.5) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [-0.5, -1.0, -1.5]


def test_analysis_finds_level_and_pitch():
    t = torch.arange(16_000) / 16_000
    tone = sum(torch.sin(2 * torch.pi * 120 * k * t) / k for k in range(1, 20)) * 0.1
    waveform = torch.zeros(2, 24_000)
    waveform[0, 4000:20_000], waveform[1, :16_000] = tone, tone / 4
    found = Analysis()(waveform, torch.tensor([24_000, 16_000]))
    assert float(found.level[0] - found.level[1]) == pytest.approx(torch.tensor(4.0).log().item(), abs=0.02)
    assert found.median_pitch().exp().item() == pytest.approx(120, abs=1)
    assert not found.voiced[0, :10].any() and found.voiced[0, 25:60].all() and not found.voiced[1, 64:].any()
    difference = found.relative[0, :40, 40] - found.relative[1, :40, 24]
    assert difference.abs().median() < 0.02
    prosody = found.prosody(torch.full((2,), 120.0).log())
    assert prosody.shape == (2, PROSODY, found.mel.shape[2]) and prosody[0, 1, 25:60].abs().max() < 0.02
    intoned = found.intonation(torch.full((2,), 60.0).log())
    assert intoned.shape == (2, 1, found.mel.shape[2]) and intoned[1, 0, int(found.frames[1]) :].exp().allclose(
        torch.tensor(60.0)
    )
    # where nothing is voiced, too
    assert (intoned[0, 0, : int(found.frames[0])] - torch.tensor(120.0).log()).abs().max() < 0.05
    rows = found.take(torch.tensor([1]))
    assert rows.mel.shape[2] == int(rows.frames[0]) == int(found.frames[1])


def test_nobody_voiced_has_a_pitch_all_the_same():
    found = Analysis()(torch.zeros(1, 8000), torch.tensor([8000]))
    assert found.median_pitch().exp().item() == pytest.approx(150) and all(torch.isfinite(x).all() for x in found)
