"""``psegan evaluate``: its arguments."""

import argparse
from dataclasses import replace
from pathlib import Path

from psegan.common.arguments import require_positive
from psegan.common.errors import PseganError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan evaluate``."""
    parser.add_argument("--config", required=True, help="an evaluation file, as experiments/evaluate/ravdess.yaml")
    parser.add_argument(
        "--system", action="append", default=[], metavar="NAME=CHECKPOINT",
        help="a trained system beside those of the file; {fold} stands for the fold; may be repeated",
    )  # fmt: skip
    parser.add_argument("--data-root", help="where the corpus lies (instead of the corpus file's root)")
    parser.add_argument("--out", help="folder of everything that is made (instead of the file's)")
    parser.add_argument("--max-epochs", type=int, help="train nothing for longer than this, to check the path")
    parser.add_argument(
        "--attackers", nargs="+", metavar="NAME",
        help="which of ignorant, vocoder-aware, informed and strongest to build (instead of the file's ladder)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, help="processes at a time (default: one a core, four trainings a GPU)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan evaluate``."""
    require_positive(arguments, "max_epochs", "workers")
    systems = {}
    for text in arguments.system:
        name, equals, system = text.partition("=")
        if not (name and equals and system):
            raise PseganError(f"--system is {text!r}, but must be NAME=CHECKPOINT")
        systems[name] = system
    # heavy, and not needed for --help
    from psegan.evaluation.specification import Evaluation
    from psegan.jobs.evaluate import evaluate
    from psegan.jobs.job import only_one

    evaluation = Evaluation.read(arguments.config, systems, arguments.attackers)
    if arguments.out is not None:
        evaluation = replace(evaluation, out=arguments.out)
    with only_one(Path(evaluation.out)):
        evaluate(evaluation, arguments.data_root, arguments.max_epochs, arguments.workers)
    return 0
