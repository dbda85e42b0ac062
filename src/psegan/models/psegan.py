"""PSEGAN's generator: a conditional U-Net with gated residual layers in the bottleneck (article, section 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psegan.audio import N_MELS
from psegan.models.grn import GatedResidualStack
from psegan.models.unet import UNet


class PSEGANGenerator(nn.Module):
    """Maps a spectrogram, a target emotion and noise to a spectrogram of another emotion.

    The target is a 16-dim label embedding projected to one bottleneck map (public GenGAN and PCMelGAN code), the noise
    is projected to another; both are constant over time, so that any length is possible.

    Args:
        n_emotions: number of emotion classes.
        noise_dim: size of the noise vector; 65 is the public GenGAN's.
        grn_repeats: times the dilations 1 2 4 8 16 32 are stacked; 0 is the ablation without GRN.
        residual: predict what to add to the input rather than the output itself. The last convolution then starts at
            zero, so that training begins from the identity and spends its steps on what has to change.
        widths: channels of the U-Net's levels.
        embedding_dim: size of the label embedding.
    """

    def __init__(
        self,
        n_emotions: int,
        noise_dim: int = 65,
        grn_repeats: int = 2,
        residual: bool = True,
        widths: Sequence[int] = (8, 16, 32, 64, 128),
        embedding_dim: int = 16,
    ) -> None:
        super().__init__()
        rows = N_MELS // 2 ** (len(widths) - 1)
        self.noise_dim = noise_dim
        self.residual = residual
        self.embedding = nn.Embedding(n_emotions, embedding_dim)
        self.project_label = nn.Linear(embedding_dim, rows)
        self.project_noise = nn.Linear(noise_dim, rows) if noise_dim else None
        grn = GatedResidualStack(widths[-1], rows, repeats=grn_repeats) if grn_repeats else None
        self.unet = UNet(condition_maps=1 + bool(noise_dim), widths=widths, bottleneck=grn)
        if residual:
            nn.init.zeros_(self.unet.output.weight)
            nn.init.zeros_(self.unet.output.bias)  # type: ignore[arg-type]

    def forward(self, mel: Tensor, lengths: Tensor, target: Tensor, noise: Tensor) -> Tensor:
        """Transform a batch.

        Args:
            mel: ``(B, 80, N)`` log-mel scaled to [0, 1].
            lengths: ``(B,)`` frames.
            target: ``(B,)`` emotion indices to move to.
            noise: ``(B, noise_dim)``.

        Returns:
            ``(B, 80, N)`` on the same scale, zero at and after ``lengths``.
        """
        maps = [self.project_label(self.embedding(target))]
        if self.project_noise is not None:
            maps.append(self.project_noise(noise))
        out = self.unet(mel, lengths, torch.stack(maps, 1))
        return mel + out if self.residual else out
