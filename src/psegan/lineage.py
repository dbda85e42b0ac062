"""What trained weights have learnt from: their own corpus, and those of the networks that their training read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from psegan.common.errors import PseganError
from psegan.common.files import not_a_file, read_yaml
from psegan.speech.audio import SAMPLE_RATE, frame_lengths
from psegan.weights import is_checkpoint, is_public, read_about

VOCODER = "the vocoder"
"""Its role in messages."""


@dataclass(frozen=True)
class TrainingData:
    """What one network was trained on.

    Attributes:
        role: of the network, for messages.
        source: its file or folder.
        data: ``class_path`` and ``init_args`` of its corpus.
    """

    role: str
    source: str
    data: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """For the configuration of weights that ship: without the places of this machine."""
        return {"role": self.role, "data": _without_roots(self.data)}


def lineage(source: str, role: str) -> list[TrainingData]:
    """What a network was trained on, then the networks that its training read, and so on; nothing for what is public.

    Args:
        source: checkpoint, or name or folder of weights that ship.
        role: of the network, for messages.

    Raises:
        PseganError: there is no such network, or nothing is known of what it was trained on.
    """
    if is_public(source):
        return []
    if not is_checkpoint(source):
        try:
            return [
                TrainingData(_same(one["role"].replace("itself", role)), source, one["data"])
                for one in read_about(source)["trained_on"]
            ]
        except (KeyError, TypeError, AttributeError):
            raise PseganError(
                f"{source}: doesn't say what {role} was trained on; evaluate the checkpoint that it was exported from"
            ) from None
    path = Path(source)
    if problem := not_a_file(path).replace("file", "checkpoint"):
        raise PseganError(
            f"{path}: {problem} of {role}; train it first (psegan fit), correct the path, or run the "
            "command in the folder where the training was run"
        )
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise PseganError(
            f"{path}: what {role} was trained on is not known, since {config} is missing; leave the checkpoint in the folder "
            "of its run"
        )
    content = read_yaml(config)
    family = [TrainingData(role, source, content.get("data") or {})]
    if before := (content.get("run") or {}).get("continued_from"):
        family += lineage(before, role)
    for key, value in ((content.get("model") or {}).get("init_args") or {}).items():
        if not key.endswith("_checkpoint") or not value:
            continue
        member = _same(f"the {key.removesuffix('_checkpoint').replace('_', ' ')} of {role}")
        for one in value if isinstance(value, list) else [value]:
            family += lineage(one, member)
    return family


def crop_frames(source: str | Path | Mapping[str, Any]) -> int | None:
    """Spectrogram frames of the longest crop that weights learnt from; None where they heard whole utterances or nobody says.

    Args:
        source: checkpoint, whose run's ``config.yaml`` says it, or what weights that ship say of themselves.
    """
    try:
        if isinstance(source, Mapping):
            data = [one["data"] for one in source["trained_on"] if one["role"] == "itself"]
        else:
            data = [config["data"] for config in _configurations(source)]
        longest = max(float(one["init_args"]["crop_seconds"]) for one in data)
        return int(frame_lengths(torch.tensor(round(longest * SAMPLE_RATE))))
    # anybody may have written that
    except (PseganError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _configurations(checkpoint: str | Path) -> Iterator[dict[str, Any]]:
    """That of a checkpoint's run, and of the runs that it went on from."""
    seen: set[str] = set()
    following: str | Path | None = checkpoint
    while following and str(following) not in seen:
        seen.add(str(following))
        yield (config := read_yaml(Path(following).parent.parent / "config.yaml"))
        following = (config.get("run") or {}).get("continued_from")


def _same(role: str) -> str:
    """A vocoder whose training went on from another's is one vocoder."""
    return re.sub(f"({VOCODER} of )+(?={VOCODER})", "", role)


def _without_roots(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_roots(one) for key, one in value.items() if key not in ("root", "manifest")}
    return [_without_roots(one) for one in value] if isinstance(value, list) else value
