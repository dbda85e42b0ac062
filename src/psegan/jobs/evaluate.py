"""``psegan evaluate``: its arguments, and what is heavy and not needed for ``--help`` behind them."""

import argparse
from dataclasses import replace
from pathlib import Path

from psegan.common.errors import PseganError
from psegan.jobs.job import only_one
from psegan.jobs.options import Options, add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``psegan evaluate``."""
    parser.add_argument("--config", required=True, help="an evaluation file, as experiments/evaluate/ravdess.yaml")
    parser.add_argument(
        "--system", action="append", default=[], metavar="NAME=CHECKPOINT",
        help="a trained system beside those of the file; {fold} stands for the fold; may be repeated",
    )  # fmt: skip
    add_options(parser)


def main(arguments: argparse.Namespace) -> int:
    """Run ``psegan evaluate``."""
    options, systems = Options.of(arguments), {}
    options.check_wandb()
    for text in arguments.system:
        name, equals, system = text.partition("=")
        if not (name and equals and system):
            raise PseganError(f"--system is {text!r}, but must be NAME=CHECKPOINT")
        systems[name] = system
    from psegan.evaluation.specification import Evaluation
    from psegan.jobs.evaluation_run import EvaluationRun

    evaluation = Evaluation.read(arguments.config, systems, options.attackers)
    evaluation = replace(evaluation, out=arguments.out or evaluation.out)
    with only_one(Path(evaluation.out)):
        EvaluationRun(evaluation, options).run()
    return 0
