"""Downloads from a real server that misbehaves."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from dfine_cli.errors import DfineError
from dfine_cli.zoo.download import Patience, copy, download
from tests.unit.zoo.server import Behaviour

CONTENT = bytes(range(256)) * 1000
NAME = "/weights.pth"


class Waits:
    """Pauses that are noted instead of made."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def patience(waits: Waits) -> Patience:
    return Patience(timeout_s=20.0, pauses_s=(1.0, 2.0), sleep=waits)


@pytest.fixture
def part(tmp_path: Path, server: Behaviour) -> Path:
    server.files[NAME] = CONTENT
    return tmp_path / "weights.pth.part"


def left(part: Path) -> set[str]:
    return {path.name for path in part.parent.iterdir()}


def test_a_file_comes_whole_and_its_progress_is_told(part: Path, server: Behaviour) -> None:
    told: list[tuple[int, int | None, str]] = []
    download(
        server.url + NAME, part, progress=lambda done, total, trouble="": told.append((done, total, trouble))
    )
    assert part.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT), "") and told[-1] == (len(CONTENT), len(CONTENT), "")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert left(part) == {part.name}


def test_without_a_length_it_comes_too(part: Path, server: Behaviour) -> None:
    server.say_length = False
    download(server.url + NAME, part)
    assert part.read_bytes() == CONTENT


def test_a_cut_connection_goes_on_where_it_was(
    part: Path, server: Behaviour, patience: Patience, waits: Waits
) -> None:
    server.cut_after = [1000, 500]
    troubles: list[str] = []
    download(
        server.url + NAME,
        part,
        patience=patience,
        progress=lambda done, total, trouble="": troubles.append(trouble) if trouble else None,
    )
    assert part.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-", "bytes=1500-"]
    assert waits.pauses == [1.0, 1.0], "whatever came starts the pauses afresh"
    assert troubles[0] == f"the connection was cut after 1000 of {len(CONTENT)} bytes"
    assert left(part) == {part.name}


def test_a_later_call_goes_on_too(part: Path, server: Behaviour) -> None:
    server.cut_after = [1000]
    with pytest.raises(DfineError, match="cut after 1000 of"):
        download(server.url + NAME, part, patience=Patience(pauses_s=()))
    assert part.stat().st_size == 1000
    download(server.url + NAME, part)
    assert part.read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")


def test_a_server_without_ranges_sends_it_again(part: Path, server: Behaviour, patience: Patience) -> None:
    server.ranges, server.cut_after = False, [1000]
    download(server.url + NAME, part, patience=patience)
    assert part.read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, "bytes=1000-")


def test_the_successor_of_a_file_is_not_glued_to_it(part: Path, server: Behaviour) -> None:
    server.cut_after = [1000]
    with pytest.raises(DfineError):
        download(server.url + NAME, part, patience=Patience(pauses_s=()))
    server.files[NAME], server.etag = CONTENT[::-1], '"two"'
    download(server.url + NAME, part)
    assert part.read_bytes() == CONTENT[::-1]


def test_another_part_than_asked_for_is_not_taken(
    part: Path, server: Behaviour, patience: Patience, waits: Waits
) -> None:
    server.cut_after, server.wrong_range = [1000], True
    download(server.url + NAME, part, patience=patience)
    assert part.read_bytes() == CONTENT
    assert len(waits.pauses) == 2


def test_what_is_whole_is_not_asked_for_again(part: Path, server: Behaviour) -> None:
    part.write_bytes(CONTENT)
    download(server.url + NAME, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == [(NAME, f"bytes={len(CONTENT)}-")]


def test_what_is_too_long_is_begun_anew(part: Path, server: Behaviour, patience: Patience) -> None:
    part.write_bytes(CONTENT + b"more")
    download(server.url + NAME, part, patience=patience)
    assert part.read_bytes() == CONTENT


def test_redirects_are_followed(part: Path, server: Behaviour) -> None:
    server.redirects["/latest"] = NAME
    download(f"{server.url}/latest", part)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("trickle", [0, 7000])
def test_a_server_that_falls_silent_is_asked_for_the_rest(
    trickle: int, part: Path, server: Behaviour, waits: Waits
) -> None:
    server.stall_after, server.trickle = [30_000], trickle
    download(server.url + NAME, part, patience=Patience(timeout_s=3.0, pauses_s=(1.0,) * 20, sleep=waits))
    assert part.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=30000-"], "whatever came is kept"
    assert waits.pauses == [1.0]


def test_a_busy_server_is_asked_again(
    part: Path, server: Behaviour, patience: Patience, waits: Waits
) -> None:
    server.statuses = [503, 429]
    download(server.url + NAME, part, patience=patience)
    assert part.read_bytes() == CONTENT
    assert waits.pauses == [1.0, 2.0]


def test_attempts_come_to_an_end(part: Path, server: Behaviour, patience: Patience, waits: Waits) -> None:
    server.statuses = [500] * 9
    with pytest.raises(DfineError, match="the download failed: the server answered 500"):
        download(server.url + NAME, part, patience=patience)
    assert len(server.asked) == 3 and waits.pauses == [1.0, 2.0]
    assert left(part) == set()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_answer_for_good_is_not_asked_for_again(part: Path, server: Behaviour, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DfineError, match=f"answered {status}"):
        download(server.url + NAME, part)
    assert len(server.asked) == 1 and left(part) == set()


def test_a_web_page_is_not_the_file(part: Path, server: Behaviour) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DfineError, match="a web page instead of the file"):
        download(server.url + NAME, part)
    assert len(server.asked) == 1 and left(part) == set()


def test_nobody_listens(part: Path, server: Behaviour, waits: Waits) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{free.getsockname()[1]}{NAME}"
        with pytest.raises(DfineError) as error:
            download(url, part, patience=Patience(pauses_s=(1.0,), sleep=waits), offline_hint="put it there")
    assert "refused" in error.value.message.lower() and "put it there" in error.value.hint
    assert len(waits.pauses) == 1


def test_without_a_network_it_says_so_at_once(
    part: Path, monkeypatch: pytest.MonkeyPatch, waits: Waits
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(DfineError) as error:
        download("http://weights.invalid/a.pth", part, patience=Patience(sleep=waits), offline_hint="by hand")
    assert error.value.message == "weights.invalid cannot be reached: Name or service not known"
    assert error.value.hint == "by hand" and not waits.pauses


def test_a_folder_that_cannot_be_written(tmp_path: Path, server: Behaviour, part: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    with pytest.raises(DfineError) as error:
        download(server.url + NAME, blocked / "weights.part")
    assert "DFINE_HOME" in error.value.hint


def test_a_full_disk(part: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dfine_cli.zoo.download._pour", full)
    with pytest.raises(DfineError, match="No space left on device"):
        download(server.url + NAME, part)
    assert len(server.asked) == 1


def test_copying_leaves_nothing_half(tmp_path: Path) -> None:
    source, part = tmp_path / "source", tmp_path / "part"
    source.write_bytes(CONTENT)
    copy(source, part)
    assert part.read_bytes() == CONTENT
    part.unlink()
    with pytest.raises(DfineError):
        copy(tmp_path, part)
    assert not part.exists()
