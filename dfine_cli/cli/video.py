"""``dfine visualize --to video``: a file, stream or camera in, a file with boxes out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dfine_cli.cli.console import say
from dfine_cli.cli.options import check_place
from dfine_cli.cli.outputs import Made, Request, counted
from dfine_cli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from dfine_cli.visualize.frames import Frames
    from dfine_cli.visualize.video import VideoResult


def make_video(request: Request) -> Made:
    """A video with the detections of every frame."""
    from dfine_cli.backends.detector import open_detector
    from dfine_cli.visualize.film import check_film
    from dfine_cli.visualize.frames import is_moving, open_frames
    from dfine_cli.visualize.source import USUAL, stored_class_thresholds, stored_threshold
    from dfine_cli.visualize.video import Limit, draw_video

    address = _address(request)
    out = request.out or Path(f"{_name(address)}_boxes.mp4")
    check_place("--out", out)
    check_film(out, address, request.force)
    detector = open_detector(request.source, options=request.options)
    given = None if request.threshold is None else (request.threshold, "given")
    threshold, reason = given or stored_threshold(detector.operating_point) or USUAL
    names, point = detector.classes.names, detector.operating_point
    least = stored_class_thresholds(point, names, names, threshold) if request.by_class else threshold
    frames = open_frames(address)
    endless = is_moving(address) and request.frames is None and request.seconds is None and frames.live
    if endless:
        say(f"{frames.name}: recording until Ctrl-C; --seconds or --frames set an end")
    with counted("frames") as report:
        result = draw_video(
            detector,
            frames,
            out,
            least,
            batch=request.batch or 1,
            limit=Limit(request.frames, request.seconds),
            on_progress=report,
        )
    height, width = frames.size
    line = f"{out}: {result.frames} frames of {width}x{height}, {frames.fps:.4g} a second"
    if result.interrupted and not endless:
        raise Interrupted(f"interrupted; {line if result.frames else 'nothing was written'}")
    rate = round(result.detected / max(result.seconds, 1e-9), 2)
    values = {
        "out": str(out),
        **result._asdict(),
        "fps": frames.fps,
        "size": [height, width],
        "images_per_s": rate,
        "threshold": threshold,
        "threshold_is": reason,
    }
    return Made(f"{line}; {rate:.1f} images/s", values, _notes(frames, result))


def _address(request: Request) -> str:
    """The address of the video.

    Raises:
        UsageError: There is none, or the source is no model.
    """
    if request.is_results:
        raise UsageError(
            f"{request.source}: results are for images; --to video runs a model",
            "give a checkpoint, a run folder or an exported file",
        )
    if request.data is None:
        raise UsageError(
            "give the video to look at",
            f"dfine visualize {request.source} VIDEO|rtsp://…|camera:0 --to video",
        )
    return request.data


def _name(address: str) -> str:
    """What a video is called without folder and suffix, or the letters and digits of an address."""
    from dfine_cli.visualize.frames import is_moving

    return re.sub(r"\W+", "_", address).strip("_") if is_moving(address) else Path(address).stem


def _notes(frames: "Frames", result: "VideoResult") -> list[str]:
    notes = []
    if result.missing:
        promised = result.frames + result.missing
        notes.append(
            f"{frames.name}: cut off or damaged: {result.frames} of {promised} frames could be decoded and are written"
        )
    if not frames.says_fps:
        notes.append(f"{frames.name}: does not say its rate; {frames.fps:g} frames a second are written")
    if result.codec == "MPEG-4 Part 2":
        notes.append(
            "written as MPEG-4 Part 2, as this OpenCV has no encoder for H.264; browsers play it after "
            "ffmpeg -i IN.mp4 -c:v libx264 -pix_fmt yuv420p OUT.mp4"
        )
    return notes
