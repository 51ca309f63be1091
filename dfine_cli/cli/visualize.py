"""``dfine visualize``: what a model or a results file finds, as pictures or as a gallery."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.console import StatusLine, print_json, print_out, say
from dfine_cli.cli.eval import Split, find_data
from dfine_cli.cli.options import JsonOption
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.visualize.source import Shown


class Target(str, Enum):
    """What is made."""

    IMAGES = "images"
    HTML = "html"


def command(
    source: Annotated[
        Path, typer.Argument(metavar="MODEL|RESULTS", help="A checkpoint, run folder or COCO results file.")
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A dataset folder, COCO JSON file or config; or an image or folder of images.",
        ),
    ] = None,
    to: Annotated[
        Target, typer.Option(help="Pictures with boxes, or a page that filters them.")
    ] = Target.IMAGES,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where it goes.")] = Path("pictures"),
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Lowest score. Default: that of an evaluation, or the best on this data."
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of the dataset.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one pass.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show what a model or a results file finds, and what is right, wrong and missed where there is ground truth."""
    from dfine_cli.backends.detector import find_weights
    from dfine_cli.visualize.gallery import write_gallery
    from dfine_cli.visualize.pictures import write_pictures
    from dfine_cli.visualize.source import best_threshold

    from_file = source.suffix == ".json"
    weights = None if from_file else find_weights(source)
    shown = _shown_results(source, data, split, images) if weights is None else None
    status = StatusLine()

    def report(done: int, total: int) -> None:
        status.update(f"{done}/{total} images")

    try:
        if shown is None:
            shown = _detect(source, data, split, images, batch, workers, device, report)
        chosen, reason = (threshold, "given") if threshold is not None else best_threshold(shown)
        if to is Target.HTML:
            page, unread = write_gallery(shown, out, source.absolute().name, chosen, report)
            written = [page]
        else:
            written, unread = write_pictures(shown, out, chosen, report)
    finally:
        status.close()
    if unread:
        say(f"note: {unread} of {len(shown.names)} images could not be read")
    if as_json:
        print_json(
            {"out": str(out), "images": len(shown.names), "unread": unread, "files": [str(p) for p in written],
             "threshold": chosen, "threshold_is": reason}
        )  # fmt: skip
        return
    say(f"threshold {chosen:.3f}: {reason}")
    print_out(str(written[0]) if to is Target.HTML else f"{out}: {len(written)} pictures")


def _shown_results(source: Path, data: Path | None, split: Split, images: Path | None) -> "Shown":
    from dfine_cli.visualize.source import show_results

    if data is None:
        raise UsageError("a results file does not say which data it is for", f"dfine visualize {source} DATA")
    return show_results(source, find_data(data, split, images))


def _detect(
    source: Path,
    data: Path | None,
    split: Split,
    images: Path | None,
    batch: int,
    workers: int,
    device: str,
    on_progress: Callable[[int, int], None],
) -> "Shown":
    """Run a model over a dataset, or over images without ground truth."""
    from dfine_cli.backends.detector import open_detector
    from dfine_cli.visualize.source import PICTURES, show_detector, show_pictures

    is_picture = data is not None and data.suffix.lower() in PICTURES
    plain = data is not None and (is_picture or (data.is_dir() and not _is_dataset(data)))
    detector = open_detector(source, device)
    if plain and data is not None:
        return show_pictures(detector, data, batch=batch, workers=workers, on_progress=on_progress)
    files = find_data(data or source, split, images)
    return show_detector(detector, files, batch=batch, workers=workers, on_progress=on_progress)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder holds annotations or a config, rather than only images."""
    return any(True for pattern in ("*.json", "*/*.json", "recipe.yaml") for _ in folder.glob(pattern))
