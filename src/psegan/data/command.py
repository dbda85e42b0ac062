"""``psegan data``: download a corpus, check it, and make a protected copy of it.

The package ``datamodules`` describes the corpora. It is imported only when a command runs, since it takes seconds.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from psegan.common.errors import PseganError

_SUBSETS = ("train", "validation", "test")
"""A copy of ``datamodules.splits.SUBSETS``, so that the parser needn't import it."""


ARCHIVES: dict[str, tuple[str | None, str | None]] = {
    # the MD5 is the one that public download notes state
    "ravdess": (
        "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
        "md5:bc696df654c87fed845eb13823edef8a",
    ),
    "emodb": ("http://emodb.bilderbar.info/download/download.zip", None),
    "nemo": (None, None),
}
"""Corpus → where it is published as a zip file, if it is, and the file's checksum where the publisher states one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands ``download``, ``check`` and ``protect`` to the parser of ``psegan data``."""
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    download = commands.add_parser("download", help="fetch and unpack a corpus; run again to resume")
    check = commands.add_parser("check", help="count a corpus and list what is wrong with it (exit 1)")
    for command in (download, check):
        command.add_argument("corpus", choices=sorted(ARCHIVES), help="which corpus")
        command.add_argument("--root", required=True, metavar="DIR", help="its folder")
    download.add_argument("--url", help="another place to fetch the zip file from")
    download.add_argument(
        "--checksum",
        metavar="ALGORITHM:HEX",
        help="expected checksum of the zip file instead of the known one, or 'none'",
    )
    protect = commands.add_parser("protect", help="make a protected copy of a corpus; run again to resume")
    protect.add_argument("--corpus", required=True, metavar="YAML", help="as experiments/corpora/ravdess.yaml")
    protect.add_argument("--data-root", metavar="DIR", help="where the corpus lies (instead of the corpus file's root)")
    protect.add_argument(
        "--protector",
        required=True,
        metavar="SPEC",
        help="a .ckpt of psegan fit, a YAML file with class_path and init_args, or a class of psegan.protection.controls",
    )
    protect.add_argument("--out", required=True, metavar="DIR", help="folder of the protected corpus")
    protect.add_argument(
        "--split", default="all", choices=["all", *_SUBSETS], help="which part of the corpus's split (default: all)"
    )
    protect.add_argument(
        "--calm", nargs="+", default=["neutral"], metavar="EMOTION",
        help="of recordings that make voice profiles, for a protector that speaks with one (default: neutral)",
    )  # fmt: skip
    protect.add_argument(
        "--sentences", default="other", choices=("other", "any"),
        help="of the recordings that make the profile for one: other than its own, or any but it itself (default: other)",
    )  # fmt: skip
    protect.add_argument("--seed", type=int, default=0, help="of targets, noise and other draws (default: 0)")
    protect.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")


def main(args: argparse.Namespace) -> int:
    """Run the sub-command that was parsed; returns the exit status.

    Raises:
        PseganError: the folder, the archive, the corpus file or the network is at fault.
    """
    if args.data_command == "download":
        url, checksum = ARCHIVES[args.corpus]
        checksum = args.checksum or checksum
        if (url := args.url or url) is None:
            from datamodules.joint import PUBLISHED

            module = PUBLISHED[args.corpus]
            raise PseganError(
                f"{module.title} is published as no zip file; {module.remedy(Path(args.root))}, or give --url"
            )
        download_corpus(args.corpus, Path(args.root), url, None if checksum == "none" else checksum)
        return 0
    if args.data_command == "protect":
        from psegan.common.machine import cores
        from psegan.evaluation.corpora import load_corpus, parts_of, protect_corpus
        from psegan.evaluation.specification import Enrolment

        subsets = _SUBSETS if args.split == "all" else (args.split,)
        workers = args.workers if args.workers is not None else cores()
        data = load_corpus(args.corpus, args.data_root)
        enrolment, parts = Enrolment(calm=args.calm, sentences=args.sentences), parts_of(data, subsets)
        print(protect_corpus(data, parts, args.protector, args.out, args.seed, workers, enrolment=enrolment))
        return 0
    from datamodules.joint import PUBLISHED
    from psegan.data.check import check_corpus

    return check_corpus(PUBLISHED[args.corpus], Path(args.root))


def download_corpus(corpus: str, root: Path, url: str, checksum: str | None) -> None:
    """Download, verify and unpack a corpus into ``root``, which appears only when it is complete.

    Until then ``ROOT.download``, beside the root, keeps what has been downloaded, and the next run continues from there.

    Raises:
        PseganError: the root already holds files, the network fails, or the archive is damaged or not the corpus.
    """
    from datamodules.joint import PUBLISHED
    from psegan.data.fetch import fetch, unpack

    root = root.absolute()
    if root.is_file():
        raise PseganError(f"{root}: is a file; name a new folder with --root")
    if root.is_dir() and any(root.iterdir()):
        raise PseganError(
            f"{root}: already holds files and is left as it is; see `psegan data check {corpus} --root {root}`, "
            "or remove it or name another --root to download anew"
        )
    module = PUBLISHED[corpus]
    store = root.with_name(root.name + ".download")
    unpacked = unpack(fetch(url, checksum, store), store / "unpacked")
    try:
        found = module.files(unpacked)
    except PseganError:
        shutil.rmtree(store)
        raise PseganError(f"{url}: the archive does not hold {module.title} ({module.layout}); check --url") from None
    id, path = found[0]
    top = path.parents[id.count("/")]  # the archive may hold the corpus in a folder
    try:
        if root.is_dir():
            root.rmdir()  # empty, as seen above; not every system renames onto an empty folder
        os.replace(top, root)
    except OSError as error:
        raise PseganError(f"{root}: cannot be put in place ({error.strerror}); name another --root") from None
    shutil.rmtree(store)
    print(f"{module.title}: {len(found)} recordings in {root}")
    print(f"next: psegan data check {corpus} --root {root}")
    sys.stdout.flush()
