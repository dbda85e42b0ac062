"""What a public recogniser makes of speech before it writes anything down: the teacher of content encoders."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.common.packages import require
from psegan.models.content import STRIDE
from psegan.speech.audio import HOP

FEATURES = 288
"""Values of a frame."""
FRAME, CENTRE = 384, 447
"""Samples from a frame to the next, and to the middle of what the first one hears: convolutions of 127, 7 and 3 taps, with
strides of 64, 3 and 2."""
AROUND = CENTRE - FRAME // 2
"""Samples of silence before, so that the first frame's middle is inside, and as many after the last."""


class MoonshineEncoder:
    """The encoder of Moonshine tiny (Jeffries et al., 2024; MIT), by onnxruntime, from the wheel of moonshine-voice 0.0.73.

    A transformer of 8 million parameters that was trained on 200,000 hours of transcribed speech. Whoever learns from it
    cannot be judged by :class:`psegan.evaluation.recognisers.Moonshine`.

    Raises:
        NotInstalledError: a package is missing.
    """

    JUDGE = "psegan.evaluation.recognisers.Moonshine"
    """Who cannot judge what was taught by it."""

    def __init__(self) -> None:
        require("onnxruntime", "onnxruntime")
        require("moonshine-voice", "moonshine_voice", exactly="0.0.73")
        import onnxruntime
        from moonshine_voice import get_model_path

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        file = Path(get_model_path("tiny-en")) / "encoder_model.ort"
        self.network: Any = onnxruntime.InferenceSession(str(file), options)

    def __call__(self, waveform: Tensor) -> Tensor:
        """Samples ``(T,)`` at 16 kHz → what is heard at each frame of a :class:`~psegan.models.content.FrameEncoder`.

        Returns:
            ``(FEATURES, N')`` in float32 on the CPU; N' is that of the log-mel's frames.
        """
        samples = F.pad(waveform.cpu().float(), (AROUND, AROUND + FRAME)).numpy()[None]
        (heard,) = self.network.run(
            ["last_hidden_state"], {"input_values": samples, "attention_mask": np.ones(samples.shape, np.int64)}
        )
        frames = torch.from_numpy(heard[0])
        step = HOP * STRIDE
        size = len(waveform) // step + 1
        at = ((torch.arange(size) * step - FRAME / 2) / FRAME).clamp(0, len(frames) - 1)
        low = at.long()
        share = (at - low).unsqueeze(1)
        return torch.lerp(frames[low], frames[(low + 1).clamp(max=len(frames) - 1)], share).T
