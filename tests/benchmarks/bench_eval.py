"""Time and memory of an evaluation with everything, beside pycocotools' twelve numbers, each in its own process.

    python tests/benchmarks/bench_eval.py GROUND_TRUTH.json RESULTS.json [--times 25]

Processor time is given beside the time on the clock, since other programs disturb it less. Everything means: reading
the results, all numbers, curves, errors, calibration, label errors, the comparison with a second set of results, and
page, JSON and Markdown without pictures. ``--times`` repeats the set under new ids.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path


def pycocotools(truth: Path, results: Path) -> None:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        run = COCOeval(known, known.loadRes(str(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()


def numbers(truth: Path, results: Path) -> None:
    from dfine_cli.evaluation.coco_eval import evaluate
    from dfine_cli.evaluation.results import read_results

    evaluate(truth, read_results(results))


def analysis(truth: Path, results: Path) -> None:
    from dfine_cli.evaluation.analysis import analyse
    from dfine_cli.evaluation.results import read_results
    from dfine_cli.evaluation.truth import read_truth

    analyse(read_truth(truth), read_results(results))


def everything(truth: Path, results: Path) -> None:
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.evaluation.analysis_report import Subject
    from dfine_cli.evaluation.explain import explain
    from dfine_cli.evaluation.results import read_results
    from dfine_cli.evaluation.truth import read_truth
    from dfine_cli.visualize.report_files import write_report

    found = read_results(results)
    explained = explain(read_truth(truth), found, found._replace(scores=found.scores**2))
    with tempfile.TemporaryDirectory() as folder:
        files = SplitFiles(truth, Path(folder) / "no pictures")
        write_report(Path(folder), Subject("results", truth, "squared"), explained, files)


JOBS = (pycocotools, numbers, analysis, everything)


def measure(job: int, truth: Path, results: Path, sender: object) -> None:
    """Import everything, then time one job; the peak of memory is that of the process."""
    import dfine_cli.visualize.report_files  # noqa: F401

    clock, processor = time.perf_counter(), time.process_time()
    JOBS[job](truth, results)
    times = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send((*times, peak))  # type: ignore[attr-defined]


def repeated(truth: Path, results: Path, times: int, folder: Path) -> tuple[Path, Path]:
    """The same set ``times`` times under new image ids."""
    content, found = json.loads(truth.read_text()), json.loads(results.read_text())
    step = 1 + max(image["id"] for image in content["images"])
    images = [{**i, "id": i["id"] + n * step} for n in range(times) for i in content["images"]]
    annotations = [
        {
            "image_id": a["image_id"] + n * step,
            **{k: a[k] for k in ("category_id", "bbox", "area", "iscrowd")},
        }
        for n in range(times)
        for a in content["annotations"]
    ]
    annotations = [{"id": number, **a} for number, a in enumerate(annotations, 1)]
    (folder / "truth.json").write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    more = [{**r, "image_id": r["image_id"] + n * step} for n in range(times) for r in found]
    (folder / "results.json").write_text(json.dumps(more))
    return folder / "truth.json", folder / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", default=[job.__name__ for job in JOBS])
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        truth, results = options.truth, options.results
        if options.times > 1:
            truth, results = repeated(truth, results, options.times, Path(folder))
        for number, job in enumerate(JOBS):
            if job.__name__ not in options.jobs:
                continue
            measured = []
            for _ in range(options.rounds):
                receiver, sender = spawn.Pipe(duplex=False)
                process = spawn.Process(target=measure, args=(number, truth, results, sender))
                process.start()
                measured.append(receiver.recv())
                process.join()
            clock, processor, peak = sorted(measured)[len(measured) // 2]
            print(
                f"{job.__name__:12} {clock:7.2f} s, {processor:7.2f} s of processor time, peak {peak:6.0f} MB"
            )


if __name__ == "__main__":
    main()
