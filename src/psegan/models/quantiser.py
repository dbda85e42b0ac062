"""Quantisation of features: the narrow place that bounds what a representation can carry."""

import math

from torch import Tensor, nn


class ScalarQuantiser(nn.Module):
    """Finite scalar quantisation (Mentzer et al., ICLR 2024): every feature is rounded to one of a few values.

    There is no codebook that could collapse. A feature is bounded by tanh and rounded; the gradient passes the rounding
    as if it were not there.

    Args:
        levels: values of a feature, odd, so that zero is one of them.
    """

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        assert levels > 1 and levels % 2 == 1, "an odd number of levels"
        self.levels = levels

    @property
    def bits(self) -> float:
        """That a feature carries at most."""
        return math.log2(self.levels)

    def bound(self, x: Tensor) -> Tensor:
        """Features of any shape → the same within -1 and 1, in float32, not rounded yet."""
        return x.float().tanh()

    def round(self, bounded: Tensor) -> Tensor:
        """Bounded features → the same on the grid of :attr:`levels` values from -1 to 1."""
        steps = bounded * (self.levels - 1) / 2
        return (steps + (steps.round() - steps).detach()) * 2 / (self.levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of any shape → the same on the grid, in float32."""
        return self.round(self.bound(x))
