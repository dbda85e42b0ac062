"""Exact comparison of checkpoints."""

import torch


def same(a, b, where):
    """Fail unless two nests of dictionaries, sequences, tensors and plain values are equal, bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}.{index}")
    else:
        assert a == b, where
