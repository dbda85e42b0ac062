"""What ``psegan reproduce``, ``evaluate`` and ``sweep`` have in common on the command line."""

import argparse
from dataclasses import dataclass, fields

from psegan.common.errors import PseganError
from psegan.common.machine import cores, gpu_names


@dataclass(frozen=True)
class Options:
    """How the jobs of a command are run.

    Attributes:
        data_root: where the corpus lies, instead of the corpus file's ``root``.
        max_epochs: upper bound of every training; results then say so.
        workers: processes at a time; by default one a core.
        attackers: which to build, instead of the evaluation file's.
    """

    data_root: str | None = None
    max_epochs: int | None = None
    workers: int | None = None
    attackers: list[str] | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Options":
        """Those of a command line; a number below 1 is a PseganError."""
        for name in ("max_epochs", "workers"):
            number = getattr(arguments, name)
            if number is not None and number < 1:
                raise PseganError(f"--{name.replace('_', '-')} is {number}, but must be at least 1")
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    @property
    def trainings(self) -> int:
        """Trainings at a time: by default four on each GPU, since these networks are small, or else one a core."""
        return self.workers or min(4 * len(gpu_names()), cores()) or cores()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that :meth:`Options.of` reads, and ``--out``."""
    parser.add_argument("--out", help="folder of everything that is made (instead of the file's)")
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--max-epochs", type=int, help="train nothing for longer than this, to check the path")
    parser.add_argument("--workers", type=int, help="processes at a time (default: one a core, four trainings a GPU)")
    parser.add_argument(
        "--attackers", nargs="+", metavar="NAME",
        help="which of ignorant, vocoder-aware, informed and strongest to build (instead of the evaluation file's)",
    )  # fmt: skip
