"""From a name to a checked file: first use, later uses, wrong files, mirrors and no network."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
import torch

from dfine_cli.errors import CheckError, DfineError
from dfine_cli.model.weights import WeightsEntry, find_entry
from dfine_cli.zoo import cache
from dfine_cli.zoo.download import Patience
from dfine_cli.zoo.open import open_weights, pull_entry, read_named, verify_entry
from dfine_cli.zoo.structure import BACKBONE_PREFIX
from tests.unit.zoo.conftest import fresh_state
from tests.unit.zoo.server import Behaviour

AT_ONCE = Patience(pauses_s=())
ENTRY = find_entry("b0/imagenet")


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def backbone() -> bytes:
    state = fresh_state("n", 80).items()
    return saved({k.removeprefix(BACKBONE_PREFIX): v for k, v in state if k.startswith(BACKBONE_PREFIX)})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mirror(home: Path, server: Behaviour, backbone: bytes, monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """A server that has the file of ``ENTRY``, under another address than the published one."""
    server.files[f"/dfine/{ENTRY.file_name}"] = backbone
    monkeypatch.setenv("DFINE_MIRROR", f"{server.url}/dfine/")
    return server


def found(home: Path) -> set[str]:
    """What is in the folder of weights; the lock has no content and stays."""
    return {path.name for path in (home / "weights").iterdir() if not path.name.endswith(".lock")}


BOTH = {ENTRY.file_name, f"{ENTRY.file_name}.json"}


def test_a_name_becomes_a_checked_file(home: Path, mirror: Behaviour, backbone: bytes) -> None:
    weights = open_weights("B0/ImageNet")
    assert weights.path == home / "weights" / ENTRY.file_name == cache.place_of(ENTRY)
    assert weights.path.read_bytes() == backbone and found(home) == BOTH
    assert (weights.size, weights.layout) == ("b0", "backbone")
    record = json.loads((home / "weights" / f"{ENTRY.file_name}.json").read_text())
    assert record == {"sha256": cache.hash_of(weights.path), "bytes": len(backbone)}
    open_weights("b0/imagenet")
    assert len(mirror.asked) == 1, "the second time it is there"


def test_a_cut_download_goes_on(home: Path, mirror: Behaviour, backbone: bytes) -> None:
    mirror.cut_after = [len(backbone) // 2]
    with pytest.raises(DfineError) as error:
        pull_entry(ENTRY, patience=AT_ONCE)
    assert f"go on from {len(backbone) // 2} bytes" in error.value.hint
    assert found(home) == {f"{ENTRY.file_name}.part", f"{ENTRY.file_name}.part.tag"}
    assert pull_entry(ENTRY, patience=AT_ONCE).read_bytes() == backbone
    assert found(home) == BOTH
    assert [wanted for _, wanted in mirror.asked] == [None, f"bytes={len(backbone) // 2}-"]


def test_a_changed_file_is_not_used(home: Path, mirror: Behaviour, backbone: bytes) -> None:
    path = pull_entry(ENTRY)
    path.write_bytes(backbone[:-1] + b"x")
    with pytest.raises(CheckError, match="not the file that was used before"):
        open_weights(ENTRY.name)
    with pytest.raises(CheckError, match="not the file that was used before"):
        verify_entry(ENTRY)


def test_another_file_at_the_address_is_not_used_until_told(
    home: Path, mirror: Behaviour, backbone: bytes
) -> None:
    first = pull_entry(ENTRY)
    first.unlink()
    state = torch.load(io.BytesIO(backbone), weights_only=True)
    other = saved({key: value + 1 if value.is_floating_point() else value for key, value in state.items()})
    mirror.files = dict.fromkeys(mirror.files, other)
    with pytest.raises(CheckError, match="not the file that was used before") as error:
        pull_entry(ENTRY)
    assert f"--renew {ENTRY.name}" in error.value.hint and found(home) == {f"{ENTRY.file_name}.json"}
    assert pull_entry(ENTRY, renew=True).read_bytes() == other
    assert pull_entry(ENTRY).read_bytes() == other


def test_a_renewal_that_fails_loses_nothing(home: Path, mirror: Behaviour, backbone: bytes) -> None:
    path = pull_entry(ENTRY)
    record = cache.recorded_hash(path)
    mirror.statuses = [404]
    with pytest.raises(DfineError, match="404"):
        pull_entry(ENTRY, renew=True)
    mirror.files = dict.fromkeys(mirror.files, backbone[: len(backbone) // 2])
    with pytest.raises(DfineError, match="cut off"):
        pull_entry(ENTRY, renew=True)
    assert found(home) == BOTH
    assert path.read_bytes() == backbone and cache.recorded_hash(path) == record


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>log in</html>", "a web page, not weights"),
        (b"", "the file is empty"),
        (saved({"model": {"fc.weight": torch.zeros(3)}}), "no D-FINE"),
        (saved({"stem.stem1.conv.weight": torch.zeros(16, 3, 3, 3)}), "no HGNetV2"),
    ],
    ids=["web page", "empty", "other model", "fragment"],
)
def test_wrong_content_is_told_and_not_kept(
    home: Path, mirror: Behaviour, content: bytes, message: str
) -> None:
    mirror.files = dict.fromkeys(mirror.files, content)
    with pytest.raises(DfineError, match=message) as error:
        pull_entry(ENTRY)
    assert ENTRY.name in error.value.message and ".part" not in error.value.message
    assert found(home) == set()


def test_weights_of_another_row_are_told(home: Path, mirror: Behaviour) -> None:
    """The right network with other classes, in the place of COCO's."""
    entry = find_entry("n/coco")
    mirror.files[f"/dfine/{entry.file_name}"] = saved({"model": fresh_state("n", 7)})
    with pytest.raises(CheckError, match="D-FINE-N with 7 classes, and n/coco is D-FINE-N with 80 classes"):
        pull_entry(entry)
    assert found(home) == set()


