"""What a run is of, in a few plain words: its name, and the flat keys by which a dashboard filters and groups."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.base import CorpusDataModule
from psegan.systems.base import System

JOB_TYPES = {"fit": "training", "validate": "validation", "test": "test", "predict": "prediction"}
"""Command → job type of its run in W&B; an evaluation's is ``evaluation``."""


@dataclass(frozen=True)
class Identity:
    """What a run is of.

    Attributes:
        system: the class in lower case, as ``psegan`` or ``classifier``; of an evaluation's control its name there.
        variant: the name that tables have for it, as ``psegan-no-sm`` or ``neutral``; see :func:`variant_of`.
        corpus, split: of its speech.
        fold: of ``speaker-disjoint``; None where there are no folds or several are pooled.
        seed: ``seed_everything``, or an evaluation's own.
    """

    system: str
    variant: str
    corpus: str
    split: str
    fold: int | None
    seed: int

    @classmethod
    def of(cls, model: System, data: CorpusDataModule, variant: str | None) -> "Identity":
        """That of a training."""
        system = type(model).__name__.lower()
        fold = data.fold if data.apart else None
        return cls(system, variant or system, data.corpus, data.split, fold, model.seed)

    @property
    def name(self) -> str:
        """For people, as ``psegan · ravdess · paper · seed 0``."""
        fold = "" if self.fold is None else f" fold {self.fold}"
        return f"{self.variant} · {self.corpus} · {self.split}{fold} · seed {self.seed}"

    @property
    def config(self) -> dict[str, Any]:
        """Flat keys for W&B."""
        return asdict(self)


def variant_of(overlays: Sequence[str], attribute: str | None = None) -> str | None:
    """What a training is called after by its overlays; None where they tell nothing.

    That is the last file that lies in a folder called ``experiments``, as ``neutral``, then what it classifies, then every
    overlay of a folder called ``ablations``, as ``psegan-no-sm``. Settings on the command line leave no trace in it.

    Args:
        overlays: paths, in order.
        attribute: of a classifier.
    """
    paths = [Path(overlay) for overlay in overlays]
    words = [path.stem for path in paths if path.absolute().parent.name == "experiments"][-1:]
    if words and attribute is not None and attribute not in words[0]:
        words.append(attribute)
    words += [path.stem for path in paths if path.absolute().parent.name == "ablations"]
    return "-".join(words).replace("_", "-") or None
