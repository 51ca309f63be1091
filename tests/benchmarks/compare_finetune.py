"""Fine-tuning on few images: our recipe, training from scratch, and the published recipe in our loop.

D-FINE-N is trained on one dataset (or weights are given), then fine-tuned on another with some of its images:

    finetune   recipes finetune/n: heads by class name, averaging that fits the length of the run
    scratch    recipes scratch/n, as many steps
    published  recipes coco/n with fresh heads and EMA 0.9999 without ramp

Writes OUT/results.json and OUT/results.md; runs that are finished are not run again, others are gone on with.

python tests/benchmarks/compare_finetune.py --pretrain DATA|WEIGHTS --data DATA --out OUT
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dfine_cli.cli.monitor import ConsoleMonitor
from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Recipe
from dfine_cli.data.layout import SplitFiles, find_layout, write_json_files
from dfine_cli.training import run as run_module
from dfine_cli.training.run import train
from dfine_cli.training.run_dir import RunDir

ARMS: dict[str, tuple[str, tuple[str, ...]]] = {  # recipe, and what is set in it
    "finetune": ("finetune/n", ("start.weights={weights}",)),
    "scratch": ("scratch/n", ()),
    "published": (
        "coco/n",
        (
            "start.weights={weights}",
            "start.head=fresh",
            "categories.remap=auto",
            "schedule.warmup_steps=0",  # published: 500, which is more than these runs have
            "ema.warmup_steps=0",
            "evaluation.weights=both",
        ),
    ),
}
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Parts of a run at which the table gives AP."""


class Case(NamedTuple):
    """One run."""

    arm: str
    images: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.images}_{self.seed}"


def main() -> None:
    """Run what is missing and write the tables."""
    options = _options()
    torch.set_num_threads(options.threads)
    # The published averaging is what our loop refuses for runs of this length; here it is to be seen.
    run_module.MOST_START_WEIGHTS = 1.0
    target = find_layout(options.data)
    common = [
        f"data.input_size=[{options.input}, {options.input}]",
        f"data.workers={options.workers}",
        f"run.device={options.device}",
        f"run.folder={options.out / 'runs'}",
        f"optim.batch={options.batch}",
        f"optim.nominal_batch={options.batch}",
    ]
    weights = options.pretrain if options.pretrain.is_file() else _pretrain(options, common)
    results = []
    for case in _cases(options):
        splits = {
            "train": _subset(target.require(options.train_on), case, options.out),
            "val": target.require(options.score_on),
        }
        recipe, settings = ARMS[case.arm]
        values = [s.format(weights=weights) for s in settings]
        values += [*common, f"run.seed={case.seed}"]
        epochs = _epochs(options.steps, case.images, options.batch)
        folder = _finish(_recipe(recipe, case.name, epochs, splits, values))
        results.append({**case._asdict(), "rows": RunDir(folder).rows()})
        _write(results, options)
    print(options.out / "results.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrain", type=Path, required=True, help="dataset to train on first, or weights")
    parser.add_argument("--data", type=Path, required=True, help="dataset to fine-tune on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 100, 205])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1500, help="of every run, in whole epochs")
    parser.add_argument("--pretrain-steps", type=int, default=1800)
    parser.add_argument("--train-on", choices=("train", "val", "test"), default="train")
    parser.add_argument("--score-on", choices=("val", "test"), default="val")
    parser.add_argument("--input", type=int, default=320, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _pretrain(options: argparse.Namespace, common: Sequence[str]) -> Path:
    """Weights of D-FINE-N trained on the first dataset."""
    source = find_layout(options.pretrain)
    (first, *_) = source.splits.values()  # a dataset of one part is scored on what it is trained on
    train_part = source.splits.get("train", first)
    splits = {"train": train_part, "val": source.splits.get("val", train_part)}
    images = len(json.loads(train_part.json.read_text())["images"])
    epochs = _epochs(options.pretrain_steps, images, options.batch)
    run = _finish(_recipe("scratch/n", "pretrain", epochs, splits, [*common, "run.seed=0"]))
    return run / "weights" / "best.pt"


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    for images in options.images:
        for seed in options.seeds:
            yield from (Case(arm, images, seed) for arm in options.arms)


def _epochs(steps: int, images: int, batch: int) -> int:
    """Passes over the images that come nearest to so many steps, four at least."""
    return max(4, round(steps / max(1, images // batch)))


def _recipe(
    recipe: str, name: str, epochs: int, splits: dict[str, SplitFiles], values: Sequence[str]
) -> Recipe:
    paths = [
        f"data.{s}_{k}={v.absolute()}" for s, files in splits.items() for k, v in files._asdict().items()
    ]
    length = [f"name={name}", f"schedule.epochs={epochs}", f"evaluation.every={max(1, epochs // 4)}"]
    return load_recipe(recipe, [*paths, *length, *values]).recipe


def _subset(files: SplitFiles, case: Case, out: Path) -> SplitFiles:
    """So many images, chosen by the seed; fewer images are part of more."""
    content = json.loads(files.json.read_text())
    order = np.random.default_rng(case.seed).permutation(len(content["images"]))
    images = [content["images"][i] for i in sorted(order[: case.images])]
    ids = {image["id"] for image in images}
    content |= {"images": images, "annotations": [a for a in content["annotations"] if a["image_id"] in ids]}
    path = out / f"train_{case.images}_{case.seed}.json"
    out.mkdir(parents=True, exist_ok=True)
    write_json_files({path: content})
    return SplitFiles(path, files.images)


def _finish(recipe: Recipe) -> Path:
    """Folder of the finished run of a recipe."""
    run = RunDir(recipe.run.folder / recipe.name)
    if run.rows() and run.rows()[-1]["epoch"] == recipe.schedule.epochs:
        return run.path
    if run.path.exists() and not run.last.exists():
        shutil.rmtree(run.path)  # stopped before the first checkpoint
    monitor = ConsoleMonitor()
    try:
        return train(recipe, monitor, resume=run if run.path.exists() else None).folder
    finally:
        monitor.status.close()


def _write(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """All that is there so far: everything as JSON, AP over steps as Markdown."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    (options.out / "results.json").write_text(
        json.dumps({"settings": settings, "runs": results}, indent=1) + "\n"
    )
    header = ["images", "recipe", "steps", *(f"{share:.0%} ema / raw" for share in SHARES), "best"]
    lines = [_line(header), _line(["---"] * len(header))]
    for images in options.images:
        for arm in options.arms:
            runs = [r["rows"] for r in results if (r["images"], r["arm"]) == (images, arm)]
            if runs:
                lines.append(_line([str(images), arm, *_cells(runs)]))
    (options.out / "results.md").write_text("\n".join(lines) + "\n")


def _cells(runs: list[list[dict[str, Any]]]) -> list[str]:
    """Means over the seeds: steps, AP at each share of the run, and the best AP with its spread."""
    scored = [[row for row in rows if "ap" in row] for rows in runs]
    cells = [str(scored[0][-1]["step"])]
    for share in SHARES:
        near = [min(rows, key=lambda r, e=rows[-1]["step"]: abs(r["step"] - share * e)) for rows in scored]
        cells.append(" / ".join(f"{np.mean([row[key] for row in near]):.3f}" for key in ("ap_ema", "ap_raw")))
    best = [max(row["ap"] for row in rows) for rows in scored]
    return [*cells, f"{np.mean(best):.3f}" + (f" ± {np.std(best):.3f}" if len(best) > 1 else "")]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
