"""Downloads that can be resumed, and zip files that can't write outside of their folder."""

import lzma
import os
import re
import shutil
import sys
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pooch
import requests
from tqdm import tqdm

from psegan.common.errors import PseganError, causes

CHUNK = 1 << 13
"""Bytes that are written at a time; a broken connection loses fewer than these."""
TIMEOUT = (15, 60)
"""Seconds to wait for a connection, and for the next bytes."""
_DAMAGED = zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError
LARGEST = 2 * 2**30
"""Bytes that an archive may unpack to."""


def _download(part: Path, url: str, output_file: str, pooch: object) -> None:
    """Download for :func:`pooch.retrieve`, continuing after the bytes that ``part`` holds (HTTP Range, RFC 9110)."""
    start = part.stat().st_size if part.exists() else 0
    # without compression, so that the server counts the file's own bytes
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") != f"bytes */{start}":  # not the beginning of this file
                part.unlink()
                return _download(part, url, output_file, pooch)
        else:
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0  # the server sends the whole file
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            bar = {"total": total, "initial": start, "unit": "B", "unit_scale": True, "desc": part.stem}
            with part.open("ab" if start else "wb") as raw, tqdm.wrapattr(raw, "write", file=sys.stderr, **bar) as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
            if total is not None and part.stat().st_size < total:
                raise requests.ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    os.replace(part, output_file)


def fetch(url: str, checksum: str | None, folder: Path) -> Path:
    """Download ``url`` into ``folder``, continuing what an earlier run has left there, and return the complete file.

    Args:
        url: http or https.
        checksum: ``algorithm:hex`` (md5, sha256, ...); None prints the SHA-256 of the file instead of checking it.
        folder: made if it does not exist.

    Raises:
        PseganError: the network fails, the folder cannot be written, or the file has another checksum.
    """
    try:
        address = urlsplit(url)
        valid = address.scheme in ("http", "https") and (address.hostname or "").encode("idna")
    except ValueError:
        valid = False
    if not valid:
        raise PseganError(f"{url}: not an http or https address; correct --url")
    if checksum is not None and not re.fullmatch(r"(md5|sha1|sha256|sha512):[0-9a-fA-F]+", checksum):
        raise PseganError(
            f"--checksum is {checksum!r}, but must be ALGORITHM:HEX (md5, sha1, sha256 or sha512) or 'none'"
        )
    name = PurePosixPath(unquote(address.path)).name or "archive.zip"
    part = folder / f"{name}.part"
    pooch.get_logger().setLevel("ERROR")  # the progress bar says enough
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = pooch.retrieve(url, checksum, fname=name, path=folder, downloader=partial(_download, part))
    except requests.HTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise PseganError(f"{url}: the server answers {status}; try later, or give another address by --url") from None
    except (requests.RequestException, TimeoutError) as error:
        kept = f", {part.stat().st_size} bytes are kept" if part.exists() else ""
        raise PseganError(
            f"{url}: download failed ({_why(error)}){kept}; run the same command again to resume"
        ) from None
    except OSError as error:
        reason = str(error.strerror)
        raise PseganError(f"{folder}: cannot be written ({reason}); free space or name another --root") from None
    except ValueError:  # pooch found another checksum and has removed the file
        raise PseganError(
            f"{url}: the file's checksum is not {checksum}, so it was removed; run the same command again, or give "
            "--checksum if the publisher has changed the file"
        ) from None
    if checksum is None:
        print(f"{name}: no checksum is published; obtained sha256:{pooch.file_hash(path)}")
    return Path(path)


def _why(error: Exception) -> str:
    """In our own words: those of the libraries below are of their objects."""
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection can be made"
    if isinstance(error, requests.Timeout | TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects in circles"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "the address is malformed"
    reasons = [cause.strerror for cause in causes(error) if isinstance(cause, OSError) and cause.strerror]
    return reasons[-1] if reasons else "the connection broke"


def unpack(archive: Path, folder: Path, most: int = LARGEST) -> Path:
    """Unpack a zip file of at most ``most`` bytes, unpacked, into a fresh ``folder``, and return the folder.

    Raises:
        PseganError: the archive is too large or damaged; a damaged one is removed, so that the next run downloads it again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            size = sum(member.file_size for member in members)
            if size > most:
                raise PseganError(f"{archive}: would unpack to {size} bytes, more than {most}; check --url")
            for member in tqdm(members, desc="unpacking", unit="file", file=sys.stderr):
                # reads no more than the size stated above, verifies the CRC, makes no links and stays in the folder
                zipped.extract(member, folder)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.strerror:  # bz2 has an OSError of its own for what is damaged
            reason = error.strerror
            raise PseganError(f"{folder}: cannot be written ({reason}); free space or name another --root") from None
        archive.unlink()
        raise PseganError(f"{archive}: is damaged and was removed; run the same command again") from None
    return folder
