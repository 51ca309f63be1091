"""Videos: frames in, frames out, in order, whatever happens on the way."""

import http.server
import resource
import struct
import threading
import time

import cv2
import numpy as np
import pytest

from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import CheckError, DfineError, MissingError, UsageError
from dfine_cli.types import Detections
from dfine_cli.visualize.film import Film, check_film
from dfine_cli.visualize.frames import Frame, is_moving, open_frames, quiet_opencv
from dfine_cli.visualize.lane import Lane
from dfine_cli.visualize.video import Limit, draw_video

SIZE = (96, 128)


class Middle:
    """Finds a dog in the middle of every image; what it sees can be looked at and disturbed."""

    name, input_size, exif, operating_point = "middle", (32, 32), "apply", None
    classes = ClassMap(("cat", "dog"), (1, 2), "auto")

    def __init__(self, disturb=lambda count: None):
        self.seen, self.disturb = [], disturb

    def detect(self, images, sizes):
        self.seen += images.mean((1, 2, 3)).tolist()
        self.disturb(len(self.seen))
        boxes = [np.array([[w / 4, h / 4, w * 3 / 4, h * 3 / 4]], np.float32) for h, w in sizes]
        return [Detections(box, np.array([0.7], np.float32), np.array([1])) for box in boxes]


def write_video(path, count, fps=12.5, size=SIZE):
    """Grey frames that get brighter, so that each can be told from the others."""
    film = Film(path, fps, size)
    for i in range(count):
        film.write(np.full((*size, 3), 5 * i, np.uint8))
    film.finish()
    return path


def read_video(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def clip(tmp_path):
    """50 frames."""
    return write_video(tmp_path / "clip.mp4", 50)


def hidden(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("batch", [1, 7])
def test_all_frames_in_order_at_the_same_rate_and_size(clip, tmp_path, suffix, batch):
    out = tmp_path / "new folder" / f"out{suffix}"
    detector, told = Middle(), []
    result = draw_video(
        detector, open_frames(str(clip)), out, 0.5, batch=batch, on_progress=lambda *done: told.append(done)
    )
    assert (result.frames, result.detected, result.missing, result.interrupted) == (50, 50, 0, False)
    assert np.allclose(detector.seen, 5 * np.arange(50), atol=4) and told[-1] == (50, 50)
    assert detector.seen == sorted(detector.seen)
    frames, fps = read_video(out)
    assert fps == pytest.approx(12.5) and [f.shape for f in frames] == [(*SIZE, 3)] * 50
    corner = [float(f[:12, :12].mean()) for f in frames]
    assert np.allclose(corner, 5 * np.arange(50), atol=8) and (np.diff(corner) > 0).all()
    assert all(np.ptp(f[20:80, 28:36].astype(int)) > 60 for f in frames)  # the side of the box
    assert hidden(out.parent) == []


def test_the_threshold_is_kept(clip, tmp_path):
    draw_video(Middle(), open_frames(str(clip)), tmp_path / "out.mp4", 0.8)
    frames, _ = read_video(tmp_path / "out.mp4")
    assert max(np.ptp(f.astype(int)) for f in frames) < 8


@pytest.mark.parametrize(
    ("limit", "frames"),
    [(Limit(frames=7), 7), (Limit(seconds=2), 25), (Limit(frames=9, seconds=2), 9), (Limit(frames=99), 50), (Limit(seconds=0.001), 1)],
)  # fmt: skip
def test_a_limit_ends_the_video(clip, tmp_path, limit, frames):
    result = draw_video(Middle(), open_frames(str(clip)), tmp_path / "out.mp4", 0.5, limit=limit)
    assert (result.frames, result.missing) == (frames, 0)
    assert len(read_video(tmp_path / "out.mp4")[0]) == frames


def test_a_video_that_ends_in_the_middle_of_a_frame(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", 50)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    result = draw_video(Middle(), open_frames(str(cut)), tmp_path / "out.mp4", 0.5)
    assert 10 < result.frames < 50 and result.missing == 50 - result.frames
    assert len(read_video(tmp_path / "out.mp4")[0]) == result.frames


def test_a_file_without_a_frame_count_is_not_live(tmp_path):
    """Bare JPEG pictures one after the other."""
    pictures = [cv2.imencode(".jpg", np.full((*SIZE, 3), 5 * i, np.uint8))[1].tobytes() for i in range(50)]
    (tmp_path / "bare.mjpeg").write_bytes(b"".join(pictures))
    frames, detector = open_frames(str(tmp_path / "bare.mjpeg")), Middle(lambda count: time.sleep(0.002))
    assert (frames.total, frames.live) == (0, False)
    result = draw_video(detector, frames, tmp_path / "out.mp4", 0.5)
    assert (result.frames, result.detected, result.missing) == (50, 50, 0)
    assert np.allclose(detector.seen, 5 * np.arange(50), atol=4)


@pytest.mark.parametrize(("share", "missing"), [(0.5, 0), (2, 50)])
def test_all_frames_are_read_whatever_the_container_says(tmp_path, share, missing):
    """The count of Matroska and WebM is a guess from their duration."""
    content = write_video(tmp_path / "clip.mkv", 50).read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # the duration, 8 bytes long
    duration = struct.pack(">d", struct.unpack(">d", content[at : at + 8])[0] * share)
    (tmp_path / "wrong.mkv").write_bytes(content[:at] + duration + content[at + 8 :])
    frames, told = open_frames(str(tmp_path / "wrong.mkv")), []
    assert frames.total == 50 * share
    result = draw_video(
        Middle(), frames, tmp_path / "out.mp4", 0.5, on_progress=lambda *done: told.append(done)
    )
    assert (result.frames, result.missing) == (50, missing)
    assert all(total == 0 or done <= total for done, total in told)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("gone.mp4", UsageError, "no such file"),
        ("text.mp4", CheckError, "not a video"),
        ("empty.mp4", CheckError, "not a video"),
        ("cut.mp4", CheckError, "cut off"),
        ("photo.jpg", UsageError, "is an image"),
        ("folder", UsageError, "is a folder"),
        ("camera:97", MissingError, "no such camera"),
        ("98", MissingError, "camera:98"),
        ("http://127.0.0.1:9/video", DfineError, "no video comes"),
    ],
)
def test_what_is_no_video(clip, tmp_path, monkeypatch, capfd, name, kind, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:-2000])
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match=message) as failure:
        open_frames(name)
    assert failure.value.hint and capfd.readouterr() == ("", "")


