"""The public 16 kHz HiFi-GAN (Kong, Kim and Bae, NeurIPS 2020), whose mel convention is this project's."""

import torch
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.models.vocoder import Vocoder
from psegan.speech.audio import HOP, N_MELS


class HiFiGAN(Vocoder):
    """SpeechBrain's generator, configuration V1, as ``speechbrain/tts-hifigan-libritts-16kHz`` has it.

    It pads its input by reflection, so that every utterance is vocoded alone, at its true length.

    Raises:
        PseganError: SpeechBrain is not installed.
    """

    context = 16

    def __init__(self) -> None:
        super().__init__()
        try:
            from speechbrain.lobes.models.HifiGAN import HifiganGenerator
        except ImportError as error:
            raise PseganError(
                f"the public HiFi-GAN needs SpeechBrain ({error}): pip install speechbrain, or use another vocoder"
            ) from None
        self.generator = HifiganGenerator(
            in_channels=N_MELS,
            out_channels=1,
            resblock_type="1",
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5], [1, 3, 5]],
            resblock_kernel_sizes=[3, 7, 11],
            upsample_kernel_sizes=[16, 16, 4, 4],
            upsample_initial_channel=512,
            upsample_factors=[8, 8, 2, 2],
            inference_padding=5,
            cond_channels=0,
            conv_post_bias=True,
        )

    @torch.no_grad()
    def forward(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        waveform = log_mel.new_zeros(len(log_mel), log_mel.shape[-1] * HOP, dtype=torch.float32)
        for row, utterance, frames in zip(waveform, log_mel.float(), lengths.tolist(), strict=True):
            margin = self.generator.inference_padding * HOP
            spoken = self.generator.inference(utterance[None, :, :frames])[0, 0]
            row[: frames * HOP] = spoken[margin : margin + frames * HOP]
        return waveform