def test_a_file_put_there_by_hand_is_checked_and_recorded(home: Path, backbone: bytes) -> None:
    place = cache.place_of(ENTRY)
    place.parent.mkdir(parents=True)
    place.write_bytes(backbone[: len(backbone) // 2])
    with pytest.raises(DfineError, match="cut off"):
        open_weights(ENTRY.name)
    assert cache.recorded_hash(place) is None
    place.write_bytes(backbone)
    open_weights(ENTRY.name)
    assert cache.recorded_hash(place) == cache.hash_of(place)


def test_a_mirror_may_be_a_folder(
    home: Path, tmp_path: Path, backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("DFINE_MIRROR", str(folder))
    with pytest.raises(DfineError) as error:
        pull_entry(ENTRY)
    assert str(folder / ENTRY.file_name) in error.value.message and ENTRY.url in error.value.hint
    (folder / ENTRY.file_name).write_bytes(backbone)
    assert pull_entry(ENTRY).read_bytes() == backbone
    assert found(home) == BOTH and (folder / ENTRY.file_name).is_file()


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.delenv("DFINE_MIRROR", raising=False)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(DfineError) as error:
        open_weights("b0/imagenet")
    assert error.value.message.startswith("github.com cannot be reached: Temporary failure")
    assert error.value.hint == f"put the file from {ENTRY.url} at {home / 'weights' / ENTRY.file_name}"
    assert found(home) == set()


def test_two_at_once_download_once(home: Path, mirror: Behaviour) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            pull_entry(ENTRY)
        except DfineError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(mirror.asked) == 1


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DFINE_HOME", str(tmp_path / "file"))
    with pytest.raises(DfineError) as error:
        pull_entry(ENTRY)
    assert "DFINE_HOME" in error.value.hint


def test_a_broken_record_is_told(home: Path, mirror: Behaviour) -> None:
    path = pull_entry(ENTRY)
    path.with_name(f"{path.name}.json").write_text("{")
    with pytest.raises(CheckError, match="cannot be read"):
        open_weights(ENTRY.name)


@pytest.mark.parametrize(
    ("name", "activation"), [("s/deim-coco", "silu"), ("s/coco", "relu"), ("s/obj2coco", "relu")]
)
def test_a_file_by_its_published_name_is_known(tmp_path: Path, name: str, activation: str) -> None:
    entry: WeightsEntry = find_entry(name)
    path = tmp_path / entry.file_name
    torch.save({"model": fresh_state("s", 80)}, path)
    assert read_named(path).activation == activation