def test_a_number_is_a_camera_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        is_moving("0") and is_moving("camera:1") and is_moving("rtsp://host/1") and not is_moving("a/b.mp4")
    )
    (tmp_path / "0").write_text("")
    assert not is_moving("0")


def test_an_error_of_the_detector_leaves_nothing(clip, tmp_path):
    before = set(threading.enumerate())

    def fail(count):
        if count > 20:
            raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        draw_video(Middle(fail), open_frames(str(clip)), tmp_path / "out.mp4", 0.5)
    assert not (tmp_path / "out.mp4").exists() and hidden(tmp_path) == []
    assert set(threading.enumerate()) <= before  # other tests' threads may be about


@pytest.mark.parametrize("stage", ["resize", "draw_boxes"])
def test_an_error_of_another_stage_leaves_nothing(clip, tmp_path, monkeypatch, stage):
    before = set(threading.enumerate())

    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(f"dfine_cli.visualize.video.{stage}", fail)
    with pytest.raises(ValueError, match="broken"):
        draw_video(Middle(), open_frames(str(clip)), tmp_path / "out.mp4", 0.5)
    assert not (tmp_path / "out.mp4").exists() and hidden(tmp_path) == []
    assert set(threading.enumerate()) <= before  # other tests' threads may be about


@pytest.mark.parametrize("after", [1, 30])
def test_ctrl_c_keeps_what_was_done(clip, tmp_path, after):
    def interrupt(count):
        if count == after:
            raise KeyboardInterrupt

    result = draw_video(Middle(interrupt), open_frames(str(clip)), tmp_path / "out.mp4", 0.5)
    assert result.interrupted and result.frames == after - 1 and hidden(tmp_path) == []
    if after == 1:
        assert not (tmp_path / "out.mp4").exists()
    else:
        assert len(read_video(tmp_path / "out.mp4")[0]) == 29


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    """OpenCV writes on without a word; a limit on the size of files stands in for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    film = Film(tmp_path / "out.mp4", 10, (240, 320))
    noise = np.random.default_rng(0).integers(0, 255, (60, 240, 320, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for picture in noise:
            film.write(picture)
        with pytest.raises(DfineError, match="of 60 frames could be written"):
            film.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "overwrite", "message"),
    [
        ("out.webp", False, "`.webp` files"),
        ("out", False, "suffixless"),
        ("clip.mp4", True, "is the video itself"),
        ("there.mp4", False, "is there already"),
        ("folder.mp4", True, "is a folder"),
    ],
)
def test_places_that_are_refused(clip, tmp_path, name, overwrite, message):
    (tmp_path / "there.mp4").write_text("mine")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match=message):
        check_film(tmp_path / name, str(clip), overwrite)
    check_film(tmp_path / "there.mp4", str(clip), overwrite=True)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="file"):
        Film(tmp_path / "file" / "out.mp4", 10, SIZE)


class LiveVideo(http.server.BaseHTTPRequestHandler):
    """An endless stream of JPEG pictures, as cameras in a network send them."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(10_000):
                picture = cv2.imencode(".jpg", np.full((*SIZE, 3), i % 256, np.uint8))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.005)
        except OSError:
            return

    def log_message(self, *_):
        return


@pytest.fixture
def stream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), LiveVideo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live"
    server.shutdown()
    server.server_close()


def test_a_live_stream_ends_at_its_limit_and_a_slow_detector_sees_the_newest(stream, tmp_path):
    frames = open_frames(stream)
    assert frames.live and frames.size == SIZE
    detector = Middle(lambda count: time.sleep(0.05))
    result = draw_video(detector, frames, tmp_path / "out.mp4", 0.5, limit=Limit(frames=60))
    assert result.frames == 60 and result.missing == 0
    assert result.detected < 50 and detector.seen == sorted(detector.seen)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 60


def test_a_lane_waits_or_keeps_the_newest():
    lane = Lane(2, newest=True)
    assert all(lane.put(i) for i in range(5))
    assert lane.take(9) == [3, 4]
    lane.close()
    assert lane.take() == [] and not lane.put(1)
    slow, taken = Lane(1), []
    sender = threading.Thread(target=lambda: [slow.put(i) for i in range(20)] and slow.close())
    sender.start()
    for items in iter(slow.take, []):
        taken += items
    sender.join()
    assert taken == list(range(20))


def test_frames_of_odd_and_changing_size(tmp_path):
    film = Film(tmp_path / "odd.mp4", 10, (63, 65))
    film.write(np.zeros((63, 65, 3), np.uint8))
    film.write(np.zeros((120, 160, 3), np.uint8))
    film.finish()
    assert [f.shape for f in read_video(tmp_path / "odd.mp4")[0]] == [(62, 64, 3)] * 2


def test_the_level_of_opencvs_log_comes_back():
    before = cv2.utils.logging.getLogLevel()
    with quiet_opencv():
        pass
    assert cv2.utils.logging.getLogLevel() == before and Frame(0, np.zeros(SIZE)).number == 0
