"""Vocoders by name: released ones, trained ones, and public ones of the Hugging Face hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download

from psegan.common.errors import PseganError
from psegan.common.instantiate import instantiate
from psegan.models.vocoder import Vocoder
from psegan.weights import fold_weight_norm, is_shipped, load_part, released

PUBLIC = ("speechbrain/tts-hifigan-libritts-16kHz",)
"""Repositories whose vocoder has this project's mel convention."""
WEIGHTS = "generator.ckpt"
"""The file that counts in them, a PyTorch state dict; it is read without running any code that it might hold."""


def load_vocoder(spec: str | dict[str, Any]) -> Vocoder:
    """A vocoder, ready to speak.

    Args:
        spec: name of a released one (``vocos``); a folder that ``psegan export`` wrote; a checkpoint of a
            :class:`psegan.systems.VocoderGAN`, whose averaged weights count; a public one (:data:`PUBLIC`) or a local
            copy of its folder; or ``{"class_path": ..., "init_args": {...}}``.

    Raises:
        PseganError: there is none, it cannot be fetched, or it is damaged.
    """
    vocoder = _load(spec)
    return fold_weight_norm(vocoder.eval().requires_grad_(False))  # type: ignore[return-value]


def _load(spec: str | dict[str, Any]) -> Vocoder:
    if isinstance(spec, dict):
        return instantiate(Vocoder, spec, "vocoder", "psegan.models.vocoder")
    if spec.endswith(".ckpt"):
        from psegan.systems.vocoder import load_trained  # Lightning takes seconds to import

        return load_trained(spec)
    if spec in PUBLIC or (Path(spec) / WEIGHTS).is_file():
        return _load_public(spec)
    if is_shipped(spec):
        part = load_part(spec, "vocoder")
        assert isinstance(part, Vocoder)
        return part
    raise PseganError(
        f"vocoder {spec!r} is not known; there are {', '.join([*released('vocoder'), *PUBLIC])}, folders that psegan export "
        "wrote, and checkpoints"
    )


def _load_public(name: str) -> Vocoder:
    from psegan.models.hifigan import HiFiGAN

    vocoder = HiFiGAN()
    try:
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(name, allow_patterns=[WEIGHTS]))
        vocoder.generator.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    except Exception as error:  # a hub client's, an unpickler's, or weights of another network
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PseganError(
            f"{name}: cannot be loaded ({reason}); run once with a network, which fills the cache (HF_HOME), or give a "
            f"folder with the hub's {WEIGHTS}, intact"
        ) from None
    vocoder.generator.remove_weight_norm()
    return vocoder
