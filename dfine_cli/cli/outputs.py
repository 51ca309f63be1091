"""What ``dfine visualize`` is asked for and what it answers, and the outputs that show images: pictures and a page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfine_cli.cli.console import StatusLine
from dfine_cli.cli.options import check_place
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.backends.detector import OpenOptions
    from dfine_cli.cli.data import Split
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.visualize.source import Shown

_LEAST_S = 0.5
"""Seconds after which a rate means something."""
ANNOTATIONS = (".json", ".yaml", ".yml")
"""Suffixes of files that name images."""


@dataclass(frozen=True)
class AppOptions:
    """What concerns FiftyOne alone."""

    dataset: str | None = None
    """Name of the dataset; None for one after the data."""
    port: int | None = None
    """None for FiftyOne's usual one."""
    remote: bool = False
    """Whether the browser is on another machine."""
    serve: bool = True
    """Whether the App is to run."""


@dataclass(frozen=True)
class Request:
    """The words and options of one call."""

    source: Path
    """A checkpoint, run folder, artefact or results file; a name of the zoo is already the file behind it."""
    data: str | None
    """What it is shown on: a path, or the address of a stream or camera."""
    out: Path | None
    """None where each kind of output has its usual place."""
    threshold: float | None
    by_class: bool
    """Whether each class has its own threshold, where one is known."""
    split: "Split"
    images: Path | None
    batch: int | None
    workers: int
    options: "OpenOptions"
    """How the model is opened."""
    frames: int | None = None
    """Most frames of a video."""
    seconds: float | None = None
    """Longest time of a video."""
    object: int | None = None
    """The detection to look at, by its place among those of an image; 1 is the best."""
    force: bool = False
    """Whether a file that is there may be replaced."""
    app: AppOptions = AppOptions()

    @property
    def is_results(self) -> bool:
        """Whether the source is a file of COCO results rather than a model."""
        return self.source.suffix == ".json"


@dataclass(frozen=True)
class Made:
    """What came out."""

    line: str
    """The result, for stdout."""
    values: dict[str, Any]
    """The same for ``--json``."""
    notes: list[str] = field(default_factory=list)
    """What should be known about it."""
    follow: Callable[[Callable[[str], None]], None] | None = None
    """What is done once all that is told, and may last; it is given what prints a line of the result."""


def make_images(request: Request) -> Made:
    """One picture per image."""
    from dfine_cli.visualize.pictures import WRITTEN, check_pictures, picture_name, write_pictures
    from dfine_cli.visualize.source import PICTURES, class_thresholds

    out = request.out or Path("pictures")
    check_place("--out", out)
    single = out.suffix.lower() in WRITTEN and not out.is_dir()
    if not single:
        out = folder_for(request, "pictures")
    elif Path(request.data or "").suffix.lower() not in PICTURES:
        raise UsageError(f"--out {out}: is one file, for many images", "give a folder")
    images = images_of(request)
    targets = [out] if single else [out / picture_name(name) for name in images]
    check_pictures(targets, images.values(), request.force)
    with counted("images") as report:
        shown, threshold, reason = show(request, report)
        least = class_thresholds(shown, threshold) if request.by_class else threshold
        written, unread = write_pictures(shown, out, least, report)
    line = str(out) if written == [out] else f"{out}: {len(written)} pictures"
    return _made(line, shown, out, written, unread, threshold, reason)


def make_html(request: Request) -> Made:
    """A page that filters images and boxes."""
    from dfine_cli.visualize.gallery import check_gallery, write_gallery

    out = folder_for(request, "pictures")
    check_gallery(out)
    with counted("images") as report:
        shown, threshold, reason = show(request, report)
        page, unread = write_gallery(shown, out, request.source.absolute().name, threshold, report)
    return _made(str(page), shown, out, [page], unread, threshold, reason)


def folder_for(request: Request, usual: str) -> Path:
    """The folder that is written into; ``usual`` if none is given.

    Raises:
        UsageError: It cannot be one.
    """
    out = request.out or Path(usual)
    check_place("--out", out)
    if out.is_file():
        raise UsageError(f"--out {out}: is a file", "give a folder")
    return out


