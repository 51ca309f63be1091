"""A real HTTP server on the loopback that serves files, well or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Content by path."""
    ranges: bool = True
    """Whether it honours ``Range``."""
    etag: str | None = '"one"'
    """Sent with every file, and compared with ``If-Range``."""
    cut_after: list[int] = field(default_factory=list)
    """For each answer to come: bytes after which the connection is cut."""
    stall_after: list[int] = field(default_factory=list)
    """The same, but the connection stays open and silent."""
    trickle: int = 0
    """Bytes that it sends at a time, with pauses; 0 for all at once."""
    statuses: list[int] = field(default_factory=list)
    """Answers to come before the file is sent."""
    redirects: dict[str, str] = field(default_factory=dict)
    """New path by path."""
    content_type: str = "application/octet-stream"
    """Sent with every file."""
    say_length: bool = True
    """Whether it says how long a file is."""
    wrong_range: bool = False
    """Whether it sends another part than asked for, once."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and ``Range`` of each request."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends silent connections."""
    url: str = ""
    """Address of the root, without a slash at the end."""


class _Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        todo = self.behaviour
        wanted = self.headers.get("Range")
        todo.asked.append((self.path, wanted))
        if self.path in todo.redirects:
            self._answer(302, {"Location": todo.redirects[self.path]})
        elif todo.statuses:
            self._answer(todo.statuses.pop(0), {})
        elif self.path not in todo.files:
            self._answer(404, {})
        else:
            self._send(todo.files[self.path], wanted)

    def _send(self, content: bytes, wanted: str | None) -> None:
        todo, start = self.behaviour, 0
        same = self.headers.get("If-Range") in (None, todo.etag)
        if wanted and todo.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            if todo.wrong_range:
                todo.wrong_range, start = False, start + 1
        headers = {"Content-Type": todo.content_type}
        if todo.etag:
            headers["ETag"] = todo.etag
        if todo.say_length:
            headers["Content-Length"] = str(len(content) - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._headers(206 if start else 200, headers)
        self._body(content[start:])

    def _body(self, content: bytes) -> None:
        todo = self.behaviour
        if todo.cut_after:
            content = content[: todo.cut_after.pop(0)]
            self.close_connection = True
        stalls = bool(todo.stall_after)
        content = content[: todo.stall_after.pop(0)] if stalls else content
        step = todo.trickle or len(content) or 1
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            self.wfile.flush()
            if todo.trickle:
                time.sleep(0.01)
        if stalls:
            todo.released.wait()
            self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self._headers(status, {**headers, "Content-Length": "0"})

    def _headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Serve on a free port of the loopback."""
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    behaviour.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield behaviour
    finally:
        behaviour.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
