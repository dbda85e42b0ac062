"""PSEGAN's generator: a conditional U-Net with gated residual layers in the bottleneck (article, section 4)."""

from collections.abc import Sequence

from psegan.models.conditional import ConditionalUNet
from psegan.models.grn import GatedResidualStack
from psegan.speech.audio import N_MELS


class PSEGANGenerator(ConditionalUNet):
    """Maps a spectrogram, a target emotion and noise to a spectrogram of another emotion.

    Args:
        n_emotions: number of emotion classes.
        noise_dim: size of the noise vector; 65 is the public GenGAN's, 0 the ablation without noise.
        grn_repeats: times the dilations 1 2 4 8 16 32 are stacked; 0 is the ablation without GRN.
        residual, widths, embedding_dim, smooth: see :class:`psegan.models.conditional.ConditionalUNet`.
    """

    def __init__(
        self,
        n_emotions: int,
        noise_dim: int = 65,
        grn_repeats: int = 2,
        residual: bool = True,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        embedding_dim: int = 16,
        smooth: bool = False,
    ) -> None:
        rows = N_MELS // 2 ** (len(widths) - 1)
        grn = GatedResidualStack(widths[-1], rows, repeats=grn_repeats) if grn_repeats else None
        super().__init__(n_emotions, noise_dim, grn, residual, widths, embedding_dim, smooth)
        self.n_emotions, self.grn_repeats = n_emotions, grn_repeats
