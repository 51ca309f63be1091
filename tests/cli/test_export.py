"""``dfine export``: files that are proven, proofs that fail, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfine_cli.artefact import read_sidecar

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ((), ["dfine-n.onnx", "dfine-n.onnx.json"]),
        (("--format", "openvino"), ["dfine-n.xml", "dfine-n.bin", "dfine-n.xml.json"]),
    ],
)
def test_a_run_is_exported_and_proven_on_its_own_data(
    run: Run, trained: Path, words: tuple[str, ...], written: list[str]
) -> None:
    if "openvino" in words:
        pytest.importorskip("openvino", reason="needs OpenVINO: pip install dfine-cli[openvino]")
    code, out, err = run("export", trained / "toy", *words, "--json")
    assert code == 0, err
    said = json.loads(out)
    file = Path(said["file"])
    assert file == trained / "toy" / "export" / written[0]
    assert {Path(name).name for name in said["files"]} == set(written)
    assert all(Path(name).is_file() for name in said["files"])
    proof = said["proof"]
    assert proof["holds"] and proof["images"] == 3 and proof["missed"] == 0 and proof["compared"] > 0
    assert proof["box_px"] < 0.01 and proof["score"] < 1e-4 and abs(proof["ap_drop"]) < 1e-3
    assert "instances_val.json, the validation set of the run" in proof["data"]
    described = read_sidecar(file)
    assert described is not None and described.runtime["proof"] == proof
    assert described.classes["category_ids"] == [3, 7, 9, 20, 41]
    assert "next: dfine eval" in err
    assert not list(file.parent.glob(".*"))  # the workshop is gone
    code, out, err = run("export", trained / "toy", *words)  # over itself, now as a table
    assert code == 0, err
    assert "largest box difference" in out and "AP of the file" in out and "batch 1" in out
    ap = 100 * proof["ap"]
    assert ("a difference of AP says little" in err.replace("\n", " ")) == (ap < 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_from_outside_leaves_nothing(
    trained: Path, tmp_path: Path, number: signal.Signals
) -> None:
    place = tmp_path / "new"
    process = subprocess.Popen(
        [sys.executable, "-m", "dfine_cli", "export", trained / "toy", "--out", place / "model.onnx"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("tracing the network" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait() == 130 and "error: interrupted" in rest and "Traceback" not in rest
    assert not place.exists() or list(place.iterdir()) == []


def test_a_failed_proof_has_its_exit_code_and_its_name(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfine_cli.export import deploy_decoder

    # Boxes that are wrong by as much as a fault of a runtime makes them: the bins' offsets turned round.
    original = deploy_decoder.DeployDecoder.__init__

    def wrong(self: deploy_decoder.DeployDecoder, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        self.reach.mul_(-3)

    monkeypatch.setattr(deploy_decoder.DeployDecoder, "__init__", wrong)
    monkeypatch.setattr("dfine_cli.export.run.choose_images", _built_in)
    code, out, err = run("export", trained / "toy", "--out", "new/model.onnx")
    assert code == 4, err
    assert "built-in pictures" in out and "not known without annotations" in out
    assert err.splitlines()[-2].startswith("error: the exported file does not say what the checkpoint says")
    assert "new/model.failed.onnx" in err.splitlines()[-1]
    assert names_in("new") == ["model.failed.onnx", "model.failed.onnx.json"]
    code, out, err = run("export", trained / "toy", "--format", "tensorrt", "--bundle", "b", "--json")
    assert (code, out) == (4, "") and "it is kept as b.failed" in err and names_in(".") == ["b.failed", "new"]


def names_in(folder: str) -> list[str]:
    return sorted(entry.name for entry in Path(folder).iterdir())


def _built_in(given: object, recipe: object, most: int) -> object:
    from dfine_cli.export.proof_images import choose_images

    return choose_images(None, None, most)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--input-size", "100"), 2, "100x100"),
        (("--batch", "0"), 2, "--batch 0"),
        (("--batch", "4,2,1"), 2, "--batch 4,2,1"),
        (("--batch", "some"), 2, "--batch some"),
        (("--opset", "20"), 2, "less than or equal to 19"),
        (("--out", "."), 2, "is a folder"),
        (("--out", "model.engine"), 2, "must end with .onnx"),
        (("--out", "taken/model.onnx"), 1, "taken"),
        (("--out", "other.onnx"), 2, "not an export of dfine"),
        (("--data", "nowhere"), 2, "nowhere"),
        (("--data", "empty.json", "--images", "."), 2, "has no images to prove the export on"),
        (("--data", "others.json", "--images", "."), 2, "99 'moon'"),
    ],
)
def test_what_cannot_be_is_told_in_two_lines(
    run: Run, trained: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    Path("taken").write_text("a file")
    Path("other.onnx").write_text("of another tool")
    categories = json.loads((trained / "data/annotations/instances_val.json").read_text())["categories"]
    Path("empty.json").write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    others = {"images": [image], "annotations": [], "categories": [{"id": 99, "name": "moon"}]}
    Path("others.json").write_text(json.dumps(others))
    before = names_in(".")
    found, out, err = run("export", trained / "toy", *words)
    assert (found, out) == (code, "") and told in err
    assert [line.split(":")[0] for line in err.splitlines()[-2:]] == ["error", "hint"]
    assert names_in(".") == before


def test_a_file_that_is_no_checkpoint(run: Run, tmp_path: Path) -> None:
    Path("notes.pt").write_text("no weights")
    code, out, err = run("export", "notes.pt")
    assert (code, out) == (4, "") and "notes.pt" in err
    Path("model.onnx").write_text("graph")
    code, out, err = run("export", "model.onnx")
    assert (code, out) == (2, "") and "only a checkpoint or a file of weights can be exported" in err
