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
        wandb_mode: of trainings and evaluations; see :class:`psegan.training.loggers.RunSettings`.
        wandb_project: of W&B, instead of ``psegan``.
    """

    data_root: str | None = None
    max_epochs: int | None = None
    workers: int | None = None
    attackers: list[str] | None = None
    wandb_mode: str = "auto"
    wandb_project: str | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Options":
        """Those of a command line; a number below 1 is a PseganError."""
        for name in ("max_epochs", "workers"):
            number = getattr(arguments, name)
            if number is not None and number < 1:
                raise PseganError(f"--{name.replace('_', '-')} is {number}, but must be at least 1")
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    def check_wandb(self) -> None:
        """Refuse a wrong key or setting of W&B now, and not after hours of work."""
        from psegan.training.wandb_mode import OPTION, resolve_mode

        resolve_mode(self.wandb_mode, None, OPTION)

    @property
    def logged(self) -> dict[str, str]:
        """Key below ``run`` → value that a training of these jobs is given."""
        mode = {} if self.wandb_mode == "auto" else {"wandb_mode": self.wandb_mode}
        return mode | ({} if self.wandb_project is None else {"project": self.wandb_project})

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
        help="which of ignorant, vocoder-aware, cut, informed and strongest to build (instead of the evaluation file's)",
    )  # fmt: skip
    parser.add_argument(
        "--wandb-mode", choices=("auto", "online", "offline", "disabled"), default="auto",
        help="of trainings and evaluations (default: online if there is an account and W&B answers, else offline)",
    )  # fmt: skip
    parser.add_argument("--wandb-project", metavar="NAME", help="of W&B (default: psegan)")
