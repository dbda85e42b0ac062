"""Speaker verifiers: networks whose embeddings :func:`psegan.metrics.scores.verification_trials` compares by their cosine."""

import sys
import warnings
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.common.packages import require
from psegan.evaluation.judges import Judge
from psegan.models.state import damage, weights_hash
from psegan.speech.masking import embed_by_length
from psegan.systems.classifier import load_classifier


class Verifier(Judge):
    """A network that gives embeddings of voices."""

    @abstractmethod
    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Samples ``(B, T)`` at 16 kHz and lengths ``(B,)`` → embeddings ``(B, E)``, float32 on the CPU.

        The embedding of an utterance does not depend on the other utterances of the batch.
        """

    def judge(self, waveform: Tensor, language: str | None = None) -> list[float]:
        (embedding,) = self.embed(waveform.unsqueeze(0), torch.tensor([len(waveform)])).tolist()
        return [float(f"{number:.7g}") for number in embedding]


class ClassifierVerifier(Verifier):
    """The encoder of a speaker classifier.

    Args:
        checkpoint: checkpoint of a :class:`psegan.systems.classifier.Classifier` of the attribute speaker.

    Raises:
        PseganError: the file is missing, is no checkpoint, or holds something else.
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.checkpoint = Path(checkpoint)
        self.classifier = load_classifier(self.checkpoint, "speaker")

    @torch.no_grad()
    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        device = self.classifier.device
        with torch.autocast(device.type, enabled=False):  # scores must not depend on training's precision
            features, frames = self.classifier.front_end(waveform.to(device), lengths.to(device))
            return self.classifier.embed(features, frames).float().cpu()

    def describe(self) -> dict[str, str]:
        return {
            "kind": "classifier",
            "network": type(self.classifier.encoder).__name__,
            "source": str(self.checkpoint),
            "weights": file_hash(self.checkpoint),
        }


class Resemblyzer(Verifier):
    """The encoder of generalised end-to-end loss (Wan et al., ICASSP 2018) as Resemble AI published it; Apache 2.0.

    An LSTM of 1.4 M parameters, trained on LibriSpeech (the parts "other"), VoxCeleb 1 and 2. The weights are inside the
    package resemblyzer, whose preprocessing (level, silences cut) is used as well.

    Raises:
        NotInstalledError: the package is missing.
    """

    SIZE = 256

    def __init__(self) -> None:
        self.version = require("resemblyzer", "resemblyzer")

    @cached_property
    def _package(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names in SciPy and setuptools that have moved
            import resemblyzer
        return resemblyzer

    @cached_property
    def network(self) -> Any:
        return self._package.VoiceEncoder("cpu", verbose=False)

    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack([self._embed(one[:n]) for one, n in zip(waveform, lengths.tolist(), strict=True)])

    def _embed(self, waveform: Tensor) -> Tensor:
        if not waveform.any():  # whose level cannot be set; zeros are as far from one voice as from all others
            return torch.zeros(self.SIZE)
        speech = self._package.preprocess_wav(waveform.numpy())
        return torch.from_numpy(self.network.embed_utterance(speech)).nan_to_num()

    def describe(self) -> dict[str, str]:
        source = f"resemblyzer {self.version}"
        return {"kind": "verifier", "network": "generalised end-to-end LSTM", "source": source}


class ECAPA(Verifier):
    """ECAPA-TDNN (Desplanques, Thienpondt and Demuynck, Interspeech 2020) as SpeechBrain publishes it.

    The published model was trained on VoxCeleb 1 and 2, so its training speech differs from the corpora here. SpeechBrain is
    optional: ``pip install speechbrain``. The model (90 MB) is downloaded once, to the cache of huggingface_hub (HF_HOME).

    Only use sources that you trust: ``hyperparams.yaml`` can construct any Python object, and the weights are unpickled.

    Args:
        source: a repository on the Hugging Face Hub, or a folder with the files of one: ``hyperparams.yaml`` and the
            ``.ckpt`` and ``.txt`` files that it names.
        revision: commit of the repository; None takes the newest.
        device: device of the network.

    Raises:
        NotInstalledError: SpeechBrain is missing.
        PseganError: when it is loaded: the model cannot be.
    """

    def __init__(
        self, source: str = "speechbrain/spkrec-ecapa-voxceleb", revision: str | None = None, device: str = "cpu"
    ) -> None:
        require("speechbrain", "speechbrain", "speechbrain")
        self.source, self.revision, self.device = source, revision, device

    def load(self) -> None:
        _ = self.model

    @cached_property
    def model(self) -> Any:
        """SpeechBrain's own object."""
        return load_speechbrain(self.source, self.revision, self.device)

    @torch.no_grad()
    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        # SpeechBrain takes lengths, but its convolutions read the padding; so utterances of one length are embedded at a time
        return embed_by_length(self._embed, waveform.to(self.device), lengths.to(self.device)).float().cpu()

    def _embed(self, waveform: Tensor) -> Tensor:
        # the convolutions' reflective padding needs as many frames as 1600 samples have
        return self.model.encode_batch(F.pad(waveform, (0, max(0, 1600 - waveform.shape[1])))).squeeze(1)

    def describe(self) -> dict[str, str]:
        network = self.model.mods.embedding_model
        return {
            "kind": "ecapa",
            "network": type(network).__name__,
            "source": self.source,
            "weights": weights_hash(network) or "none",
        }


def load_speechbrain(source: str, revision: str | None, device: str) -> Any:
    """A ``speechbrain.inference.EncoderClassifier`` from the hub, its cache or a local folder; see :class:`ECAPA`."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        from speechbrain.inference.classifiers import EncoderClassifier
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy
    except ImportError as error:
        raise PseganError(
            f"the ECAPA verifier needs SpeechBrain ({error}): pip install speechbrain, or verify with a classifier"
        ) from None
    finally:  # its import enables TF32 for the whole process
        _forget_lazy_modules()
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    folder = Path(source).absolute()
    local = folder.is_dir()
    if local and not (folder / "hyperparams.yaml").is_file():
        raise PseganError(f"{source}: holds no hyperparams.yaml; give a folder with all files of the hub's repository")
    try:
        return EncoderClassifier.from_hparams(
            str(folder) if local else source,
            # the published file names the hub as the place of its weights, so a local copy would download them
            overrides={"pretrained_path": str(folder)} if local else {},
            run_opts={"device": device},
            local_strategy=LocalStrategy.NO_LINK,
            fetch_config=FetchConfig(revision=revision, allow_network=not local),
        )
    except Exception as error:  # of the YAML reader, the unpickler, the hub's client or a class that the file names
        if local:
            remedy = f" ({damage(error)}); give a folder with all files of the hub's repository, intact"
        else:
            remedy = "; run once with a network, which fills the cache (HF_HOME), or give a local folder with its files"
        raise PseganError(f"{source}: cannot be loaded as an ECAPA model{remedy}") from None


def _forget_lazy_modules() -> None:
    """Drop SpeechBrain's placeholders for modules that it has moved or that need further packages.

    Code that reads attributes of all imported modules, as inspect does for torch and Lightning, would make them import modules
    that don't exist.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("speechbrain") and type(module).__name__ in ("LazyModule", "DeprecatedModuleRedirect"):
            del sys.modules[name]
