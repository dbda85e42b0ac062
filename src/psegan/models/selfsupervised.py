"""Self-supervised speech models (wav2vec 2.0, HuBERT, WavLM) as encoders of strong attackers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models import Wav2Vec2Model
from torchaudio.pipelines import Wav2Vec2Bundle

from psegan.common.errors import PseganError
from psegan.common.files import not_a_file
from psegan.models.classifier import AttentiveStatisticsPooling
from psegan.models.state import damage, weights_hash
from psegan.speech.audio import SAMPLE_RATE
from psegan.speech.masking import embed_by_length, mask_like, masked_statistics

BUNDLES: dict[str, Wav2Vec2Bundle] = {
    name: bundle
    for name, bundle in sorted(vars(torchaudio.pipelines).items())
    if type(bundle) is Wav2Vec2Bundle  # its subclasses were fine-tuned on transcripts
}
"""torchaudio's pre-trained models by name, without those fine-tuned for recognition, which removes traits of the voice."""


class WaveformFrontEnd(nn.Module):
    """Prepares waveforms for a self-supervised model; the large ones were trained on zero mean and unit variance."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` samples at 16 kHz and ``(B,)`` lengths → ``(B, 1, T)``, zero in the padding, and the lengths."""
        x = waveform.float().unsqueeze(1)
        if self.normalise:
            mean, deviation = masked_statistics(x, lengths)
            x = (x - mean.unsqueeze(-1)) / deviation.unsqueeze(-1)
        return x * mask_like(lengths, x), lengths


class SelfSupervisedEncoder(nn.Module):
    """A pre-trained model, a learnt weighting of its layers, attentive statistics pooling and a linear layer.

    The weighting is that of SUPERB (Yang et al., Interspeech 2021) over the outputs of the transformer's layers, each
    layer-normalised so that the weights compare. The models: wav2vec 2.0 (Baevski et al., NeurIPS 2020), HuBERT (Hsu
    et al., TASLP 2021), WavLM (Chen et al., JSTSP 2022).

    The utterances of a batch go through the model grouped by length, without padding, so that an embedding does not depend
    on the batch: the base models normalise over time in their first layer, and torchaudio's WavLM takes no mask. On a GPU
    this costs speed. The memory of attention grows with the square of the duration.

    torchaudio downloads the weights once, to ``$TORCH_HOME/hub/checkpoints`` (360 MB for a base model). A checkpoint holds
    only a fingerprint of a frozen model; to load the checkpoint, the same weights must be in the cache or given as
    ``weights``. A fine-tuned model is part of the checkpoint.

    Args:
        bundle: one of :data:`BUNDLES`.
        weights: a file of the bundle's weights, as torchaudio publishes it; None downloads it, or finds it in the cache.
        embedding_dim: size of the vector it returns.
        freeze: leave the model as it is; else train it but for its convolutions (Baevski et al., 2020).
    """

    fingerprint: Tensor

    def __init__(
        self, bundle: str = "WAV2VEC2_BASE", weights: str | None = None, embedding_dim: int = 128, freeze: bool = True
    ) -> None:
        super().__init__()
        self.embedding_dim, self.frozen, self.bundle = embedding_dim, freeze, bundle
        self.backbone, normalise = load_backbone(bundle, weights)
        self.backbone.aux = None  # a layer that only pre-training uses
        self.backbone.requires_grad_(not freeze)
        self.backbone.feature_extractor.requires_grad_(False)
        transformer = self.backbone.encoder.transformer
        if not transformer.layer_norm_first:
            transformer.layer_norm.requires_grad_(False)  # it follows the last layer, whose output is taken before it
        self.front_end = WaveformFrontEnd(normalise)
        self.shortest, step = 1, 1  # samples that one frame depends on; 400 in all published models
        for layer in self.backbone.feature_extractor.conv_layers:
            self.shortest += (layer.kernel_size - 1) * step
            step *= layer.stride
        width = self.backbone.encoder.feature_projection.projection.out_features
        self.layer_logits = nn.Parameter(torch.zeros(len(transformer.layers)))
        self.pooling = AttentiveStatisticsPooling(width)
        self.embedding = nn.Linear(2 * width, embedding_dim)
        if freeze:
            # 64 bits of the hash, as a tensor since a state_dict holds tensors
            digest = int(weights_hash(self.backbone) or "0", 16)
            self.register_buffer("fingerprint", torch.tensor([digest >> 32, digest & 0xFFFFFFFF]))
            self.register_state_dict_post_hook(_leave_backbone_out)
            self.register_load_state_dict_pre_hook(_put_backbone_in)
        self.train(self.training)

    def train(self, mode: bool = True) -> "SelfSupervisedEncoder":
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        (self.backbone if self.frozen else self.backbone.feature_extractor).eval()
        return self

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """What :attr:`front_end` gives, ``(B, 1, T)`` and samples ``(B,)`` → embedding ``(B, embedding_dim)``."""
        return embed_by_length(self._embed, waveform.squeeze(1), lengths)

    def _embed(self, waveform: Tensor) -> Tensor:
        """Utterances of one length ``(B, T)`` → ``(B, embedding_dim)``."""
        waveform = F.pad(waveform, (0, max(0, self.shortest - waveform.shape[1])))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            layers, _ = self.backbone.extract_features(waveform)
        weights = self.layer_logits.softmax(0)
        mixed = sum(w * F.layer_norm(x, x.shape[-1:]) for w, x in zip(weights, layers, strict=True))
        assert isinstance(mixed, Tensor)
        frames = torch.full((len(mixed),), mixed.shape[1], device=mixed.device)
        return self.embedding(self.pooling(mixed.transpose(1, 2), frames))


