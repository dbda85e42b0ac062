"""``make torture``: all malformed inputs of several seeds, and commands that are killed; a table, and exit 1 on a fault."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.robustness.campaign import PARTS
from tests.robustness.killing import COMMANDS, are_killed
from tests.robustness.place import Place


def main() -> int:
    """Run everything; the number of faults decides the exit status."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=2, help="how many times the inputs are drawn (default: %(default)s)"
    )
    parser.add_argument("--kills", type=int, default=4, help="of each of the five commands (default: %(default)s)")
    parser.add_argument("--parts", nargs="*", help="names of those to run (default: all)")
    arguments = parser.parse_args()
    faults = 0
    print("| what | cases | faults | minutes |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        for part in PARTS:
            found: list[tuple[str, str | None]] = []
            began = time.monotonic()
            for seed in range(arguments.seeds) if _wanted(arguments.parts, part.__name__) else []:
                place = Place(Path(temporary) / f"{part.__name__}-{seed}")
                found += [(f"seed {seed}, {name}", fault) for name, fault in part(place, seed, None)]
                shutil.rmtree(place.folder)
            faults += _report(part.__name__, found, began)
        for command in COMMANDS:
            began = time.monotonic()
            name = f"{command.__name__}_is_killed"
            kills = arguments.kills if _wanted(arguments.parts, name) else 0
            found = list(are_killed(Path(temporary) / name, command, 0, kills)) if kills else []
            faults += _report(name, found, began)
            shutil.rmtree(Path(temporary) / name, ignore_errors=True)
    return int(faults > 0)


def _wanted(parts: list[str] | None, name: str) -> bool:
    return parts is None or name in parts


def _report(name: str, found: Iterable[tuple[str, str | None]], began: float) -> int:
    """Print a row of the table and the faults below it; returns how many there are."""
    found = list(found)
    if not found:
        return 0
    wrong = [(case, fault) for case, fault in found if fault is not None]
    print(
        f"| {name.replace('_', ' ')} | {len(found)} | {len(wrong)} | {(time.monotonic() - began) / 60:.1f} |",
        flush=True,
    )
    for case, fault in wrong:
        print(f"    {case!r}: {fault}", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
