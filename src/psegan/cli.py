"""The entry point ``psegan``. It imports torch only for commands that need it, so that help appears at once."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from psegan import __version__
from psegan.common.errors import PseganError, of_disk, printable

_TRAINING = {
    "fit": "train a system (or continue: --ckpt_path auto)",
    "validate": "compute a checkpoint's metrics on the validation set",
    "test": "compute a checkpoint's metrics on the test set",
    "predict": "protect the test set: one FLAC file an utterance",
}
_OTHERS = {
    "data": ("data.command", "download, check or protect a corpus"),
    "enrol": ("protection.enrol", "make a voice profile of calm recordings of one person"),
    "evaluate": ("jobs.evaluate", "measure privacy and utility of protected speech, with attackers and classifiers"),
    "export": ("protection.export", "write a checkpoint's weights into a folder that can be published"),
    "protect": ("protection.command", "protect recordings, or folders of them"),
    "report": ("report.command", "tables and figures of any runs on one page"),
    "reproduce": ("jobs.reproduce", "train and score everything that an experiment file lists"),
    "sweep": ("jobs.sweep", "run the trials of a W&B sweep file, and compare them"),
}
"""Command → its module below ``psegan``, which must not import torch at its top, and what it does."""
_GO_ON = {
    "fit": "; it goes on with --ckpt_path auto",
    "protect": "; it goes on with --existing skip",
    **dict.fromkeys(("data", "evaluate", "reproduce", "sweep"), "; the same command goes on"),
}
"""What to say besides of a command that was interrupted."""
_AMONG_FILES = ("enrol", "protect", "report")
"""Commands that may be run where files of anybody lie, so that modules there are not to be imported."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the training commands have a parser of their own, which needs torch."""
    parser = argparse.ArgumentParser(
        prog="psegan", description="Speech attribute privacy: hide the emotion, keep the speaker and the words."
    )
    parser.add_argument("--version", action="version", version=f"psegan {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in _TRAINING.items():
        commands.add_parser(name, help=text, add_help=False)
    for name, (module, text) in _OTHERS.items():
        importlib.import_module(f"psegan.{module}").add_arguments(commands.add_parser(name, help=text))
    return parser


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit status; a user's error is a PseganError, and so is a full disk."""
    try:
        status = _run(words)
        sys.stdout.flush()  # so that it fails here if it does
        return status
    except OSError as error:
        if (users := of_disk(error)) is None:
            raise
        raise users from None


def _run(words: Sequence[str]) -> int:
    if words and words[0] in _TRAINING:
        from psegan.training import command as training

        training.main(list(words))
        return 0
    arguments = build_parser().parse_args(words)
    module, _ = _OTHERS[arguments.command]
    status: int = importlib.import_module(f"psegan.{module}").main(arguments)
    return status


def main() -> int:
    """The console script: prints a user's error as one line on stderr and returns the exit status."""
    words = sys.argv[1:]
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # seconds, so that a log file is not filled with bars
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text in any encoding
    try:
        if words and words[0] in {*_TRAINING, *_OTHERS}.difference(_AMONG_FILES):
            from psegan.common.instantiate import search_here

            search_here()
        return run(words)
    except PseganError as error:
        print(printable(f"psegan: error: {error}"), file=sys.stderr)
        return 1
    except BrokenPipeError:  # the program that reads our output has ended, for example `head`
        return 1
    except KeyboardInterrupt:
        print(f"psegan: interrupted{_GO_ON.get(' '.join(words[:1]), '')}", file=sys.stderr)
        return 130
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # has been told of, and would be again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
