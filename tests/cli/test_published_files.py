"""Files of the published layouts, made from our own model of each size, go through the commands as real ones would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from dfine_cli.model.dfine import build_model
from tests.cli.conftest import write_split

if TYPE_CHECKING:
    from tests.cli.conftest import Run

State = dict[str, Tensor]
LAYOUTS: dict[str, Callable[[State], object]] = {
    "published": lambda state: {"model": state, "last_epoch": 71},
    "published-ema": lambda state: {"ema": {"module": state, "updates": 9000}, "last_epoch": 71},
}
QUICK = ("--device", "cpu", "--workers", 0, "--json")
TUNED = ("--input-size", 64, "--set", "model.num_denoising=10", "--set", "optim.batch=2", "--dry-run", *QUICK)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two training and two validation pictures with COCO's own cats and dogs."""
    folder = tmp_path / "pets"
    for number, name in enumerate(("train", "val")):
        write_split(folder, name, 2, first=2 * number)
        file = folder / "annotations" / f"instances_{name}.json"
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
        for entry in content["annotations"]:
            entry["category_id"] = {3: 17, 7: 18}[entry["category_id"]]
        file.write_text(json.dumps(content))
    return folder


def state_of(size: str, num_classes: int = 80) -> State:
    torch.manual_seed(0)
    return build_model(size, num_classes, input_size=(96, 96)).state_dict()


@pytest.mark.parametrize("size", "nsmlx")
def test_every_size_is_scored_and_fine_tuned_from_both_layouts(run: Run, pets: Path, size: str) -> None:
    """No weights are trained here: what counts is that every tensor finds its place in every command."""
    state, path = state_of(size), pets / f"{size}.pth"
    first, second = list(LAYOUTS)[:: 1 if size in "nml" else -1]
    surplus = {f"encoder.projector.{i}.weight": torch.zeros(2) for i in range(5)}
    torch.save(LAYOUTS[first]({**state, **surplus}), path)
    code, out, err = run("eval", path, pets, *QUICK)
    assert code == 0, err
    assert f"warning: {path}: nothing says the activation of its decoder, relu is assumed" in err
    assert "no place for it: encoder.projector.0.weight" in err and "2.weight and 2 more\n" in err
    assert json.loads(out)["schema_version"] == 1
    torch.save(LAYOUTS[second](state), path)
    code, out, err = run("finetune", pets, "--from", path, *TUNED)
    assert code == 0, err
    facts = json.loads(out)["dry_run"]
    assert facts["model"].startswith(f"D-FINE-{size.upper()}, ") and facts["step"].startswith("loss ")
    assert f"D-FINE-{size.upper()} with 80 classes at 96x96 ({second} layout)" in err
    assert "2 of 2 classes are warm-started" in err and "missing" not in err
    assert "relu is assumed" in err
    path.unlink()  # up to 250 MB


def renamed(state: State) -> object:
    return {"model": {k.replace("lateral_convs.0.", "lateral.0."): v for k, v in state.items()}}


def without_decoder(state: State) -> object:
    return {"ema": {"module": {k: v for k, v in state.items() if not k.startswith("decoder.decoder.")}}}


def with_code(state: State) -> object:
    return {"model": state, "recipe": Path("/")}


DAMAGES: dict[str, tuple[Callable[[State], object], float, str]] = {
    "a renamed key": (renamed, 1, "encoder: 5 missing, such as encoder.lateral_convs.0."),
    "a missing part": (without_decoder, 1, "decoder: 75 missing"),
    "half its bytes": (LAYOUTS["published"], 0.5, "the file is cut off"),
    "code inside": (with_code, 1, "holds more than tensors and plain values"),
    "something else": (lambda state: {"model": {"weight": torch.ones(3)}}, 1, "those of no D-FINE"),
}


@pytest.mark.parametrize(("damage", "kept", "told"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_stops_every_command(
    run: Run, pets: Path, damage: Callable[[State], object], kept: float, told: str
) -> None:
    path = Path("damaged.pth").absolute()
    torch.save(damage(state_of("n")), path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    for words in (("eval", path, pets, *QUICK), ("finetune", pets, "--from", path, *TUNED)):
        code, out, err = run(*words)
        assert (code, out) == (4, ""), err
        error, hint = err.splitlines()[-2:]
        assert error.startswith(f"error: {path}") and told in error and hint.startswith("hint: "), err
    assert {entry.name for entry in Path().iterdir()} == {"damaged.pth", "pets"}


def test_another_class_count_is_told_and_still_a_start(run: Run, pets: Path) -> None:
    path = Path("seven.pth").absolute()
    torch.save({"model": state_of("n", 7)}, path)
    code, out, err = run("eval", path, pets, *QUICK)
    assert (code, out) == (2, "") and "2 of its 2 classes are not those the detector was trained on" in err
    code, _, err = run("finetune", pets, "--from", path, *TUNED)
    assert code == 0 and "do not name their 7 classes" in err
    code, _, err = run(
        "finetune", pets, "--from", path, "--class-map", "cat=4", "--class-map", "dog=9", *TUNED
    )
    assert code == 2 and "9" in err.splitlines()[-2]
    code, _, err = run("finetune", pets, "--from", path, "--class-map", "cat=4", *TUNED)
    assert code == 0 and "1 of 2 classes are warm-started" in err
