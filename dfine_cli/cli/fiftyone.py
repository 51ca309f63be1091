"""``dfine visualize --to fiftyone``: a dataset in FiftyOne, and its App until Ctrl-C."""

import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from dfine_cli.cli.console import say
from dfine_cli.cli.outputs import Made, Request, counted, place_of, show
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.visualize.fiftyone_bridge import Bridged


def make_fiftyone(request: Request) -> Made:
    """A dataset in FiftyOne, whose App runs once it is told."""
    from dfine_cli.visualize.fiftyone_app import choose_address, page_of
    from dfine_cli.visualize.fiftyone_bridge import dataset_name, find_dataset, open_dataset, put_model
    from dfine_cli.visualize.fiftyone_database import connect, load_fiftyone
    from dfine_cli.zoo.cache import home

    if request.out is not None:
        raise UsageError("--out has no use here: FiftyOne has its own database", "name it with --dataset")
    # What can be refused is refused before the model runs.
    fiftyone = load_fiftyone()
    listen = choose_address(fiftyone, request.app.port) if request.app.serve else None
    place = place_of(request)
    origin = place if isinstance(place, Path) else place.json
    if not origin.exists():
        raise UsageError(
            f"{origin}: no such file or folder", "give an image, a folder of images or a dataset"
        )
    connect(home() / "fiftyone")
    name = request.app.dataset or dataset_name(origin)
    find_dataset(fiftyone, name, origin)
    with counted("images") as report:
        shown, threshold, reason = show(request, report)
        dataset = open_dataset(fiftyone, name, origin)
        made = put_model(fiftyone, dataset, shown, request.source, threshold, report)
    notes = [f"{made.unread} of {len(shown.names)} images could not be read"] if made.unread else []
    notes += [f"{other} was judged by other annotations: show it again" for other in made.outdated]
    values = {
        "dataset": name,
        "field": made.model,
        "other_fields": made.others,
        "images": made.images,
        "unread": made.unread,
        "views": made.views,
        "threshold": threshold,
        "threshold_is": reason,
    }
    beside = f", beside {', '.join(made.others)}" if made.others else ""
    line = f"{name} in FiftyOne: {made.images} images, detections in {made.model}{beside}, {len(made.views)} views"
    if listen is None:
        return Made(line, values, notes)
    address, port = listen
    values["address"] = page_of(fiftyone, made, address, port)
    return Made(line, values, notes, partial(_serve, fiftyone, made, address, port, request.app.remote))


def _serve(
    fiftyone: ModuleType, made: "Bridged", address: str, port: int, remote: bool, tell: Callable[[str], None]
) -> None:
    """Run the App until Ctrl-C."""
    from dfine_cli.visualize.fiftyone_app import app, is_local

    with app(fiftyone, made, address, port, remote) as page:
        tell(page)
        sys.stdout.flush()  # nobody would see it before the end
        if remote and is_local(address):
            say(
                f"from another machine: ssh -N -L {port}:127.0.0.1:{port} USER@THIS-MACHINE, then this address"
            )
        say("Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("\nended; the dataset stays")
