"""A U-Net with a class and noise as its condition: the generator of PSEGAN and both networks of PCMelGAN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psegan.models.unet import UNet
from psegan.speech.audio import N_MELS


class ConditionalUNet(nn.Module):
    """Maps a spectrogram, a class (unless there are none) and noise to a spectrogram.

    A 16-dim embedding of the class is projected to one map at the bottleneck, as in the public GenGAN and PCMelGAN code,
    and the noise to another. Both maps are constant over time, so that utterances may have any length.

    Args:
        n_labels: number of classes; 0 makes a network without a class.
        noise_dim: size of the noise vector; 0 is a network without noise.
        embedding_dim: size of the label embedding.
        bottleneck, residual, widths, smooth: see :class:`psegan.models.unet.UNet`.
    """

    def __init__(
        self,
        n_labels: int,
        noise_dim: int,
        bottleneck: nn.Module | None = None,
        residual: bool = True,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        embedding_dim: int = 16,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        rows = N_MELS // 2 ** (len(widths) - 1)
        self.noise_dim, self.residual = noise_dim, residual
        self.widths, self.embedding_dim, self.smooth = tuple(widths), embedding_dim, smooth
        self.embedding = nn.Embedding(n_labels, embedding_dim) if n_labels else None
        self.project_label = nn.Linear(embedding_dim, rows) if n_labels else None
        self.project_noise = nn.Linear(noise_dim, rows) if noise_dim else None
        self.unet = UNet(bool(n_labels) + bool(noise_dim), widths, bottleneck, smooth, residual)

    @property
    def least_frames(self) -> int:
        """See :attr:`psegan.models.unet.UNet.least_frames`."""
        return self.unet.least_frames

    def forward(self, mel: Tensor, lengths: Tensor, target: Tensor | None, noise: Tensor) -> Tensor:
        """Log-mel ``(B, 80, N)`` scaled to [0, 1], frames, classes ``(B,)`` and noise ``(B, noise_dim)`` → log-mel.

        The result has the same shape and scale, and is zero at and after ``lengths``. A network without a class takes None.
        """
        maps = []
        if self.embedding is not None and self.project_label is not None:
            maps.append(self.project_label(self.embedding(target)))
        if self.project_noise is not None:
            maps.append(self.project_noise(noise))
        return self.unet(mel, lengths, torch.stack(maps, 1) if maps else None)
