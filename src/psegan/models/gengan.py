"""GenGAN's generator (Stoidis and Cavallaro, Interspeech 2022, and its public code)."""

import torch
from torch import Tensor, nn

from psegan.models.unet import UNet
from psegan.speech.audio import N_MELS
from psegan.speech.masking import strided_length


class GenGANGenerator(nn.Module):
    """Maps a spectrogram and noise to a spectrogram of ambiguous emotion, without a target emotion.

    The public network at 8 classes has 298 parameters more, in a label embedding and its projection that it never uses.

    Args:
        noise_dim: length of the noise in frames of the bottleneck, where each row has its own draws; 65 frames are 16.6 s,
            to which the public code pads. A shorter utterance takes the beginning of the noise, a longer one repeats it. Where
            no training utterance is that long, the places behind stay untrained: a training on crops of 3 s refuses more than
            12. The default is the public network's, and that of checkpoints that name none.
        residual, smooth: see :class:`psegan.models.unet.UNet`.
    """

    def __init__(self, noise_dim: int = 65, residual: bool = True, smooth: bool = False) -> None:
        super().__init__()
        self.unet = UNet(condition_maps=1, smooth=smooth, residual=residual)
        self.rows = N_MELS // self.unet.stride
        self.noise_dim, self.residual, self.smooth = noise_dim, residual, smooth
        self.project_noise = nn.Linear(noise_dim, noise_dim)

    @property
    def least_frames(self) -> int:
        """Frames that the longest training utterance must have, so that every place of the noise is trained."""
        return (self.noise_dim - 1) * self.unet.stride + 1

    def forward(self, mel: Tensor, lengths: Tensor, noise: Tensor) -> Tensor:
        """Log-mel ``(B, 80, N)`` scaled to [0, 1], frames ``(B,)`` and noise ``(B, rows, noise_dim)`` → log-mel.

        The result has the same shape and scale, and is zero at and after ``lengths``.
        """
        frames = int(strided_length(torch.tensor(mel.shape[-1]), self.unet.stride))
        place = torch.arange(frames, device=mel.device) % self.noise_dim
        return self.unet(mel, lengths, self.project_noise(noise)[..., place].unsqueeze(1))
