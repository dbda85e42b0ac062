"""PSEGAN's generator: a conditional U-Net with gated residual layers in the bottleneck (article, section 4)."""

from collections.abc import Sequence

from psegan.common.errors import PseganError
from psegan.models.conditional import ConditionalUNet
from psegan.models.grn import DILATIONS, GatedResidualStack
from psegan.speech.audio import N_MELS


class PSEGANGenerator(ConditionalUNet):
    """Maps a spectrogram, a target emotion and noise to a spectrogram of another emotion.

    Args:
        n_emotions: number of emotion classes.
        noise_dim: size of the noise vector; 65 is the public GenGAN's, 0 the ablation without noise.
        grn_repeats: times the dilations are stacked; 0 is the ablation without GRN.
        grn_dilations: of the gated layers, in frames of the bottleneck (0.256 s). Those of the paper, the default, need
            training utterances of 24.6 s, so that a training on crops of 3 s refuses them; 1 2 3 are content with 2.4 s, 1 2
            with 1.6 s. The default cannot change, since released weights that name none have it.
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
        grn_dilations: Sequence[int] = DILATIONS,
    ) -> None:
        if not grn_dilations or min(grn_dilations) < 1:
            raise PseganError(f"grn_dilations is {list(grn_dilations)}, but must be one or more numbers from 1 up")
        rows = N_MELS // 2 ** (len(widths) - 1)
        grn = GatedResidualStack(widths[-1], rows, grn_repeats, grn_dilations) if grn_repeats else None
        super().__init__(n_emotions, noise_dim, grn, residual, widths, embedding_dim, smooth)
        self.n_emotions, self.grn_repeats, self.grn_dilations = n_emotions, grn_repeats, tuple(grn_dilations)
