"""Judges of quality: public models that guess how listeners would rate a recording."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from psegan.common.packages import require
from psegan.evaluation.judges import Judge
from psegan.speech.audio import SAMPLE_RATE


class QualityJudge(Judge):
    """Rates a recording without a reference."""

    @abstractmethod
    def rate(self, waveform: NDArray[np.float32]) -> dict[str, float]:
        """Name of a rating → value, of samples ``(T,)`` at 16 kHz."""

    def judge(self, waveform: Tensor, language: str | None = None) -> dict[str, float]:
        return self.rate(waveform.numpy())


class DNSMOS(QualityJudge):
    """DNSMOS P.835 and P.808 (Reddy, Gopal and Cutler, ICASSP 2022) by Microsoft, through the package speechmos; MIT.

    Trained on listeners' ratings of noise suppression. ``overall``, ``signal`` and ``background`` are those of ITU-T P.835,
    ``p808`` is the rating of ITU-T P.808; from 1 to 5. The networks hear nine seconds. A shorter recording is repeated to that
    length and rated once: the package repeats it up to twice as long and averages over up to ten ratings, which takes several
    times as long.

    Raises:
        NotInstalledError: a package is missing.
    """

    NAMES: ClassVar[dict[str, str]] = {
        "overall": "ovrl_mos",
        "signal": "sig_mos",
        "background": "bak_mos",
        "p808": "p808_mos",
    }
    """Rating → what speechmos calls it."""
    HEARD = int(9.01 * SAMPLE_RATE)
    """Samples that the networks hear at a time."""

    def __init__(self) -> None:
        for package, module in (("librosa", "librosa"), ("onnxruntime", "onnxruntime")):  # speechmos imports both
            require(package, module)
        self.version = require("speechmos", "speechmos")

    @cached_property
    def network(self) -> Any:
        import onnxruntime
        from speechmos import dnsmos

        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
        network = dnsmos.DNSMOS(*paths)
        # one thread: a worker has one core, and waiting threads would take it from others
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        network.onnx_sess, network.p808_onnx_sess = (onnxruntime.InferenceSession(path, options) for path in paths)
        return network

    def rate(self, waveform: NDArray[np.float32]) -> dict[str, float]:
        if len(waveform) < self.HEARD:
            waveform = np.tile(waveform, -(-self.HEARD // len(waveform)))[: self.HEARD]
        found = self.network(waveform.clip(-1, 1), SAMPLE_RATE, False)
        return {name: round(float(found[key]), 6) for name, key in self.NAMES.items()}

    def describe(self) -> dict[str, str]:
        return {
            "kind": "quality",
            "network": "DNSMOS P.835 and P.808",
            "source": f"speechmos {self.version}, short ones once",
        }
