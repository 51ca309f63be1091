"""Frames per second of a video with detections, its stages beside each other and one after the other.

    python tests/benchmarks/bench_video.py MODEL VIDEO [--frames 200] [--rounds 3]

Both ways read, resize, detect, draw and encode the same frames with the same code; rounds alternate, and the best of
each counts, since other programs only make them slower. The stages alone are timed too: together they say what
overlap could reach at best.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

from dfine_cli.backends.detector import Detector, OpenOptions, open_detector
from dfine_cli.data.preprocess import resize
from dfine_cli.visualize.film import Film
from dfine_cli.visualize.frames import open_frames
from dfine_cli.visualize.video import Limit, draw_detections, draw_video


def together(detector: Detector, video: str, out: Path, count: int) -> dict[str, float]:
    result = draw_video(detector, open_frames(video), out, 0.4, limit=Limit(frames=count))
    return {"whole": result.seconds}


def in_turn(detector: Detector, video: str, out: Path, count: int) -> dict[str, float]:
    spent = dict.fromkeys(("read", "resize", "detect", "draw", "encode", "whole"), 0.0)
    clock = time.perf_counter
    started = last = clock()

    def lap(stage: str) -> None:
        nonlocal last
        now = clock()
        spent[stage] += now - last
        last = now

    frames = open_frames(video)
    film = Film(out, frames.fps, frames.size)
    lap("read")
    for frame in islice(frames, count):
        lap("read")
        pixels = resize(frame.picture, detector.input_size)[None]
        lap("resize")
        found = detector.detect(pixels, [frames.size])[0]
        lap("detect")
        picture = draw_detections(frame.picture, found, detector.classes.names, 0.4)
        lap("draw")
        film.write(picture)
        lap("encode")
    film.finish()
    frames.close()
    lap("encode")
    return {**spent, "whole": clock() - started}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("video")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--threads", type=int, help="of the CPU, for the network; default: all")
    options = parser.parse_args()
    side = options.input_size
    detector = open_detector(
        options.model,
        options=OpenOptions(options.device, (side, side) if side else None, threads=options.threads),
    )
    ways = {"one after the other": in_turn, "beside each other": together}
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        in_turn(detector, options.video, Path(folder) / "warm.mp4", 5)
        for n in range(options.rounds):
            for name, way in ways.items():
                spent = way(detector, options.video, Path(folder) / f"{way.__name__}{n}.mp4", options.frames)
                best[name] = min(best.get(name, spent), spent, key=lambda s: s["whole"])
    for name, spent in best.items():
        stages = ", ".join(
            f"{k} {1000 * v / options.frames:.1f} ms" for k, v in spent.items() if k != "whole"
        )
        print(f"{name:20} {options.frames / spent['whole']:6.1f} frames/s  {stages}")


if __name__ == "__main__":
    main()
