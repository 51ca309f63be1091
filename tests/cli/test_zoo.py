"""``dfine zoo``: the table, files that are right and wrong, and conversion."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from dfine_cli.data.classes import COCO80
from dfine_cli.model.dfine import build_model
from dfine_cli.model.weights import WEIGHTS, find_entry

if TYPE_CHECKING:
    from tests.cli.conftest import Run

N = find_entry("n/coco")


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_model("n", 80).state_dict()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DFINE_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path: Path, published: dict[str, Tensor]) -> Path:
    """A folder that has the weights of ``N``."""
    torch.save({"model": published}, tmp_path / "mirror" / N.file_name)
    return tmp_path / "mirror"


def test_list_shows_every_row_and_filters_by_words(run: Run) -> None:
    code, out, _ = run("zoo", "list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:]] == list(WEIGHTS)
    code, out, _ = run("zoo", "list", "S", "coco")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["s/coco", "s/obj2coco", "s/deim-coco"]
    code, out, err = run("zoo", "list", "365", "l")
    assert "40.6" in out and "42.6" in out and "first 5000" in err
    code, out, err = run("zoo", "list", "yolo")
    assert (code, out) == (2, "") and "no published weights match 'yolo'" in err


def test_list_as_json(run: Run) -> None:
    _, out, _ = run("zoo", "list", "x", "obj2coco", "--json")
    values = json.loads(out)
    (row,) = values["weights"]
    assert values["schema_version"] == 1
    assert (row["name"], row["ap"], row["latency_ms"], row["here"], row["sha256"]) == (
        "x/obj2coco",
        59.3,
        12.89,
        False,
        None,
    )


def test_info_says_all_there_is_to_know(run: Run) -> None:
    code, out, err = run("zoo", "info", "m/obj365")
    assert (
        code == 0 and "38.6" in out and "37.4" in out and "Apache-2.0" in out and "dfine_m_obj365.pth" in out
    )
    assert err == "next: dfine zoo pull m/obj365\n"
    assert json.loads(run("zoo", "info", "m/obj365", "--json").out)["input_size"] == [640, 640]
    code, _, err = run("zoo", "info", "m/obj356")
    assert code == 2 and "did you mean m/obj365" in err


def test_pull_path_and_verify(run: Run, home: Path, mirror: Path) -> None:
    place = home / "weights" / N.file_name
    code, out, err = run("zoo", "path", "n/coco")
    assert (code, out) == (0, f"{place}\n") and N.url in err
    code, out, err = run("zoo", "verify", "n/coco")
    assert code == 2 and "dfine zoo pull n/coco" in err
    assert run("zoo", "verify").err == "no weights have been pulled\n"
    code, out, _ = run("zoo", "pull", "n/coco")
    assert (code, out) == (0, f"{place}\n") and place.is_file()
    assert run("zoo", "path", "n/coco").err == ""
    code, out, _ = run("zoo", "verify")
    assert code == 0 and "D-FINE-N, 80 classes, 640x640, layout published" in out
    assert out.splitlines()[3:] == [
        "backbone   312        0          0            0",
        "encoder    234        0          0            0",
        "decoder     89        0          0            0",
        "heads       39        0          0            0",
    ]
    assert json.loads(run("zoo", "info", "n/coco", "--json").out)["here"] is True
    place.write_bytes(place.read_bytes()[:-100])
    assert json.loads(run("zoo", "info", "n/coco", "--json").out)["here"] is False
    assert run("zoo", "list", "n/coco").out.splitlines()[1].endswith("no")
    code, _, err = run("zoo", "verify", "n/coco")
    assert code == 4 and "not the file that was used before" in err and "--renew" in err
    assert run("zoo", "pull", "--renew", "n/coco", "--json").code == 0
    assert run("zoo", "verify", "n/coco").code == 0


def renamed(state: dict[str, Tensor]) -> object:
    first = "encoder.lateral_convs.0.conv.weight"
    return {"model": {("encoder.lateral.weight" if k == first else k): v for k, v in state.items()}}


def without_encoder(state: dict[str, Tensor]) -> object:
    return {"ema": {"module": {k: v for k, v in state.items() if not k.startswith("encoder.")}}}


def uneven_classes(state: dict[str, Tensor]) -> object:
    key = "decoder.dec_score_head.1.bias"
    return {"model": {**state, key: state[key][:7]}}


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (
            renamed,
            ["encoder: 1 missing, such as encoder.lateral_convs.0.conv.weight", "encoder: 1 left over"],
        ),
        (without_encoder, ["encoder: 197 missing"]),
        (uneven_classes, ["heads: 1 of another shape, such as decoder.dec_score_head.1.bias"]),
    ],
)
def test_damaged_files_are_told_by_part(
    run: Run, tmp_path: Path, published: dict[str, Tensor], damage: object, faults: list[str]
) -> None:
    path = tmp_path / "damaged.pth"
    torch.save(damage(published), path)  # type: ignore[operator]
    code, out, err = run("zoo", "verify", path)
    assert code == 4 and "part      fits  missing  left over  other shape" in out
    assert all(fault in err for fault in faults), err
    code, out, _ = run("zoo", "verify", path, "--json")
    (result,) = json.loads(out)["weights"].values()
    assert code == 4 and [fault for fault in result["faults"] if fault.startswith(faults[0])]


def test_other_classes_are_no_damage_in_a_file_but_are_under_a_name(run: Run, mirror: Path) -> None:
    torch.save({"model": build_model("n", 7).state_dict()}, mirror / N.file_name)
    code, out, _ = run("zoo", "verify", mirror / N.file_name)
    assert code == 0 and "7 classes" in out
    code, _, err = run("zoo", "pull", "n/coco")
    assert code == 4 and "7 classes" in err and "80 classes" in err


def test_half_a_file(run: Run, mirror: Path, home: Path) -> None:
    path = mirror / N.file_name
    os.truncate(path, path.stat().st_size // 2)
    code, _, err = run("zoo", "verify", path)
    assert code == 4 and "the file is cut off" in err
    code, _, err = run("zoo", "pull", "n/coco")
    assert code == 4 and "cut off" in err and not list((home / "weights").glob("dfine*"))


def test_a_file_that_cannot_be_read_hides_no_other(run: Run, mirror: Path) -> None:
    whole, cut = mirror / N.file_name, Path("cut.pth")
    cut.write_bytes(whole.read_bytes()[:1000])
    code, out, err = run("zoo", "verify", cut, "gone.pth", whole, "--json")
    results = json.loads(out)["weights"]
    assert results[str(whole)]["faults"] == [] and results[str(whole)]["size"] == "n"
    assert results["cut.pth"] == {"faults": ["cut.pth: the file is cut off"]}
    assert "gone.pth" in results["gone.pth"]["faults"][0]
    assert code == 4 and err.splitlines() == [
        "error: cut.pth: the file is cut off (and 1 more)",
        "hint: copy or download it again",
    ]
    assert run("zoo", "verify", "gone.pth", whole).code == 2


def test_conversion_there_and_back_changes_nothing(
    run: Run, mirror: Path, tmp_path: Path, published: dict[str, Tensor]
) -> None:
    assert run("zoo", "convert", "n/coco", "n.safetensors").code == 0
    code, out, err = run("zoo", "convert", "n.safetensors", "for_transformers")
    assert code == 0 and "for_transformers (huggingface)" in out
    assert err == "next: dfine zoo verify for_transformers\n"
    config = json.loads(Path("for_transformers/config.json").read_text())
    assert config["id2label"]["0"] == "person" and config["encoder_hidden_dim"] == 128
    code, out, _ = run("zoo", "convert", "for_transformers", "back.pth", "--json")
    assert code == 0 and json.loads(out)["out_layout"] == "published"
    back = torch.load("back.pth", weights_only=True)["model"]
    missing = published.keys() ^ back.keys()
    assert missing == {"decoder.anchors", "decoder.valid_mask"}
    assert all(torch.equal(value, published[key]) for key, value in back.items())
    assert {path.name for path in Path().iterdir()} >= {"n.safetensors", "for_transformers", "back.pth"}
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_conversion_does_not_overwrite_without_being_told(run: Run, mirror: Path) -> None:
    Path("there").mkdir()
    code, _, err = run("zoo", "convert", mirror / N.file_name, "there")
    assert code == 2 and "is there already" in err
    assert run("zoo", "convert", mirror / N.file_name, "there", "--force").code == 0
    assert sorted(path.name for path in Path("there").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    Path("file.pth").mkdir()
    code, _, err = run("zoo", "convert", mirror / N.file_name, "file.pth", "--force")
    assert code == 2 and "cannot take the place" in err
    Path("text").write_text("")
    code, _, err = run("zoo", "convert", mirror / N.file_name, "text/deeper/out.pth")
    assert code == 2 and "one of its folders is a file" in err and "give a name in a folder" in err
    code, _, err = run("zoo", "convert", mirror / N.file_name, "out.onnx")
    assert code == 2 and ".safetensors" in err


@pytest.mark.parametrize("place", ["mine", "."])
def test_conversion_never_replaces_a_folder_with_other_files(run: Run, mirror: Path, place: str) -> None:
    thesis = Path(place) / "deeper" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    code, _, err = run("zoo", "convert", mirror / N.file_name, place, "--force")
    assert code == 2 and "holds other files" in err and "deeper" in err
    assert thesis.read_text() == "years of work"


def test_conversion_follows_a_link_to_a_folder(run: Run, mirror: Path) -> None:
    assert run("zoo", "convert", mirror / N.file_name, "real").code == 0
    Path("link").symlink_to("real")
    before = (Path("real") / "model.safetensors").stat().st_ino
    assert run("zoo", "convert", mirror / N.file_name, "link", "--force").code == 0
    assert Path("link").is_symlink() and (Path("real") / "model.safetensors").stat().st_ino != before


def test_conversion_does_not_replace_the_folder_it_is_run_in(
    run: Run, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("zoo", "convert", mirror / N.file_name, "here").code == 0
    monkeypatch.chdir("here")
    for place in (".", Path.cwd()):
        code, _, err = run("zoo", "convert", mirror / N.file_name, place, "--force")
        assert code == 2 and "the folder you are in" in err
    assert len(list(Path().iterdir())) == 3


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors", "out"])
def test_conversion_on_a_full_disk(run: Run, mirror: Path, name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code, _, err = run("zoo", "convert", mirror / N.file_name, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "File too large" in err and "free some space" in err
    assert not [path.name for path in Path().iterdir() if "out" in path.name]


def test_what_transformers_cannot_hold_is_refused(
    run: Run, tmp_path: Path, published: dict[str, Tensor]
) -> None:
    path = tmp_path / find_entry("n/deim-coco").file_name
    torch.save({"model": published}, path)
    code, _, err = run("zoo", "convert", path, "folder")
    assert code == 2 and "silu" in err and not Path("folder").exists()
    backbone = tmp_path / "backbone.pth"
    torch.save({k[9:]: v for k, v in published.items() if k.startswith("backbone.")}, backbone)
    assert run("zoo", "convert", backbone, "folder").code == 2
    assert run("zoo", "convert", backbone, "backbone.safetensors").code == 0
    assert "a backbone alone" in run("zoo", "verify", "backbone.safetensors").out


def test_what_is_left_over_is_told(run: Run, tmp_path: Path, published: dict[str, Tensor]) -> None:
    path = tmp_path / "distilled.pth"
    torch.save({"model": {**published, "encoder.projector.weight": torch.zeros(2, 2)}}, path)
    code, out, _ = run("zoo", "verify", path, "--json")
    (result,) = json.loads(out)["weights"].values()
    assert code == 0 and result["left_over"] == ["encoder.projector.weight"]
    code, _, err = run("zoo", "convert", path, "out.pth")
    assert code == 0 and "left out, as D-FINE-N has no place for it: encoder.projector.weight" in err
    assert "encoder.projector.weight" not in torch.load("out.pth", weights_only=True)["model"]


def test_eval_takes_a_name(run: Run, mirror: Path, dataset: Path) -> None:
    """A model that knows nothing, on grey images: the predictions do not go into the cache."""
    annotations = dataset / "annotations" / "instances_val.json"
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": number, "name": name} for number, name in COCO80]
    content["images"], content["annotations"] = content["images"][:2], content["annotations"][:2]
    annotations.write_text(json.dumps(content))
    code, out, err = run("eval", "n/coco", dataset, "--batch", "2", "--workers", "0", "--json")
    assert code == 0, err
    assert json.loads(out)["predictions"] == "dfine_n_coco_val_predictions.json"
    assert Path("dfine_n_coco_val_predictions.json").is_file()


def predicted(run: Run, model: Path, data: Path) -> list[tuple[int, int, float]]:
    """Image, category and score of everything that is found."""
    code, _, err = run("eval", model, data, "--workers", "0", "--device", "cpu", "--out", "found.json")
    assert code == 0, err
    return [(r["image_id"], r["category_id"], r["score"]) for r in json.loads(Path("found.json").read_text())]


def test_every_converted_layout_keeps_names_and_ids(run: Run, trained: Path) -> None:
    expected = predicted(run, trained / "toy", trained / "data")
    ids = {category for _, category, _ in expected}
    assert max(ids) > 10, "ids are sparse, which the rows of the heads are not"
    source = trained / "toy"
    for out in ("toy.safetensors", "toy.pth", "folder", "again.pth"):
        code, _, err = run("zoo", "convert", source, out)
        assert code == 0, err
        assert predicted(run, Path(out), trained / "data") == expected, out
        source = Path(out)
