"""Images per second of the training loader alone, and its processor time, which other programs disturb less.

    python tests/benchmarks/bench_loader.py ANNOTATIONS.json IMAGES [--side 320] [--mosaic 0.8]

The first epoch decodes every file; later ones find small data sets decoded (``data.cache``).
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does

from dfine_cli.config.schema import Augment
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.data.loader import TrainLoader
from dfine_cli.phases import Phase


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--mosaic", type=float, default=0.8)
    options = parser.parse_args()
    file = load_coco(options.annotations)
    dataset = CocoDataset(file, options.images, ClassMap.build(file.categories, "auto"))
    for workers in (0, 1, 2):
        for phase, mosaic in ((Phase.PLAIN, 0.0), (Phase.DENSE, options.mosaic)):
            loader = TrainLoader(
                dataset,
                augment=Augment(mosaic=mosaic),
                input_size=(options.side, options.side),
                batch=options.batch,
                workers=workers,
                seed=0,
            )
            rates, seen, before = [], 0, processor_time()
            for epoch in range(4):
                started = time.perf_counter()
                images = sum(len(batch.images) for batch in loader.epoch(epoch, phase))
                seen += images
                rates.append(images / (time.perf_counter() - started))
            loader.close()
            milliseconds = (processor_time() - before) / seen * 1000
            print(
                f"{workers} workers, {phase.value:6} first epoch {rates[0]:6.0f} images/s, "
                f"later {sorted(rates[1:])[1]:6.0f}; {milliseconds:.1f} ms of processor time an image"
            )


def processor_time() -> float:
    """Seconds used by this process and by children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