@contextmanager
def counted(noun: str) -> Iterator[Callable[[int, int], None]]:
    """A status with a rate; call what it gives with how many are done, and of how many (0: nobody knows)."""
    status, started = StatusLine(), time.monotonic()
    last = 0

    def report(done: int, total: int) -> None:
        nonlocal started, last
        if done < last:  # the next part of the work counts anew
            started = time.monotonic()
        last = done
        spent_s = time.monotonic() - started
        rate = f", {done / spent_s:.1f}/s" if spent_s > _LEAST_S else ""
        status.update(f"{done}{f'/{total}' if total else ''} {noun}{rate}")

    try:
        yield report
    finally:
        status.close()


def show(request: Request, report: Callable[[int, int], None]) -> "tuple[Shown, float, str]":
    """What is to be seen, the lowest score that is shown, and why it is this one.

    Raises:
        UsageError: Nothing says which data it is, or the data is none.
        DfineError: Model, results or data cannot be read.
    """
    from dfine_cli.visualize.source import best_threshold

    shown = _results_shown(request) if request.is_results else _detected(request, report)
    if request.threshold is not None:
        return shown, request.threshold, "given"
    return shown, *best_threshold(shown)


def place_of(request: Request) -> "SplitFiles | Path":
    """What it is shown on: a split with ground truth; or an image, or a folder of images, without.

    Raises:
        UsageError: Nothing says which data it is, or the data is none.
    """
    from dfine_cli.cli.data import find_data
    from dfine_cli.visualize.frames import is_moving
    from dfine_cli.visualize.source import PICTURES

    if request.data is not None and is_moving(request.data):
        raise UsageError(f"{request.data}: is a stream or camera", "add --to video")
    place = None if request.data is None else Path(request.data)
    if request.is_results and place is None:
        raise UsageError(
            "a results file does not say which data it is for", f"dfine visualize {request.source} DATA"
        )
    if place is not None and not request.is_results:
        if place.is_file() and place.suffix.lower() not in (*PICTURES, *ANNOTATIONS):
            raise UsageError(
                f"{place}: neither an image nor annotations",
                f"known: {', '.join((*PICTURES, *ANNOTATIONS))}, and folders of them; --to video for a video",
            )
        is_picture = place.suffix.lower() in PICTURES
        if is_picture or (place.is_dir() and not _is_dataset(place)):
            if request.images is not None:
                raise UsageError(f"--images {request.images}: {place} is what is shown", "leave --images out")
            return place
    return find_data(place or request.source, request.split, request.images)


def images_of(request: Request) -> dict[str, Path]:
    """The images by name: the one that is given, those of a folder, or those of a split of a dataset.

    Raises:
        UsageError: There are none.
        CheckError: The annotations cannot be read.
    """
    from dfine_cli.data.coco import find_image
    from dfine_cli.evaluation.truth import read_truth
    from dfine_cli.visualize.source import find_pictures

    place = place_of(request)
    if isinstance(place, Path):
        folder, names = find_pictures(place)
        return {name: folder / name for name in names}
    named = filter(None, read_truth(place.json).file_names)
    return {name: find_image(name, place.images, place.json.parent) for name in named}


def _results_shown(request: Request) -> "Shown":
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.visualize.source import show_results

    files = place_of(request)
    assert isinstance(files, SplitFiles)  # for results there is nothing else
    return show_results(request.source, files)


def _detected(request: Request, report: Callable[[int, int], None]) -> "Shown":
    """Run a model over a dataset, or over images without ground truth."""
    from dfine_cli.backends.detector import open_detector
    from dfine_cli.visualize.source import show_detector, show_pictures

    place = place_of(request)
    detector = open_detector(request.source, options=request.options)
    how = {"batch": request.batch or 16, "workers": request.workers}
    if isinstance(place, Path):
        return show_pictures(detector, place, **how, on_progress=report)
    return show_detector(detector, place, **how, on_progress=report)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder holds annotations or a config, rather than only images."""
    return any(True for pattern in ("*.json", "*/*.json", "recipe.yaml") for _ in folder.glob(pattern))


def _made(
    line: str, shown: "Shown", out: Path, files: list[Path], unread: int, threshold: float, reason: str
) -> Made:
    values = {
        "out": str(out),
        "images": len(shown.names),
        "unread": unread,
        "files": [str(path) for path in files],
        "threshold": threshold,
        "threshold_is": reason,
    }
    notes = [f"{unread} of {len(shown.names)} images could not be read"] if unread else []
    return Made(line, values, notes)
