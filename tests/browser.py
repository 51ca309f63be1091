"""Headless Chromium for tests that look at pages."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


def browse(page: Path, profile: Path, *options: str, view: str = "") -> subprocess.CompletedProcess[str]:
    """Open a page in a browser that may not reach anything.

    Args:
        page: The file.
        profile: Folder for what the browser keeps.
        options: ``--dump-dom``, ``--screenshot=FILE`` and such.
        view: What follows ``#`` in the address.
    """
    if BROWSER is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    return subprocess.run(
        [
            BROWSER,
            *QUIET,
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            *options,
            page.as_uri() + (f"#{view}" if view else ""),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )


class Tab:
    """A page in a browser that runs, looked at and waited for by Chromium's DevTools protocol.

    Args:
        commands: Where messages go.
        answers: Where they come from.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: dict[str, str] = {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def open(self, address: str) -> None:
        """Go to a page, without waiting for it."""
        self._ask("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 60) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + timeout_s
        while not self.value(script):
            text = self.value("document.body.innerText")
            assert time.monotonic() < deadline, (
                f"not true after {timeout_s} s: {script}; the page says {text}"
            )
            time.sleep(0.2)

    def settle(self, quiet_s: float = 1, timeout_s: float = 30) -> None:
        """Wait until what is seen has not changed for a while."""
        deadline, before, since = time.monotonic() + timeout_s, "", time.monotonic()
        while time.monotonic() - since < quiet_s:
            assert time.monotonic() < deadline, f"the page still changes after {timeout_s} s"
            now = self._ask("Page.captureScreenshot", format="png")["data"]
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.2)

    def shoot(self, file: Path) -> None:
        """Write what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                part = os.read(self._answers, 1 << 16)
                assert part, "the browser has ended"
                self._rest += part
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]


@contextmanager
def tab(profile: Path, size: str = "1400,900") -> Iterator[Tab]:
    """A browser that reaches nothing but this machine, with one page.

    Args:
        profile: Folder for what the browser keeps.
        size: Width and height of the page in pixels.
    """
    if BROWSER is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    (their_in, commands), (answers, their_out) = os.pipe(), os.pipe()

    def give() -> None:  # Chromium reads commands from 3 and answers on 4
        ours = os.dup(their_in), os.dup(their_out)
        os.dup2(ours[0], 3)
        os.dup2(ours[1], 4)

    process = subprocess.Popen(
        [
            BROWSER,
            *QUIET,
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
            f"--window-size={size}",
            "--remote-debugging-pipe",
        ],
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=give,
    )
    os.close(their_in)
    os.close(their_out)
    try:
        yield Tab(commands, answers)
    finally:
        os.close(commands)
        process.wait(30)
        os.close(answers)
