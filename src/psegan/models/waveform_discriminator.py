"""What all discriminators of waveforms share: their output, and a row of convolutions."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class DiscriminatorOutput(NamedTuple):
    """Scores of any shape, high for real speech, and the activations of a discriminator's layers, for feature matching."""

    score: Tensor
    features: list[Tensor]


class ConvolutionalDiscriminator(nn.Module):
    """Convolutions with weight norm, each followed by a leaky ReLU, and a last one, to one channel, that gives the score."""

    def __init__(self, layers: Iterable[nn.Module], score: nn.Module, slope: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.score = weight_norm(score)
        self.slope = slope

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        """The input of the first layer → score and features."""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), self.slope)
            features.append(x)
        return DiscriminatorOutput(self.score(x), features)
