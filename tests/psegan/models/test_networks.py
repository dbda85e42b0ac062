"""The networks: shapes, sizes that the sources state, and that padding changes nothing."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn
from torch.nn import functional as F

from psegan.models.classifier import SpeechEncoder
from psegan.models.discriminator import AlexNetDiscriminator, StridedDiscriminator
from psegan.models.gengan import GenGANGenerator
from psegan.models.grn import GatedResidualStack
from psegan.models.pcmelgan import PCMelGANFilter, PCMelGANGenerator
from psegan.models.psegan import PSEGANGenerator
from psegan.weights import build


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def moved(network: nn.Module) -> nn.Module:
    """The network after it has seen data and with no weight left at a special value."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def generator(**options) -> PSEGANGenerator:
    return moved(PSEGANGenerator(8, **options))


def inputs(n: int, frames: int):
    torch.manual_seed(1)
    return torch.rand(n, 80, frames), torch.full((n,), frames), torch.arange(n) % 8, torch.randn(n, 65)


def test_sizes_are_those_of_the_sources():
    # 298 of the public network are a label embedding and its projection, which it never uses
    assert size(GenGANGenerator()) + 298 == 498_365
    assert size(nn.Embedding(8, 16)) + size(nn.Linear(16, 10)) == 298
    assert size(AlexNetDiscriminator(9)) == 12_945_097


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 188])
@pytest.mark.parametrize("options", [{}, {"grn_repeats": 0}, {"residual": False}, {"noise_dim": 0}, {"smooth": True}])
def test_generator_takes_any_length(frames, options):
    mel, lengths, target, noise = inputs(2, frames)
    out = generator(**options)(mel, lengths, target, noise)
    assert out.shape == mel.shape
    assert torch.isfinite(out).all()


def test_a_residual_generator_begins_as_the_identity():
    mel, lengths, target, noise = inputs(2, 40)
    torch.testing.assert_close(PSEGANGenerator(8)(mel, lengths, target, noise), mel)


def test_target_and_noise_matter():
    network = generator()  # in training, where batch norm keeps small signals alive
    mel, lengths, target, noise = inputs(2, 40)
    out = network(mel, lengths, target, noise)
    assert (network(mel, lengths, (target + 1) % 8, noise) - out).abs().max() > 1e-4
    assert (network(mel, lengths, target, -noise) - out).abs().max() > 1e-4


@pytest.mark.parametrize("dilations", [(1, 2), (1, 2, 3), (4,)])
def test_every_tap_of_the_gated_layers_is_trained_by_an_utterance_of_the_least_length(dilations):
    """And by none that is a frame shorter: there the outermost taps see padding alone."""
    network = generator(grn_repeats=1, grn_dilations=dilations)
    for frames, trained in ((network.least_frames, True), (network.least_frames - 1, False)):
        mel, lengths, target, noise = inputs(1, frames)
        network.zero_grad()
        network(mel, lengths, target, noise).square().sum().backward()
        taps = [block.gated.weight.grad.abs().amax((0, 1)) for block in network.unet.bottleneck.blocks]
        assert all((tap > 0).all() for tap in taps) == trained


def test_gated_layers_look_as_far_as_they_say():
    """A change in one frame reaches the stack's receptive field, and nothing beyond it and the U-Net's own."""
    mel, lengths, target, noise = inputs(1, 640)
    changed = mel.clone()
    changed[..., 0] += 0.5
    furthest = {}
    for repeats in (0, 2):
        network = generator(grn_repeats=repeats, grn_dilations=(1, 2)).eval()
        difference = (network(changed, lengths, target, noise) - network(mel, lengths, target, noise)).abs()
        furthest[repeats] = int((difference.amax(1)[0] > 0).nonzero().max())
    receptive_field = 3 * 2 * (1 + 2) * 16
    assert furthest[0] < 160 and receptive_field <= furthest[2] <= receptive_field + furthest[0] + 1


def test_weights_that_name_no_dilations_keep_theirs():
    """As psegan-emodb's before the repairs; with others its tensors would have the same shapes, and nothing would say so."""
    spec = {"class_path": "psegan.models.psegan.PSEGANGenerator", "init_args": {"n_emotions": 7, "noise_dim": 65}}
    assert build(spec).grn_dilations == (1, 2, 4, 8, 16, 32)


