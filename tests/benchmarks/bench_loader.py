"""Images per second of the training loader alone.

    python tests/benchmarks/bench_loader.py ANNOTATIONS.json IMAGES [--side 320] [--mosaic 0.8]

The first epoch decodes every file; later ones find small data sets decoded (``data.cache``).
"""

import argparse
import time
from pathlib import Path

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
            rates = []
            for epoch in range(4):
                started = time.perf_counter()
                images = sum(len(batch.images) for batch in loader.epoch(epoch, phase))
                rates.append(images / (time.perf_counter() - started))
            loader.close()
            later = sorted(rates[1:])[1]
            print(
                f"{workers} workers, {phase.value:6} first epoch {rates[0]:6.0f} images/s, later {later:6.0f}"
            )


if __name__ == "__main__":
    main()
