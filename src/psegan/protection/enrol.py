"""``psegan enrol``: calm recordings of one person, in; a voice profile, out."""

import argparse
from pathlib import Path

from psegan.common.errors import PseganError, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``psegan enrol``."""
    parser.add_argument(
        "sources", nargs="+", metavar="SRC",
        help="calm recording of the person, or folder of such; 20 s of speech to some minutes, of any sentences",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--out", required=True, metavar="FILE", help="the profile, as me.voice; readable for you alone"
    )
    parser.add_argument("--name", help="whose voice it is (default: FILE's name)")
    parser.add_argument("--replace", action="store_true", help="write over a profile that is there")


def main(args: argparse.Namespace) -> int:
    """Write one profile; returns the exit status.

    Raises:
        PseganError: there is no such recording, too little speech, or a file of that name.
    """
    from psegan.protection.speakers import recordings_below, say_concerns
    from psegan.protection.voice import Voice

    out = Path(args.out)
    if out.is_dir():
        raise PseganError(f"{out}: is a folder; name a file, as {out / 'me.voice'}")
    if out.exists() and not args.replace:  # before minutes of analysis
        raise PseganError(f"{out}: exists already; choose another name, or say --replace")
    recordings: list[Path] = []
    for source in map(Path, args.sources):
        found = recordings_below(source) if source.is_dir() else [source]
        if not found:
            raise PseganError(f"{source}: holds no recordings; name another folder")
        recordings += found
    voice = Voice.enrol(recordings, args.name or out.stem)
    voice.save(out, args.replace)
    say_concerns(str(out), voice)
    plural = "s" if len(recordings) > 1 else ""
    print(
        printable(f"{out}: {voice.seconds:.0f} s of speech of {len(recordings)} recording{plural}; keep it to yourself")
    )
    return 0