def test_taps_of_zero_are_out_of_reach():
    grn = GatedResidualStack(2, 5, 1, (1, 8))
    assert grn.reach == 24
    with torch.no_grad():
        grn.blocks[1].gated.weight[..., [0, 6]] = 0
    assert grn.reach == 16
    with torch.no_grad():
        for block in grn.blocks:
            block.gated.weight.zero_()
    assert grn.reach == 0


def test_every_place_of_gengans_noise_is_trained_by_an_utterance_of_the_least_length():
    network = moved(GenGANGenerator(noise_dim=4))
    for frames, trained in ((network.least_frames, True), (network.least_frames - 1, False)):
        mel, lengths, _, _ = inputs(1, frames)
        network.zero_grad()
        network(mel, lengths, torch.randn(1, 5, 4)).square().sum().backward()
        assert bool((network.project_noise.bias.grad != 0).all()) == trained


def test_a_smooth_generator_changes_what_a_signal_can_follow():
    mel, lengths, target, noise = inputs(1, 64)
    rough, smooth = (generator(smooth=one).eval() for one in (False, True))
    smooth.load_state_dict(rough.state_dict())
    change, smoothed = ((network(mel, lengths, target, noise) - mel)[0].detach() for network in (rough, smooth))
    kernel = np.outer([1, 2, 1], [1, 2, 3, 2, 1]) / 36
    expected = convolve2d(change.numpy(), kernel, mode="same")
    torch.testing.assert_close(smoothed, torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda: generator(), lambda: generator(smooth=True), lambda: generator(residual=False, grn_repeats=1)]
)
def test_generator_ignores_padding(make):
    network = make()
    mel, lengths, target, noise = inputs(2, 90)
    network(mel, lengths, target, noise)  # batch statistics
    network.eval()
    short = 41
    batch = mel.clone()
    batch[0, :, short:] = 0
    together = network(batch, torch.tensor([short, 90]), target, noise)
    alone = network(mel[:1, :, :short], torch.tensor([short]), target[:1], noise[:1])
    torch.testing.assert_close(together[:1, :, :short], alone, atol=1e-5, rtol=1e-5)
    assert (together[0, :, short:] == 0).all()


@pytest.mark.parametrize("frames", [1, 17, 1100])
@pytest.mark.parametrize("options", [{}, {"residual": False}, {"smooth": True}])
def test_the_baselines_take_any_length_and_ignore_padding(frames, options):
    torch.manual_seed(1)
    mel, lengths, target = torch.rand(2, 80, frames), torch.tensor([frames, max(1, frames - 9)]), torch.tensor([3, 4])
    mel[1, :, int(lengths[1]) :] = 0
    gengan, pc_filter, pc_generator = (
        moved(make(**options)).eval() for make in (GenGANGenerator, PCMelGANFilter, partial(PCMelGANGenerator, 8))
    )
    noise, rows = torch.randn(2, 10), torch.randn(2, 5, 65)
    for run in (
        lambda mel, lengths, i: gengan(mel, lengths, rows[i]),
        lambda mel, lengths, i: pc_filter(mel, lengths, None, noise[i]),
        lambda mel, lengths, i: pc_generator(mel, lengths, target[i], noise[i]),
    ):
        together = run(mel, lengths, slice(0, 2))
        assert together.shape == mel.shape
        n = int(lengths[1])
        alone = run(mel[1:, :, :n], lengths[1:], slice(1, 2))
        torch.testing.assert_close(together[1:, :, :n], alone, atol=1e-4, rtol=1e-4)
        assert (together[1, :, n:] == 0).all()


@pytest.mark.parametrize("make", [SpeechEncoder, lambda: StridedDiscriminator(9)])
def test_encoders_ignore_padding(make):
    network = moved(make())
    mel, lengths, *_ = inputs(2, 90)
    network(mel, lengths)
    network.eval()
    for short in (1, 41):
        batch = torch.stack([F.pad(mel[0, :, :short], (0, 90 - short)), mel[1]])
        together = network(batch, torch.tensor([short, 90]))
        alone = network(mel[:1, :, :short], torch.tensor([short]))
        torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_outputs():
    mel, lengths, *_ = inputs(3, 50)
    assert SpeechEncoder(embedding_dim=96)(mel, lengths).shape == (3, 96)
    assert SpeechEncoder(n_bands=32)(mel[:, :32], lengths).shape == (3, 128)
    assert StridedDiscriminator(9)(mel, lengths).shape == (3, 9)
    assert AlexNetDiscriminator(9)(mel, lengths).shape == (3, 9)
    assert AlexNetDiscriminator(9)(mel[..., :1], lengths).shape == (3, 9)
