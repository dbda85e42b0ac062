"""Downloads that resume, and archives that cannot write where they should not."""

import os
import re
import shutil
import stat
import sys
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pooch
import requests
from tqdm import tqdm

from psegan.common.errors import PseganError

CHUNK = 1 << 13
"""Bytes at a time; what is lost when a connection breaks is less than this."""
TIMEOUT = (15, 60)
"""Seconds to wait for a connection, and for the next bytes."""


class ResumingDownloader:
    """A downloader for :func:`pooch.retrieve` that keeps what it got, and goes on from there (HTTP Range, RFC 9110).

    Args:
        partial: file that grows; it is handed over when it is complete.
    """

    def __init__(self, partial: Path) -> None:
        self.partial = partial

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        start = self.partial.stat().st_size if self.partial.exists() else 0
        # compressed transfer would count other bytes than the file has
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = re.fullmatch(r"bytes (?:\*|\d+-\d+)/(\d+)", response.headers.get("Content-Range", ""))
            if start and response.status_code == requests.codes.requested_range_not_satisfiable:
                if total is None or int(total[1]) != start:  # what is there is no beginning of this file
                    self.partial.unlink()
                    return self(url, output_file, pooch)
            else:
                response.raise_for_status()
                if response.status_code != requests.codes.partial_content:
                    start = 0  # the server sends all of it
                self._receive(response, start, int(total[1]) if total else None)
        os.replace(self.partial, output_file)

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        if total is None and "Content-Length" in response.headers:
            total = int(response.headers["Content-Length"])
        with (
            self.partial.open("ab" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=self.partial.stem, file=sys.stderr) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        size = self.partial.stat().st_size
        if total is not None and size < total:
            raise requests.ConnectionError(f"the connection ended after {size} of {total} bytes")


def fetch(url: str, checksum: str | None, folder: Path) -> Path:
    """Download ``url`` into ``folder``, resuming what an earlier run left there.

    Args:
        url: http or https.
        checksum: ``algorithm:hex`` (md5, sha256, ...); None prints the SHA-256 that was obtained.
        folder: made if need be.

    Returns:
        The verified file.

    Raises:
        PseganError: the network fails, or the checksum is another.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise PseganError(f"{url}: not an http or https address; correct --url")
    if checksum is not None and not re.fullmatch(r"(md5|sha1|sha256|sha512):[0-9a-fA-F]+", checksum):
        raise PseganError(
            f"--checksum is {checksum!r}, but must be ALGORITHM:HEX (md5, sha1, sha256 or sha512) or 'none'"
        )
    name = PurePosixPath(unquote(parts.path)).name or "archive.zip"
    partial = folder / f"{name}.part"
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # our own progress bar says enough
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = pooch.retrieve(url, checksum, fname=name, path=folder, downloader=ResumingDownloader(partial))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise PseganError(f"{url}: the server answers {status}; try later, or give another address by --url") from None
    except (requests.RequestException, TimeoutError) as error:
        kept = f", {partial.stat().st_size} bytes are kept" if partial.exists() else ""
        reason = " ".join(str(error).split())[:200]
        raise PseganError(f"{url}: download failed ({reason}){kept}; run the same command again to resume") from None
    except OSError as error:
        raise PseganError(
            f"{folder}: cannot be written ({error.strerror}); free space or name another --root"
        ) from None
    except ValueError:  # pooch's word for another checksum; it has removed the file
        raise PseganError(
            f"{url}: the file's checksum is not {checksum}, so it was removed; run the same command again, or give "
            "--checksum if the publisher has changed the file"
        ) from None
    finally:
        logger.setLevel(level)
    if checksum is None:
        print(f"{name}: no checksum is published; obtained sha256:{pooch.file_hash(path)}")
    return Path(path)


def unpack(archive: Path, folder: Path, most: int) -> Path:
    """Unpack a zip file into a fresh ``folder``.

    Args:
        archive: the zip file; a damaged one is removed, so that it is fetched anew.
        folder: replaced if it exists.
        most: bytes that the archive may unpack to.

    Returns:
        The folder.

    Raises:
        PseganError: the archive is damaged, too large, or has members that would leave the folder or are links.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            for member in members:
                _refuse_unsafe(archive, member)
            size = sum(member.file_size for member in members)
            if size > most:
                raise PseganError(f"{archive}: would unpack to {size} bytes, more than {most}; check --url")
            for member in tqdm(members, desc="unpacking", unit="file", file=sys.stderr):
                zipped.extract(member, folder)  # reads no more than the size stated above, and verifies the CRC
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        archive.unlink()
        raise PseganError(f"{archive}: is damaged ({error}) and was removed; run the same command again") from None
    except OSError as error:
        reason = error.strerror
        raise PseganError(f"{folder}: cannot be written ({reason}); free space or name another --root") from None
    return folder


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise PseganError(f"{archive}: member {member.filename!r} would be written elsewhere; check --url")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PseganError(f"{archive}: member {member.filename!r} is a link or device; check --url")
