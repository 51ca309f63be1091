"""``dfine demo``: draw a dataset, then do with it what a user would: init, train, eval, look."""

from pathlib import Path
from typing import Annotated

import typer

from dfine_cli.cli.console import print_json, print_next, print_out, say
from dfine_cli.cli.options import DeviceOption, JsonOption


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("demo"),
    images: Annotated[
        int, typer.Option(min=8, help="Training images; a quarter as many for validation.")
    ] = 320,
    size: Annotated[
        int, typer.Option(min=64, help="Side of the pictures in pixels, a multiple of 32.")
    ] = 192,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of pictures and training.")] = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a dataset and train D-FINE-N on it from scratch, with pictures of what it finds."""
    from dfine_cli.cli.monitor import ConsoleMonitor
    from dfine_cli.demo import run_demo

    monitor = ConsoleMonitor()
    try:
        result = run_demo(
            out, images=images, side=size, epochs=epochs, seed=seed, device=device or "auto", monitor=monitor
        )
    finally:
        monitor.status.close()
    say("")
    if as_json:
        print_json(result.to_dict())
    else:
        print_out(f"val AP {result.numbers['AP']:.3f}, AP50 {result.numbers['AP50']:.3f}")
        print_out(f"trained in {result.seconds:.0f} s; curves: {result.run / 'curves.png'}")
        print_out(f"pictures: {result.sheet}")
    print_next(f"dfine eval {result.run} {result.data}")
