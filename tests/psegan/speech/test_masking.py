"""Masks: what is padding, and that it has no part in anything."""

import pytest
import torch

from psegan.speech.masking import (
    MaskedBatchNorm2d,
    _MaskedNormalise,
    length_mask,
    mask_like,
    masked_mean,
    masked_statistics,
    pad_to_multiple,
    strided_length,
)


def test_length_mask():
    assert length_mask(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True, True, True]]


def test_masked_mean_ignores_padding():
    x = torch.randn(2, 4, 6)
    x[0, :, 2:] = 1e6
    expected = torch.cat([x[0, :, :2].flatten(), x[1].flatten()]).mean()
    torch.testing.assert_close(masked_mean(x, torch.tensor([2, 6])), expected)


def test_masked_statistics_ignore_padding():
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))  # the epsilon shows in a small deviation
    x[0, :, 2:] = 1e3
    mean, deviation = masked_statistics(x, torch.tensor([2, 6]))
    torch.testing.assert_close(mean[0], x[0, :, :2].mean(-1))
    torch.testing.assert_close(deviation[0], x[0, :, :2].std(-1, correction=0), atol=1e-3, rtol=1e-3)


def test_strided_length_is_that_of_a_same_padded_convolution():
    convolution = torch.nn.Conv1d(1, 1, 3, 2, 1)
    for length in range(1, 9):
        assert convolution(torch.zeros(1, 1, length)).shape[-1] == strided_length(torch.tensor(length), 2)


def test_pad_to_multiple():
    assert pad_to_multiple(torch.ones(2, 5), 4).shape == (2, 8)
    assert pad_to_multiple(torch.ones(2, 8), 4).shape == (2, 8)


def test_batch_norm_without_padding_is_torchs():
    ours, theirs = MaskedBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 7) * 2 + 1
        torch.testing.assert_close(ours(x, torch.full((4,), 7)), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x, torch.full((4,), 7)), theirs.eval()(x))


def test_batch_norm_learns_nothing_of_padding():
    x = torch.randn(2, 3, 5, 7)
    padded = torch.cat([x, torch.full((2, 3, 5, 9), 1e3)], -1)
    plain, with_padding = MaskedBatchNorm2d(3), MaskedBatchNorm2d(3)
    out = with_padding(padded, torch.tensor([7, 7]))
    torch.testing.assert_close(out[..., :7], plain(x, torch.tensor([7, 7])))
    assert (out[..., 7:] == 0).all()
    torch.testing.assert_close(with_padding.running_var, plain.running_var)


def test_the_gradient_of_masked_batch_norm_is_that_of_its_values():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    arguments = x, torch.tensor([5, 3, 1]), weight, bias, 1e-5
    assert torch.autograd.gradcheck(lambda *a: _MaskedNormalise.apply(*a)[0], arguments)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_batch_norm_is_as_exact_as_its_dtype_on_batches_of_real_size(order, dtype, tolerance):
    """Sums over hundreds of thousands of positions, of means beyond the deviation, next to much padding."""
    random = torch.Generator().manual_seed(0)
    lengths = torch.randint(60, 300, (10,), generator=random)
    x = (torch.randn(10, 4, 80, 600, generator=random) + 3).to(dtype).contiguous(memory_format=order).requires_grad_()
    gradient = torch.randn(x.shape, generator=random).to(dtype)
    norm = MaskedBatchNorm2d(4)
    found = norm(x, lengths)
    valid = mask_like(lengths, x).bool().expand_as(x)
    values = x.detach().double().requires_grad_()
    kept = values.transpose(0, 1)[valid.transpose(0, 1)].view(4, -1)
    expected = (kept - kept.mean(1, keepdim=True)) / (kept.var(1, correction=0, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(
        found.transpose(0, 1)[valid.transpose(0, 1)].view(4, -1).double(), expected, atol=tolerance, rtol=0
    )
    torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * kept.var(1), atol=1e-5, rtol=0)
    (found * gradient).sum().backward()
    (expected * gradient.double().transpose(0, 1)[valid.transpose(0, 1)].view(4, -1)).sum().backward()
    torch.testing.assert_close(x.grad.double(), values.grad, atol=2 * tolerance, rtol=0)


def test_frozen_batch_norm_clears_padding_and_its_gradient():
    norm, lengths = MaskedBatchNorm2d(2).eval(), torch.tensor([5, 3, 1])
    norm.running_mean += 1
    x = torch.randn(3, 2, 4, 5, requires_grad=True)
    out = norm(x, lengths)
    torch.testing.assert_close(out, torch.nn.BatchNorm2d.forward(norm, x) * mask_like(lengths, x))
    out.sum().backward()
    torch.testing.assert_close(x.grad, (mask_like(lengths, x) * (1 + norm.eps) ** -0.5).expand_as(x))
