"""The one entry point, ``psegan``. Nothing heavy is imported before it is known what is wanted."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from psegan import __version__
from psegan.common.errors import PseganError

_TRAINING = {
    "fit": "train a system (or continue: --ckpt_path auto)",
    "validate": "measure a checkpoint on the validation set",
    "test": "measure a checkpoint on the test set",
    "predict": "protect the test set: one FLAC file an utterance",
}
_OTHERS = {
    "data": ("data.command", "download, check or protect a corpus"),
    "evaluate": ("jobs.evaluate", "let attackers and classifiers predict what protected speech still tells"),
    "export": ("protection.export", "turn a checkpoint into weights that ship"),
    "protect": ("protection.command", "protect recordings, or folders of them"),
    "report": ("report.command", "tables and figures of any runs on one page"),
    "reproduce": ("jobs.reproduce", "train and score everything that an experiment file lists"),
    "sweep": ("jobs.sweep", "run the trials of a W&B sweep file, and compare them"),
}
"""Command → the module that has it, and what it does."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything but the training commands, whose own parser needs torch."""
    parser = argparse.ArgumentParser(
        prog="psegan", description="Speech attribute privacy: hide the emotion, keep the speaker and the words."
    )
    parser.add_argument("--version", action="version", version=f"psegan {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in _TRAINING.items():
        commands.add_parser(name, help=text, add_help=False)
    for name, (module, text) in _OTHERS.items():
        _import(module).add_arguments(commands.add_parser(name, help=text))
    return parser


def _import(module: str) -> Any:
    """A command's module, whose top level must import nothing heavy."""
    return importlib.import_module(f"psegan.{module}")


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit status.

    Raises:
        PseganError: a user's error.
    """
    if words and words[0] in _TRAINING:
        from psegan.training import command as training

        training.main(list(words))
        return 0
    arguments = build_parser().parse_args(words)
    module, _ = _OTHERS[arguments.command]
    status: int = _import(module).main(arguments)
    return status


def main() -> int:
    """The console script: a user's error is one line on stderr and exit status 1."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # seconds: a log file is no place for a moving bar
    try:
        return run(sys.argv[1:])
    except PseganError as error:
        print(f"psegan: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("psegan: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
