"""The real FiftyOne with its real database, in processes of their own: it is global where it is imported."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import cv2
import pytest

from dfine_cli.data.synthetic import write_dataset

SIZE = 128
FAR = [4, 4, 12, 12]
"""A box in a corner, [x, y, width, height]."""


class Ended(NamedTuple):
    """What a process has left."""

    code: int
    out: str
    err: str


class FiftyOne(NamedTuple):
    """How to run commands that use FiftyOne."""

    folder: Path
    environment: dict[str, str]

    def dfine(self, *words: object, **more: str) -> Ended:
        """Run ``dfine visualize … --to fiftyone``."""
        return self.python("-m", "dfine_cli", "visualize", *words, "--to", "fiftyone", **more)

    def python(self, *words: object, **more: str) -> Ended:
        """Run Python."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def serving(self, *words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A ``dfine visualize … --to fiftyone`` whose App runs, and its address."""
        with (self.folder / "app.err").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "dfine_cli", "visualize", *map(str, words), "--to", "fiftyone"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            page = next((line.strip() for line in lines if line.startswith("http")), None)
            assert page is not None, (self.folder / "app.err").read_text()
            yield process, page
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> FiftyOne:
    """FiftyOne in an empty home."""
    folder = tmp_path_factory.mktemp("fiftyone")
    root = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE")}
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    own = {"DFINE_HOME": str(folder / "home"), "HOME": str(folder), "PYTHONPATH": paths}
    return FiftyOne(folder, kept | own | _server_environment(folder))


def _server_environment(folder: Path) -> dict[str, str]:
    """What MongoDB 6 needs on a system without OpenSSL 1.1: that of OpenCV's wheel, under its usual name."""
    spec = find_spec("cv2")
    assert spec is not None and spec.origin is not None
    packages = Path(spec.origin).parents[1]
    found = (f for f in packages.glob("opencv_python*.libs") if list(f.glob("libssl-*.so.1.1*")))
    wheel = next(found, None)
    if wheel is None:  # another system, whose server is another too
        return {}
    links = folder / "openssl"
    links.mkdir()
    for name in ("libcrypto", "libssl"):
        (links / f"{name}.so.1.1").symlink_to(next(wheel.glob(f"{name}-*.so.1.1*")))
    return {
        "LD_LIBRARY_PATH": f"{links}:{wheel}",
        "FIFTYONE_DATABASE_VALIDATION": "false",  # it asks for more than what FiftyOne itself accepts
    }


@pytest.fixture(scope="module")
def data(fiftyone: FiftyOne) -> Path:
    """A dataset of 12 images in shades of grey, and results of two models: ``good.json`` and ``poor.json``.

    The good one finds all but the first object of every image, and something in the corner of the first image;
    the poor one finds nothing on half of the images.
    """
    folder = fiftyone.folder / "shapes"
    _, val = write_dataset(folder, train=1, val=12, size=(SIZE, SIZE), seed=0)
    for path in (folder / "val").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    annotations = json.loads(val.read_text())["annotations"]
    seen: set[int] = set()
    found = []
    for entry in annotations:
        if entry["image_id"] in seen:
            x, y, width, height = entry["bbox"]
            beside = [x + 1, y + 1, width, height]
            score = 0.9 - 0.01 * len(seen)
            found.append(
                {k: entry[k] for k in ("image_id", "category_id")} | {"bbox": beside, "score": score}
            )
        seen.add(entry["image_id"])
    first = annotations[0]
    wrong = {"image_id": first["image_id"], "category_id": first["category_id"], "bbox": FAR, "score": 0.95}
    (folder / "good.json").write_text(json.dumps([*found, wrong]))
    half = sorted(seen)[::2]
    (folder / "poor.json").write_text(json.dumps([r for r in found if r["image_id"] in half]))
    return folder
