"""A picture of FiftyOne's App, with what a detector finds on pictures under open licences."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.fiftyone.look import shoot_app

PORT = 5152


def picture_of_app(
    detector: Path, annotations: Path, images: Path, size: str, work: Path, target: Path
) -> None:
    """Show a detector in FiftyOne, and write what the browser shows.

    Args:
        detector: A model of the classes of the data.
        annotations: COCO annotations.
        images: Folder of their images.
        size: Network input, as in ``--input-size``.
        work: A folder for what is kept for a while; FiftyOne's database is in it, and ends with it.
        target: The PNG.
    """
    named = work / f"detector{detector.suffix}"  # for a short name of its field
    named.symlink_to(detector.absolute())
    words = ["visualize", named, annotations, "--images", images, "--input-size", size]
    app = ["--to", "fiftyone", "--remote", "--port", PORT, "--dataset", "coco"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dfine_cli", *map(str, words + app)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        page = next(line.strip() for line in process.stdout if line.startswith("http"))
        shoot_app(page, work / "app_profile", target, "1400,1000")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
