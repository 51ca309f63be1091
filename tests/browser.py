"""Headless Chromium for tests that look at pages."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
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
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            *options,
            page.as_uri() + (f"#{view}" if view else ""),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
