"""``dfine visualize --to fdr``: why a box is where it is, and how sure the detector is of each edge."""

from pathlib import Path
from typing import TYPE_CHECKING

from dfine_cli.cli.outputs import Made, Request, counted, folder_for, images_of
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.backends.refinement import Refinement
    from dfine_cli.backends.torch_backend import TorchDetector

BEST = 3
"""Detections of an image that are drawn if none is asked for."""


def make_fdr(request: Request) -> Made:
    """A figure for each of the best detections of each image, or for the one that is asked for."""
    from dfine_cli.backends.refinement import trace_refinement
    from dfine_cli.data.images import ImageError, read_image
    from dfine_cli.data.preprocess import resize
    from dfine_cli.visualize.fdr_figure import write_figure
    from dfine_cli.visualize.pictures import check_pictures, keeping

    if request.data is None:
        raise UsageError("give the image to look at", f"dfine visualize {request.source} IMAGE --to fdr")
    out = folder_for(request, "fdr")
    detector = _open(request)
    images = images_of(request)
    numbers = range(1, BEST + 1) if request.object is None else [request.object]
    check_pictures([_place(out, name, n) for name in images for n in numbers], images.values(), request.force)
    files: list[Path] = []
    notes: list[str] = []
    with counted("images") as report, keeping(files):
        for done, (name, path) in enumerate(images.items(), 1):
            try:
                picture = read_image(path, detector.exif)
            except ImageError as error:
                if len(images) == 1:
                    raise
                notes.append(error.message)
                continue
            height, width = picture.shape[:2]
            traced = trace_refinement(
                detector, resize(picture, detector.input_size), (height, width), request.object or BEST
            )
            for number, found in _chosen(traced, request):
                title = f"{detector.classes.names[found.label]} {found.score:.2f}"
                target = _place(out, name, number)
                write_figure(picture, found, title, target)
                files.append(target)
            report(done, len(images))
    values = {"out": str(out), "images": len(images), "unread": len(notes), "files": [str(f) for f in files]}
    line = str(files[0]) if len(files) == 1 else f"{out}: {len(files)} figures of {len(images)} images"
    return Made(line, values, notes)


def _place(out: Path, name: str, number: int) -> Path:
    """Where the figure of a detection goes."""
    from dfine_cli.visualize.pictures import picture_name

    place = out / picture_name(name)
    return place.with_name(f"{place.stem}_{number}.png")


def _chosen(traced: "list[Refinement]", request: Request) -> "list[tuple[int, Refinement]]":
    """The detections that are drawn, with their place among all, from 1.

    Raises:
        UsageError: There is no detection at the place that is asked for.
    """
    if request.object is not None and request.object > len(traced):
        raise UsageError(
            f"--object {request.object}: the model gives {len(traced)} detections of an image",
            "give a smaller number; 1 is the best",
        )
    least = request.threshold or 0.0
    numbered = [(number, found) for number, found in enumerate(traced, 1) if found.score >= least]
    return [(n, found) for n, found in numbered if request.object in (None, n)]


def _open(request: Request) -> "TorchDetector":
    """The detector, in PyTorch.

    Raises:
        UsageError: It is anything else, which has no distributions to show.
    """
    from dfine_cli.backends.detector import TRAINED, find_weights, open_detector

    if request.is_results:
        raise UsageError(
            f"{request.source}: results have no edge distributions", "give a checkpoint or a run folder"
        )
    file = find_weights(request.source)
    if file.suffix.lower() not in TRAINED:
        raise UsageError(
            f"{file}: an exported file gives boxes alone, without the edge distributions behind them",
            "give the checkpoint or run folder that it was made from",
        )
    from dfine_cli.backends.torch_backend import TorchDetector

    detector = open_detector(file, options=request.options)
    assert isinstance(detector, TorchDetector)
    return detector
