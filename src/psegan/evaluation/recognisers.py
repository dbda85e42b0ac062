"""Recognisers of speech, who judge whether words survive: public models, each behind one method."""

import warnings
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.common.packages import require
from psegan.evaluation.judges import Judge
from psegan.speech.audio import SAMPLE_RATE


class Recogniser(Judge):
    """Writes down what it hears."""

    @abstractmethod
    def transcribe(self, waveform: NDArray[np.float32], language: str | None) -> str:
        """The words of a recording, samples ``(T,)`` at 16 kHz, or an empty text; ``language`` as for :meth:`judge`."""

    def judge(self, waveform: Tensor, language: str | None = None) -> str:
        samples = waveform.numpy()
        # recognisers differ in what they make of digital silence, up to words that nobody said
        return self.transcribe(samples, language).strip() if samples.any() else ""


class Moonshine(Recogniser):
    """Moonshine tiny (Jeffries et al., 2024), a transformer for English by Useful Sensors; MIT.

    The weights (27 M parameters, 44 MB) are inside the package moonshine-voice, version 0.0.73. It hears a recording whole, or
    a long one in parts: the package's own search for speech would let a recording depend on those before.

    Raises:
        NotInstalledError: the package is missing.
    """

    LONGEST = 20 * SAMPLE_RATE
    """Samples of a part; the network was trained on half a minute at most."""

    def __init__(self) -> None:
        self.version = require("moonshine-voice", "moonshine_voice", exactly="0.0.73")

    def knows(self, language: str | None) -> bool:
        return language == "en"

    @cached_property
    def network(self) -> Any:
        import moonshine_voice as package

        folder = str(package.get_model_path("tiny-en"))
        return package.Transcriber(folder, package.ModelArch.TINY, options={"vad_threshold": 0})

    def transcribe(self, waveform: NDArray[np.float32], language: str | None) -> str:
        parts = np.split(waveform, range(self.LONGEST, len(waveform), self.LONGEST))
        found = [self.network.transcribe_without_streaming(part.tolist(), SAMPLE_RATE) for part in parts]
        return " ".join(line.text for one in found for line in one.lines)

    def describe(self) -> dict[str, str]:
        return {"kind": "recogniser", "network": "Moonshine tiny", "source": f"moonshine-voice {self.version}"}


class PocketSphinx(Recogniser):
    """PocketSphinx (Huggins-Daines et al., ICASSP 2006) with its model of US English: hidden Markov models; BSD.

    A recogniser of another kind and another time than the others, and much weaker: compare its rows with each other.

    Raises:
        NotInstalledError: the package is missing.
    """

    def __init__(self) -> None:
        self.version = require("pocketsphinx", "pocketsphinx")

    def knows(self, language: str | None) -> bool:
        return language == "en"

    @cached_property
    def network(self) -> Any:
        from pocketsphinx import Config, Decoder

        # with fewer hypotheses than by default, for speed
        return Decoder(Config(samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL", maxhmmpf=3000, maxwpf=10))

    def transcribe(self, waveform: NDArray[np.float32], language: str | None) -> str:
        decoder = self.network
        decoder.reinit_feat()  # it adapts to what it hears, but no recording may depend on those before
        decoder.start_utt()
        decoder.process_raw((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else str(found.hypstr)

    def describe(self) -> dict[str, str]:
        return {
            "kind": "recogniser",
            "network": "PocketSphinx en-us, 3000 HMMs",
            "source": f"pocketsphinx {self.version}",
        }


class Whisper(Recogniser):
    """Whisper (Radford et al., ICML 2023) by OpenAI, through faster-whisper (``pip install faster-whisper``); MIT.

    Args:
        model: folder of a model that CTranslate2 reads, or a name on the Hugging Face Hub that faster-whisper knows, such as
            ``base``, which is downloaded once.
        compute_type: of CTranslate2, as ``float32`` or ``int8``.
        device: ``cpu`` or ``cuda``.

    Raises:
        NotInstalledError: faster-whisper is missing.
        PseganError: no such model, or it cannot be loaded or downloaded.
    """

    def __init__(self, model: str = "base", compute_type: str = "float32", device: str = "cpu") -> None:
        self.version = require("faster-whisper", "faster_whisper", "faster-whisper")
        self.model, self.compute_type, self.device = model, compute_type, device

    def knows(self, language: str | None) -> bool:
        """Whether the network was trained for a language; one of many languages finds out an unknown one by itself."""
        if not self.network.model.is_multilingual:
            return language == "en"
        return language is None or language in self.network.supported_languages

    @cached_property
    def network(self) -> Any:
        from faster_whisper import WhisperModel

        local = Path(self.model).is_dir()
        try:
            network = WhisperModel(
                self.model, device=self.device, compute_type=self.compute_type, cpu_threads=1, local_files_only=local
            )
        except Exception as error:  # of the hub's client, or of CTranslate2
            remedy = "give a folder with all its files" if local else "give a local folder, or run once with a network"
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PseganError(f"{self.model}: cannot be loaded as a Whisper model ({reason}); {remedy}") from None
        return network

    def transcribe(self, waveform: NDArray[np.float32], language: str | None) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of silent parts
            segments, _ = self.network.transcribe(
                waveform,
                language=language,
                temperature=0.0,  # it would draw otherwise, where it is unsure
                condition_on_previous_text=False,
            )
            return " ".join(segment.text.strip() for segment in segments)

    @cached_property
    def _weights(self) -> str:
        """Hash of a local model's weights, which are gigabytes."""
        weights = Path(self.model) / "model.bin"
        return file_hash(weights) if weights.is_file() else f"faster-whisper {self.version}"

    def describe(self) -> dict[str, str]:
        found = {"kind": "recogniser", "network": f"Whisper ({self.compute_type})", "source": self.model}
        return {**found, "weights": self._weights}
