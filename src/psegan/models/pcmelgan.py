"""PCMelGAN's two networks (Ericsson, Östberg, Zec, Martinsson and Mogren, ICML workshop 2020, and its public code)."""

from psegan.models.conditional import ConditionalUNet


class PCMelGANFilter(ConditionalUNet):
    """Removes the emotion. It takes no class, because the true emotion is not known when speech is protected.

    Args:
        noise_dim, residual, smooth: see :class:`psegan.models.conditional.ConditionalUNet`.
    """

    def __init__(self, noise_dim: int = 10, residual: bool = True, smooth: bool = False) -> None:
        super().__init__(0, noise_dim, residual=residual, smooth=smooth)


class PCMelGANGenerator(ConditionalUNet):
    """Adds a target emotion.

    Args:
        n_emotions: number of emotion classes.
        noise_dim, residual, smooth: see :class:`psegan.models.conditional.ConditionalUNet`.
    """

    def __init__(self, n_emotions: int, noise_dim: int = 10, residual: bool = True, smooth: bool = False) -> None:
        super().__init__(n_emotions, noise_dim, residual=residual, smooth=smooth)
        self.n_emotions = n_emotions
