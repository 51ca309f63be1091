"""Downloads that survive bad networks: they resume, try again, and leave a file whole or not at all."""

from __future__ import annotations

import errno
import http.client
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from dfine_cli import __version__
from dfine_cli.errors import DfineError

_BLOCK = 1 << 16
_OK, _PARTIAL, _TIMEOUT, _RANGE, _BUSY = 200, 206, 408, 416, 429


class Progress(Protocol):
    """Is told how a download goes; called often."""

    def __call__(self, done: int, total: int | None, trouble: str = "") -> None:
        """Some of it has come.

        Args:
            done: Bytes that are there.
            total: Bytes of the whole file; None if the server does not say.
            trouble: Why it is tried again, if it is.
        """


def silent(done: int, total: int | None, trouble: str = "") -> None:
    """A ``Progress`` that shows nothing."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask it again."""

    timeout_s: float = 30.0
    """Seconds without a byte after which a connection is given up."""
    pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Pause before each new attempt; after the last one it has failed. Any byte that comes starts it afresh."""
    sleep: Callable[[float], None] = time.sleep
    """Waits."""


class _BrokenError(Exception):
    """The connection failed in a way that another attempt may mend."""


class _UnreachableError(Exception):
    """There is no way to the server at all, as without a network."""


def download(
    url: str,
    part: Path,
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
    offline_hint: str = "",
) -> None:
    """Bring what is at ``url`` into the file ``part``, going on from what is there.

    Args:
        url: An ``http`` or ``https`` address.
        part: Where the bytes go; kept when it fails half-way, so that another call goes on from there.
        progress: Is told how it goes.
        patience: How long to wait and how often to try again.
        offline_hint: What the user can do without a network.

    Raises:
        DfineError: The server cannot be reached, does not have the file, or sends a web page instead.
    """
    patience = patience or Patience()
    pauses = list(patience.pauses_s)
    while True:
        before = _size(part)
        try:
            _attempt(url, part, progress, patience.timeout_s)
            return
        except _UnreachableError as error:
            raise DfineError(f"{_host(url)} cannot be reached: {error}", offline_hint) from error
        except _BrokenError as error:
            if _size(part) > before:
                pauses = list(patience.pauses_s)
            if not pauses:
                raise DfineError(
                    f"{url}: the download failed: {error}",
                    f"run it again to go on from {_size(part)} bytes; or {offline_hint}"
                    if offline_hint
                    else "",
                ) from error
            progress(_size(part), None, str(error))
            patience.sleep(pauses.pop(0))
        except OSError as error:
            raise _of_disk(part, error) from error


def copy(source: Path, part: Path, progress: Progress = silent) -> None:
    """Bring the file ``source`` into ``part``; on failure there is none.

    Raises:
        DfineError: It cannot be read, or there is no room for it.
    """
    try:
        with source.open("rb") as incoming, part.open("wb") as file:
            shutil.copyfileobj(incoming, file, _BLOCK)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _of_disk(part, error) from error
    progress(_size(part), _size(part))


def _attempt(url: str, part: Path, progress: Progress, timeout_s: float) -> None:
    """One connection: ask for what is missing, and add it."""
    tag = part.with_name(f"{part.name}.tag")
    have = _size(part)
    try:
        with _ask(url, have, _read(tag), timeout_s) as response:
            if "text/html" in response.headers.get("Content-Type", ""):
                raise DfineError(
                    f"{url}: sent a web page instead of the file",
                    "the network may ask for a login; try a browser",
                )
            start = have if response.status == _PARTIAL and _first_byte(response) == have else 0
            if response.status == _PARTIAL and start != have:
                part.unlink()
                raise _BrokenError("the server sent another part of the file than asked for")
            _write_tag(tag, response)
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            with part.open("ab" if start else "wb") as file:
                _pour(response, file, start, total, progress)
        if total is not None and _size(part) != total:
            raise _BrokenError(f"the connection was cut after {_size(part)} of {total} bytes")
        tag.unlink(missing_ok=True)
    except urllib.error.HTTPError as error:
        _on_status(url, part, tag, error)
    except urllib.error.URLError as error:
        raise _of_connection(error.reason) from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise _of_connection(error) from error


def _ask(url: str, have: int, tag: str, timeout_s: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": f"dfine/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag:  # the whole file comes if it is no longer the one that the first bytes are of
            request.add_header("If-Range", tag)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
    return response


def _pour(
    response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None, progress: Progress
) -> None:
    """Write what comes as it comes: ``read`` would wait for a whole block, and lose half of one to a timeout."""
    progress(done, total)
    while done != total and (block := response.read1(_BLOCK)):
        file.write(block)
        done += len(block)
        progress(done, total)


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    """Where a part of a file begins, of ``Content-Range: bytes 100-199/200``."""
    _, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if first.isdigit() else None


def _write_tag(tag: Path, response: http.client.HTTPResponse) -> None:
    """Keep what tells this file from its successor at the same address."""
    value = response.headers.get("ETag", "")
    if value and not value.startswith("W/"):  # weak ones do not promise the same bytes
        tag.write_text(value)
    else:
        tag.unlink(missing_ok=True)


def _on_status(url: str, part: Path, tag: Path, error: urllib.error.HTTPError) -> None:
    """What an answer that is not the file means: it was whole already, it may come later, or it never will."""
    with error:
        if error.code == _RANGE:
            whole = error.headers.get("Content-Range", "").rpartition("/")[2]
            if whole == str(_size(part)):
                tag.unlink(missing_ok=True)
                return
            part.unlink(missing_ok=True)
            raise _BrokenError("what was there does not belong to the file") from error
        if error.code in (_TIMEOUT, _BUSY) or error.code >= 500:
            raise _BrokenError(f"the server answered {error.code} {error.reason}") from error
        raise DfineError(
            f"{url}: the server answered {error.code} {error.reason}",
            "the file may have moved; look for it on the page of its publisher",
        ) from error


def _of_connection(reason: object) -> _BrokenError | _UnreachableError:
    gone = (errno.ENETUNREACH, errno.EHOSTUNREACH)
    if isinstance(reason, socket.gaierror) or (isinstance(reason, OSError) and reason.errno in gone):
        return _UnreachableError(reason.strerror or str(reason))
    return _BrokenError(str(reason) or type(reason).__name__)


def _of_disk(part: Path, error: OSError) -> DfineError:
    return DfineError(
        f"{error.filename or part}: {error.strerror or error}",
        "free some space, or set DFINE_HOME to a folder that can be written",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(tag: Path) -> str:
    return tag.read_text() if tag.exists() else ""


def _host(url: str) -> str:
    return urlsplit(url).netloc or url
