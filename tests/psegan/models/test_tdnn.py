"""The x-vector network: its size and context, and that padding and the channel's colour change nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.models.tdnn import TDNNEncoder, TDNNLayer


def seasoned(**options) -> TDNNEncoder:
    """An encoder in evaluation mode whose batch norms have seen a batch and hold no special values."""
    torch.manual_seed(0)
    network = TDNNEncoder(**options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for _ in range(3):
        network(torch.rand(4, network.layers[0].convolution.in_channels, 60), torch.tensor([60, 40, 60, 20]))
    return network.eval()


@pytest.mark.parametrize("attentive", [True, False])
@pytest.mark.parametrize("short", [1, 4, 41])
def test_padding_changes_nothing(attentive, short):
    network = seasoned(attentive=attentive)
    mel = torch.rand(2, 80, 90, generator=torch.Generator().manual_seed(1))
    batch = torch.stack([F.pad(mel[0, :, :short], (0, 90 - short)), mel[1]])
    together = network(batch, torch.tensor([short, 90]))
    torch.testing.assert_close(together[:1], network(mel[:1, :, :short], torch.tensor([short])), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], network(mel[1:], torch.tensor([90])), atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_padding_changes_nothing_in_training():
    """Batch statistics, the gradient and the running averages are those of the frames alone."""
    mel, lengths = torch.rand(3, 80, 30), torch.full((3,), 30)
    results = []
    for padded in (mel, F.pad(mel, (0, 25))):
        torch.manual_seed(0)
        network = TDNNEncoder()
        embedding = network(padded, lengths)
        embedding.square().sum().backward()
        results.append((embedding, network.layers[0].convolution.weight.grad, network.layers[4].norm.running_var))
    for alone, with_padding in zip(*results, strict=True):
        torch.testing.assert_close(with_padding, alone, atol=1e-4, rtol=1e-4)


def test_one_frame_sees_the_context_of_the_paper():
    """Frames t - 7 to t + 7, Table 1 of Snyder et al. (2018)."""
    network, lengths = seasoned(), torch.tensor([41])
    x = torch.randn(1, 80, 41, requires_grad=True)
    h = x
    for layer in network.layers:
        h = layer(h, lengths)
    h[0, :, 20].sum().backward()
    reached = x.grad.abs().amax(1)[0].nonzero().flatten()
    assert (int(reached.min()), int(reached.max())) == (13, 27)


def test_a_constant_colour_of_the_channel_changes_nothing():
    network, lengths = seasoned(), torch.tensor([50])
    mel, colour = torch.rand(1, 80, 50), torch.rand(1, 80, 1)
    torch.testing.assert_close(network(mel + colour, lengths), network(mel, lengths), atol=1e-4, rtol=1e-4)


def test_size_and_shapes():
    network = TDNNEncoder()
    assert 450_000 < sum(p.numel() for p in network.parameters()) < 550_000
    assert network.embedding_dim == 128
    assert network(torch.rand(3, 80, 50), torch.tensor([50, 30, 9])).shape == (3, 128)
    assert seasoned(embedding_dim=24, n_bands=32)(torch.rand(1, 32, 5), torch.tensor([5])).shape == (1, 24)


def test_layers_and_widths_must_match():
    with pytest.raises(PseganError, match="layer_widths has 2 numbers, but must have 5"):
        TDNNEncoder(layer_widths=(64, 64))


def test_it_learns_to_tell_two_patterns_apart():
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(2, 80, 1, generator=generator)
    rhythm = torch.sin(torch.arange(40) * torch.tensor([[0.3], [0.9]]))
    label = torch.arange(16) % 2
    mel = pattern[label] * rhythm[label].unsqueeze(1) + 0.5 * torch.randn(16, 80, 40, generator=generator)
    torch.manual_seed(0)
    network = nn.ModuleList([TDNNEncoder(embedding_dim=16, layer_widths=(24, 24, 24, 24, 48)), nn.Linear(16, 2)])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    lengths = torch.full((16,), 40)
    for _ in range(25):
        loss = F.cross_entropy(network[1](network[0](mel, lengths)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    assert (network[1](network[0](mel, lengths)).argmax(1) == label).all()


def test_a_layers_output_is_zero_in_the_padding():
    layer = TDNNLayer(4, 6, 3, 1)
    out = layer(torch.randn(2, 4, 10), torch.tensor([3, 10]))
    assert (out[0, :, 3:] == 0).all() and out[0, :, :3].abs().sum() > 0
