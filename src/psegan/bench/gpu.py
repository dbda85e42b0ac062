"""``make gpu``: what only a GPU can show, in under eight minutes: mixed precision, speeds, memory, resuming.

Each part runs in a process of its own, so that one that fails or hangs leaves the others alone. The figures go into a table
and into a file, which is written anew after every part.
"""

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from psegan.bench.fit import Figure, Setting
from psegan.bench.precision import mixed_precision
from psegan.bench.runs import everything, killed_and_continued
from psegan.bench.speech import protector_speeds
from psegan.bench.throughput import psegan_speeds, vocoder_speeds
from psegan.bench.training import processor
from psegan.common.errors import PseganError
from psegan.common.files import commit, write_json
from psegan.common.processes import enter, forkserver
from psegan.training.command import PRECISIONS

PARTS: dict[str, Callable[[Setting], Iterator[Figure]]] = {
    "fit": everything,
    "precision": mixed_precision,
    "psegan": psegan_speeds,
    "vocoder": vocoder_speeds,
    "protect": protector_speeds,
    "resume": killed_and_continued,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure the parts that are asked for; the exit status is 1 if one has failed."""
    try:
        return measure(_parser().parse_args(words))
    except PseganError as error:
        print(f"psegan: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m psegan.bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("options", nargs="*", help="words of psegan fit for every training, after --")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/gpu.json"), help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries out the script itself")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS,
        help="to train in, the one for fit and resume last (default: 16-mixed last; on the CPU, which lacks it, the others)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds-per-part", type=float, default=30.0, metavar="S",
        help="for which speeds are measured, warm-up excluded (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10.0, help="of speech to protect (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=460.0, metavar="S",
        help="for everything; a part is stopped after a third of it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--commit", default=commit(), help="of the code, where it lies in no checkout")
    return parser


def measure(arguments: argparse.Namespace) -> int:
    """Run the parts one after the other, print the table and write the file.

    Raises:
        PseganError: there is no GPU.
    """
    cuda = arguments.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise PseganError("torch finds no GPU here: run this where there is one, or try it out with --device cpu")
    name = torch.cuda.get_device_name() if cuda else processor()
    about = {"device": name, "torch": torch.__version__, "commit": arguments.commit}
    parts: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + arguments.limit
    # a training of a part that was stopped may still be writing
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setting = Setting(
            arguments.device, Path(folder), tuple(arguments.precisions or PRECISIONS[: 3 if cuda else 2]),
            arguments.seconds_per_part, arguments.minutes, tuple(arguments.options),
        )  # fmt: skip
        for part in arguments.parts:
            print(f"--- {part}", flush=True)
            parts[part] = run_part(part, setting, max(min(arguments.limit / 3, end - time.monotonic()), 0.0))
            write_json(arguments.out, {**about, "parts": parts})
    print(f"\n{table(parts)}\n\n{name}, torch {torch.__version__}\nwritten to {arguments.out}")
    return int(any(part["failure"] for part in parts.values()))


def run_part(part: str, setting: Setting, limit: float) -> dict[str, Any]:
    """Seconds, figures and failure, one line or None, of a part in a process of its own, which is killed after ``limit`` s."""
    figures: dict[str, dict[str, Any]] = {}
    failure: str | None = f"was stopped after {limit:.0f} s"
    started = time.monotonic()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = forkserver().Process(target=_work, args=(part, setting, torch.get_num_threads(), Path.cwd(), sender))
    process.start()
    sender.close()
    try:
        while receiver.poll(max(limit - time.monotonic() + started, 0)):
            name, (value, unit) = receiver.recv()
            if not name:  # the end
                failure = unit
                break
            if value is not None and not math.isfinite(value):  # JSON has no such numbers
                value, unit = None, f"is {value}: {unit}"
            figures[name] = {"value": value, "unit": unit}
    except EOFError:
        process.join()
        failure = f"its process died with exit status {process.exitcode}"
    process.kill()
    process.join()
    return {"seconds": round(time.monotonic() - started, 1), "failure": failure, "figures": figures}


def _work(part: str, setting: Setting, threads: int, here: Path, sender: Connection) -> None:
    """Send the figures, and at the end a nameless one, whose text is the failure or None."""
    enter(here)
    torch.set_num_threads(threads)
    failure = None
    try:
        for figure in PARTS[part](setting):
            sender.send(figure)
    except PseganError as error:
        failure = str(error)
    except Exception as error:
        traceback.print_exc()
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    sender.send(("", (None, failure)))


def table(parts: dict[str, dict[str, Any]]) -> str:
    """A line for every figure, and for every part its time, or how it failed."""
    rows: list[tuple[str, str, str]] = []
    for name, part in parts.items():
        for figure, found in part["figures"].items():
            rows.append((figure, "" if found["value"] is None else f"{found['value']:.4g}", found["unit"]))
        rows.append((name, f"{part['seconds']:.4g}", f"s: {part['failure'] or 'done'}"))
    return str(pd.DataFrame(rows, columns=["", "value", "unit"]).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    sys.exit(main())
