"""``dfine visualize``: what a model or a results file finds, as pictures, a page, a video or a dataset in FiftyOne."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dfine_cli.cli.console import print_json, print_out, say
from dfine_cli.cli.data import Split
from dfine_cli.cli.downloads import local_weights
from dfine_cli.cli.eval import OF_MODELS
from dfine_cli.cli.fdr import make_fdr
from dfine_cli.cli.fiftyone import make_fiftyone
from dfine_cli.cli.options import ClassesOption, ForceOption, InputSizeOption, JsonOption, to_open_options
from dfine_cli.cli.outputs import AppOptions, Made, Request, make_html, make_images
from dfine_cli.cli.typed import refuse_typed
from dfine_cli.cli.video import make_video
from dfine_cli.errors import UsageError


class Target(str, Enum):
    """What is made."""

    IMAGES = "images"
    HTML = "html"
    VIDEO = "video"
    FDR = "fdr"
    FIFTYONE = "fiftyone"


OUTPUTS: dict[Target, Callable[[Request], Made]] = {
    Target.IMAGES: make_images,
    Target.HTML: make_html,
    Target.VIDEO: make_video,
    Target.FDR: make_fdr,
    Target.FIFTYONE: make_fiftyone,
}
"""What makes each of them."""
BY_CLASS = (Target.IMAGES, Target.VIDEO)
"""Those that may have a threshold for each class."""
OF_DATA = (Target.IMAGES, Target.HTML, Target.FDR, Target.FIFTYONE)
USES: dict[str, tuple[Target, ...]] = {
    "split": OF_DATA,
    "images": OF_DATA,
    "batch": (Target.IMAGES, Target.HTML, Target.VIDEO, Target.FIFTYONE),
    "workers": (Target.IMAGES, Target.HTML, Target.FIFTYONE),
    "frames": (Target.VIDEO,),
    "seconds": (Target.VIDEO,),
    "number": (Target.FDR,),
    "force": (Target.IMAGES, Target.VIDEO, Target.FDR),
    "dataset": (Target.FIFTYONE,),
    "port": (Target.FIFTYONE,),
    "remote": (Target.FIFTYONE,),
    "app": (Target.FIFTYONE,),
}
"""Parameters that not every output has a use for, and those that have."""


def command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RESULTS",
            help="A checkpoint, run folder, exported file, name of `dfine zoo list`, or COCO results file.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="A dataset folder, COCO JSON file or config; an image or folder of images; "
            "for --to video a file, rtsp://… or camera:0.",
        ),
    ] = None,
    to: Annotated[
        Target,
        typer.Option(
            help="Pictures with boxes, a page that filters them, a video with boxes, the edge distributions "
            "of a box layer by layer, or a dataset in FiftyOne."
        ),
    ] = Target.IMAGES,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where it goes. Default: pictures.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Lowest score. Default: that of an evaluation, or the best on this data."
        ),
    ] = None,
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class", help="For images and video: the best threshold of each class, not of all together."
        ),
    ] = False,
    split: Annotated[Split, typer.Option(help="Which part of the dataset.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images in one pass. Default: 16; 1 for a video.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    input_size: InputSizeOption = None,
    classes: ClassesOption = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Most frames of a video or stream.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Longest time of a video or stream.")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--object", min=1, help="For fdr: this detection of an image, 1 the best. Default: the best 3."
        ),
    ] = None,
    force: ForceOption = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name in FiftyOne. Default: after the data.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where FiftyOne's App listens. Default: 5151.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Open no browser here: FiftyOne is looked at from elsewhere.")
    ] = False,
    app: Annotated[
        bool, typer.Option("--app/--no-app", help="Run FiftyOne's App, or only fill its dataset.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Show what a model or a results file finds, and what is right, wrong and missed where there is ground truth."""
    if by_class and (threshold is not None or to not in BY_CLASS):
        raise UsageError(
            "--by-class goes with --to images and video, without --threshold",
            "leave one of them out; the page of --to html has a slider for all classes",
        )
    _refuse_useless(context, to, is_results=Path(source).suffix == ".json", app=app)
    request = Request(
        source=local_weights(source),
        data=data,
        out=out,
        threshold=threshold,
        by_class=by_class,
        split=split,
        images=images,
        batch=batch,
        workers=workers,
        options=to_open_options(device, input_size, classes),
        frames=frames,
        seconds=seconds,
        object=number,
        force=force,
        app=AppOptions(dataset, port, remote, app),
    )
    made = OUTPUTS[to](request)
    for note in made.notes:
        say(f"note: {note}")
    if as_json:
        print_json(made.values)
    else:
        if "threshold" in made.values:
            say(f"threshold {made.values['threshold']:.3f}: {made.values['threshold_is']}")
        print_out(made.line)
    if made.follow is not None:
        made.follow(say if as_json else print_out)


def _refuse_useless(context: typer.Context, to: Target, *, is_results: bool, app: bool) -> None:
    """Refuse options that the output, the source or another option leaves without a use.

    Raises:
        UsageError: Naming the first one.
    """
    for name, targets in USES.items():
        if to not in targets:
            known = " and ".join(f"--to {target.value}" for target in targets)
            refuse_typed(context, [name], f"has no use for --to {to.value}", f"it is for {known}")
    if is_results:
        refuse_typed(context, OF_MODELS, "is for a model, and results need none", "leave it out")
    if not app:
        refuse_typed(context, ("port", "remote"), "is for the App of FiftyOne", "leave --no-app out")