def load_backbone(bundle: str, weights: str | None) -> tuple[Wav2Vec2Model, bool]:
    """The pre-trained model of a bundle, and whether it wants normalised waveforms.

    Raises:
        PseganError: no such bundle, or no weights.
    """
    if bundle not in BUNDLES:
        raise PseganError(f"there is no self-supervised model {bundle!r}: one of {', '.join(BUNDLES)}")
    found = BUNDLES[bundle]
    assert found.sample_rate == SAMPLE_RATE
    options: dict[str, Any] = {"weights_only": True, "map_location": "cpu", "progress": False}
    if weights is not None:
        path = Path(weights)
        if problem := not_a_file(path):
            raise PseganError(f"{weights}: {problem}; give the weights of {bundle}, or null to download them")
        # torch.hub takes a file that is where it would download to, whatever its name
        options |= {"model_dir": str(path.absolute().parent), "file_name": path.name}
    try:
        model = found.get_model(dl_kwargs=options)
    except URLError as error:
        raise PseganError(
            f"the weights of {bundle} cannot be downloaded ({error.reason}) and are not in the cache; "
            "fill TORCH_HOME where there is a network, or give encoder.init_args.weights a local file"
        ) from None
    except Exception as error:  # torch raises whatever its unpickler, its zip reader or the shapes meet
        where = weights or f"the cached weights of {bundle} (below TORCH_HOME)"
        raise PseganError(f"{where}: no intact weights of {bundle} ({damage(error)}); download them anew") from None
    if isinstance(model, Wav2Vec2Model):
        return model, False
    # torchaudio's wrapper of models that want normalised input normalises the batch as a whole, padding included
    return model.model, True


def _leave_backbone_out(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any]
) -> None:
    for name in [name for name in state_dict if name.startswith(f"{prefix}backbone.")]:
        del state_dict[name]


def _put_backbone_in(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any], *rest: Any
) -> None:
    assert isinstance(module, SelfSupervisedEncoder)
    theirs = state_dict.get(f"{prefix}fingerprint")
    if theirs is not None and not torch.equal(theirs.cpu(), module.fingerprint.cpu()):
        raise PseganError(
            f"the checkpoint was trained on other weights of {module.bundle} than those that were loaded; "
            "give encoder.init_args.weights the file that it was trained with"
        )
    state_dict |= {f"{prefix}backbone.{name}": value for name, value in module.backbone.state_dict().items()}
