"""Images per second of the evaluation's loader beside a DataLoader of processes over the same images.

    python tests/benchmarks/bench_eval_loader.py ANNOTATIONS.json IMAGES [--side 640] [--repeat 4]

Both take turns, and each turn reads every image ``--repeat`` times. The start of the workers counts, as an evaluation
starts them every time.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.data.eval_loader import EvalLoader
from dfine_cli.data.preprocess import resize
from dfine_cli.types import Sample


class Repeated:
    """A data set that is read several times."""

    def __init__(self, dataset: CocoDataset, times: int) -> None:
        self.dataset, self.times = dataset, times

    def __len__(self) -> int:
        return len(self.dataset) * self.times

    def __getitem__(self, index: int, /) -> Sample:
        return self.dataset[index % len(self.dataset)]


class Prepared(Repeated):
    """What a DataLoader stacks."""

    side = 640

    def __getitem__(self, index: int, /) -> Any:
        return torch.from_numpy(resize(super().__getitem__(index).image, (self.side, self.side)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = load_coco(options.annotations)
    dataset = CocoDataset(file, options.images, ClassMap.build(file.categories, "auto"))
    Prepared.side = options.side

    def threads(workers: int) -> Iterable[Any]:
        loader = EvalLoader(
            Repeated(dataset, options.repeat),
            input_size=(options.side, options.side),
            batch=options.batch,
            workers=workers,
        )
        return (batch.images for batch in loader)

    def processes(workers: int) -> Iterable[Any]:
        return DataLoader(Prepared(dataset, options.repeat), batch_size=options.batch, num_workers=workers)

    kinds: dict[str, Callable[[int], Iterable[Any]]] = {"threads": threads, "processes": processes}
    for workers in (0, 1, 2):
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        spent = dict.fromkeys(kinds, 0.0)
        for _ in range(options.turns):
            for name, make in kinds.items():
                before, started = processor_time(), time.perf_counter()
                images = sum(len(batch) for batch in make(workers))
                rates[name].append(images / (time.perf_counter() - started))
                spent[name] += (processor_time() - before) / images / options.turns * 1000
        for name in kinds:
            middle = sorted(rates[name])[options.turns // 2]
            print(
                f"{workers} {name:9}: {middle:5.0f} images/s, {spent[name]:.1f} ms of processor time an image"
            )


def processor_time() -> float:
    """Seconds used by this process and by children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
