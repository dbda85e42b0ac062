"""What a run is of, in a few plain words: its name, and the flat keys by which a dashboard filters and groups."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.files import read_yaml

if TYPE_CHECKING:  # heavy, and sweeps read names before anything is trained
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
        fold: of the test's speakers; None in ``paper``, which has no folds, and where several are pooled.
        seed: ``seed_everything``, or an evaluation's own.
    """

    system: str
    variant: str
    corpus: str
    split: str
    fold: int | None
    seed: int

    @classmethod
    def of(cls, model: "System", data: "CorpusDataModule", variant: str | None) -> "Identity":
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

    That is the last file that lies in a folder called ``experiments``, as ``neutral``, or whose ``run.variant`` says a name,
    as the ``config.yaml`` of a run does; then what it classifies, then every overlay of a folder called ``ablations``, as
    ``psegan-no-sm``. Settings on the command line leave no trace in it.

    Args:
        overlays: paths, in order.
        attribute: of a classifier.
    """
    name = ""
    ablations: list[str] = []
    for path in map(Path, overlays):
        folder = path.absolute().parent.name
        if said := _said(path, attribute):
            name, ablations = said, []  # which has the ablations before it in it
        elif folder == "experiments":
            name = _spelt(path)
            name += f"-{attribute}" if attribute is not None and attribute not in name else ""
        elif folder == "ablations":
            ablations.append(_spelt(path))
    for ablation in ablations:
        if f"-{ablation}-" not in f"-{name}-":  # a saved configuration that is ablated already
            name += f"-{ablation}"
    return name.strip("-") or None


def name_of(overlay: str, before: Sequence[str]) -> str:
    """What a trial is called after by an overlay that a sweep lays over others: their name with it, or else its own."""
    found = variant_of([*before, overlay])
    return _spelt(Path(overlay)) if found is None or found == variant_of(before) else found


def _spelt(path: Path) -> str:
    return path.stem.replace("_", "-")


def _said(path: Path, attribute: str | None) -> str:
    """The name that an overlay itself says, if any, with another attribute where it was of a classifier of another."""
    content = read_yaml(path) if path.is_file() else {}
    said, own = str(_value(content, "run", "variant") or ""), _value(content, "model", "init_args", "attribute")
    if said and own and attribute and own != attribute:
        return f"{said.removesuffix(f'-{own}')}-{attribute}"
    return said


def _value(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
