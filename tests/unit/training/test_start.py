"""Runs that begin with weights: what is loaded, what is told, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfine_cli import checkpoint_format as keys
from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Recipe
from dfine_cli.errors import CheckError, DfineError, UsageError
from dfine_cli.model.dfine import build_model
from dfine_cli.model.weights import find_entry
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import set_up, train
from dfine_cli.training.run_dir import RunDir
from dfine_cli.training.start import StartReport, start_model
from dfine_cli.training.transfer import is_class_row

MakeRecipe = Callable[..., Recipe]
SHAPES = ("disc", "square", "triangle", "star", "cross")


@lru_cache
def fresh_state(size: str, classes: int = 80) -> dict[str, Tensor]:
    """Shared: copy before changing it."""
    torch.manual_seed(5)
    return build_model(size, classes).state_dict()


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """A file in the published layout; entries given by ``change`` replace those of a fresh model."""

    def write(size: str = "n", classes: int = 80, **change: Tensor) -> Path:
        path = tmp_path / f"dfine_{size}_{classes}.pth"
        torch.save({"model": {**fresh_state(size, classes), **change}}, path)
        return path

    return write


class Notes(Monitor):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def begin(recipe: Recipe, classes: tuple[str, ...] = SHAPES, size: str = "n", **knobs: object) -> StartReport:
    report = start_model(build_model(size, len(classes), **knobs), recipe, classes)  # type: ignore[arg-type]
    assert report is not None
    return report


@pytest.mark.parametrize("size", "nsmlx")
def test_published_weights_of_every_size_load_and_run(size: str, make_recipe: MakeRecipe, published) -> None:
    recipe = make_recipe(size=size, start={"weights": str(published(size))})
    model = build_model(size, 3, input_size=(64, 64), num_queries=20)
    report = start_model(model, recipe, ("Cats", "widget", "sofa"))
    assert report is not None and report.fit.exact, report.tell()
    assert list(report.transfer.warm) == ["Cats", "sofa"]
    theirs = fresh_state(size)
    for key, value in model.state_dict().items():
        if is_class_row(key):
            assert torch.equal(value[[0, 2]], theirs[key][[15, 57]]), key
        elif key not in ("decoder.anchors", "decoder.valid_mask"):
            assert torch.equal(value, theirs[key]), key
    with torch.no_grad():
        output = model.eval()(torch.zeros(1, 3, 64, 64))
    assert output.final.logits.shape == (1, 20, 3) and output.final.boxes.isfinite().all()


@pytest.mark.parametrize("size", "ns")
def test_a_run_starts_from_them_and_remembers_it(size: str, make_recipe: MakeRecipe, published) -> None:
    weights = published(size)
    sections = {"size": size, "start": {"weights": str(weights), "class_map": ("disc=sports ball",)}}
    recipe = make_recipe(**sections, optim={"batch": 5}, schedule={"epochs": 2})
    listener = Notes()
    result = train(recipe, listener)
    assert result.rows[-1]["step"] == 2
    assert result.start is not None and list(result.start.transfer.warm) == ["disc"]
    assert "1 of 5 classes are warm-started: disc <- sports ball (class map)" in listener.notes
    saved = torch.load(result.best, weights_only=True)
    assert saved[keys.RECIPE]["start"]["weights"] == str(weights)
    assert load_recipe(result.folder / "recipe.yaml").recipe == recipe
    weights.unlink()
    again = train(recipe, resume=RunDir(result.folder))
    assert again.start is None, "a resumed run does not read them again"
    with pytest.raises(UsageError, match="no such file"):
        train(recipe)


def test_the_model_begins_with_the_weights_and_so_does_the_average(
    make_recipe: MakeRecipe, published
) -> None:
    start = {"weights": str(published()), "freeze": "encoder"}
    setup = set_up(make_recipe(start=start, schedule={"early_stop": 3}), Monitor())
    key = "encoder.input_proj.0.conv.weight"
    for model in (setup.state.model, setup.state.ema.model):
        assert torch.equal(model.state_dict()[key], fresh_state("n")[key])
    setup.loader.close()
    facts = setup.facts()
    assert facts["frozen"] == "backbone, encoder" and facts["lr"].startswith("rest ")
    assert facts["early stop"] == "after 3 epochs without a better AP"


def test_own_weights_carry_their_class_names(make_recipe: MakeRecipe) -> None:
    first = train(make_recipe(name="first", schedule={"epochs": 1}))
    report = begin(make_recipe(start={"weights": str(first.folder)}), ("Crosses", "other", "disc"))
    assert report.transfer.warm == {"Crosses": ("cross", "name"), "disc": ("disc", "name")}
    assert report.fit.exact


def test_fresh_heads_are_not_carried(make_recipe: MakeRecipe, published) -> None:
    recipe = make_recipe(start={"weights": str(published()), "head": "fresh"})
    torch.manual_seed(1)
    model = build_model("n", 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = start_model(model, recipe, ("cat", "dog"))
    assert report is not None and report.transfer.warm == {} and report.fit.exact
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if is_class_row(k))
    assert "as asked" in report.notes[0]


def test_rows_without_names_are_found_by_number(make_recipe: MakeRecipe, published) -> None:
    start = {"weights": str(published(classes=7))}
    report = begin(make_recipe(start=start), ("cat", "3"))
    assert report.transfer.warm == {} and "do not name their 7 classes" in report.notes[0]
    report = begin(make_recipe(start={**start, "class_map": ("cat=6",)}), ("cat", "3"))
    assert report.transfer.warm == {"cat": ("6", "class map")}


def test_objects365_heads_are_found_by_name(make_recipe: MakeRecipe, published) -> None:
    recipe = make_recipe(start={"weights": str(published(classes=366))})
    model = build_model("n", 2)
    report = start_model(model, recipe, ("sneakers", "bird"))
    assert report is not None and report.transfer.warm["bird"] == ("Wild Bird", "synonym")
    key = "decoder.enc_score_head.weight"
    assert torch.equal(model.state_dict()[key], fresh_state("n", 366)[key][[2, 57]])


@pytest.mark.parametrize(
    ("knobs", "text"),
    [
        ({"decoder_layers": 2}, "decoder: "),
        ({"decoder_layers": 4}, "decoder: "),
        ({"bins": 16}, "heads: 6 of another shape, such as decoder.dec_bbox_head.0.layers.2.weight"),
        ({"points": (3, 3)}, "of another shape, such as decoder.decoder.layers.0.cross_attn"),
    ],
)
def test_another_model_is_started_in_part_and_told(
    knobs: dict[str, object], text: str, make_recipe: MakeRecipe, published
) -> None:
    report = begin(make_recipe(start={"weights": str(published())}, model=knobs), **knobs)
    assert not report.fit.exact
    told = "\n".join(report.tell())
    assert text in told and "left over" in told and "backbone" in told
    assert json.loads(json.dumps(report.to_dict()))["faults"] == report.fit.faults()


def test_more_queries_need_no_weights(make_recipe: MakeRecipe, published) -> None:
    assert begin(make_recipe(start={"weights": str(published())}), num_queries=77).fit.exact


def backbone_alone(folder: Path) -> Path:
    prefix = "backbone."
    path = folder / "b0.pth"
    torch.save({k.removeprefix(prefix): v for k, v in fresh_state("n").items() if k.startswith(prefix)}, path)
    return path


def test_a_class_map_without_heads_to_carry_is_refused(
    make_recipe: MakeRecipe, published, tmp_path: Path
) -> None:
    start = {"weights": str(backbone_alone(tmp_path)), "class_map": ("disc=cat",)}
    with pytest.raises(UsageError, match=r"class_map says .* is a backbone, which has none"):
        begin(make_recipe(start=start))
    with pytest.raises(UsageError, match=r"class_map says .* all start fresh") as error:
        begin(make_recipe(start={**start, "weights": str(published()), "head": "fresh"}))
    assert "--no-head" in error.value.hint


@pytest.mark.parametrize("freeze", ["encoder", "all-but-head"])
def test_what_starts_fresh_is_not_frozen(
    freeze: str, make_recipe: MakeRecipe, published, tmp_path: Path
) -> None:
    alone = str(backbone_alone(tmp_path))
    with pytest.raises(UsageError, match=f"start.freeze {freeze}: the encoder would stay as it was drawn"):
        begin(make_recipe(start={"weights": alone, "freeze": freeze}))
    begin(make_recipe(start={"weights": alone, "freeze": "backbone"}))
    knobs = {"decoder_layers": 4}
    recipe = make_recipe(start={"weights": str(published()), "freeze": freeze}, model=knobs)
    if freeze == "encoder":
        begin(recipe, **knobs)
    else:
        with pytest.raises(UsageError, match="the decoder would stay as it was drawn"):
            begin(recipe, **knobs)


def test_a_backbone_alone_is_told_as_such(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = backbone_alone(tmp_path)
    report = begin(make_recipe(start={"weights": str(path)}))
    parts = {part.part: part for part in report.fit.parts}
    assert not parts["backbone"].missing and not parts["encoder"].fits
    assert "encoder: " in "\n".join(report.tell()) and report.source == "backbone B0"


@pytest.mark.parametrize(
    ("start", "model", "kind", "message"),
    [
        ({"size": "s"}, {}, UsageError, "is D-FINE-S, but the recipe is for size N"),
        ({}, {"weighting_a": 0.25}, UsageError, "was trained with model.weighting_a 0.5"),
        ({}, {"weighting_c": 0.125}, UsageError, "was trained with model.weighting_c 0.25"),
    ],
)
def test_weights_of_another_kind_are_refused(
    start: dict[str, str],
    model: dict[str, float],
    kind: type[DfineError],
    message: str,
    make_recipe: MakeRecipe,
    published,
) -> None:
    with pytest.raises(kind, match=message):
        begin(make_recipe(start={"weights": str(published(**start))}, model=model), **model)


def test_an_activation_that_is_known_counts_and_another_is_assumed(
    make_recipe: MakeRecipe, published, tmp_path: Path
) -> None:
    """Only the name of a published file tells it."""
    known = published().rename(tmp_path / find_entry("n/deim-coco").file_name)
    with pytest.raises(UsageError, match="trained with silu in the decoder, the recipe has relu"):
        begin(make_recipe(start={"weights": str(known)}))
    silu = {"activation": "silu"}
    assert not begin(make_recipe(start={"weights": str(known)}, model=silu)).notes
    renamed = known.rename(tmp_path / "mine.pth")
    for model in ({}, silu):
        notes = begin(make_recipe(start={"weights": str(renamed)}, model=model)).notes
        assert f"{model.get('activation', 'relu')} is assumed" in notes[0]


def test_broken_files_are_refused(make_recipe: MakeRecipe, published, tmp_path: Path) -> None:
    state = dict(fresh_state("n"))
    state["encoder.foo"] = state.pop("encoder.input_proj.0.conv.weight")
    renamed, part, half = (tmp_path / f"{name}.pth" for name in ("renamed", "part", "half"))
    torch.save({"model": state}, renamed)
    torch.save({"model": {k: v for k, v in fresh_state("n").items() if not k.startswith("encoder.")}}, part)
    whole = published().read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    for path, kind, message in (
        (renamed, CheckError, "encoder: 1 missing"),
        (part, CheckError, "encoder: .* missing"),
        (half, DfineError, "cut off"),
        (tmp_path / "none.pth", UsageError, "no such file"),
    ):
        with pytest.raises(kind, match=message):
            begin(make_recipe(start={"weights": str(path)}))


@pytest.mark.parametrize("start", [{"freeze": "backbone"}, {"class_map": ("a=b",)}])
def test_what_to_keep_needs_weights(start: dict[str, object], make_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match="starts from weights"):
        set_up(make_recipe(start=start), Monitor())


def test_early_stop_needs_a_validation_set(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match="no validation set"):
        set_up(
            make_recipe(schedule={"early_stop": 2}, data={"val_json": None, "val_images": None}), Monitor()
        )


def test_early_stop_ends_a_run_that_can_be_looked_at(make_recipe: MakeRecipe) -> None:
    still = make_recipe(optim={"lr": 1e-12, "backbone_lr": 1e-12}, schedule={"epochs": 8, "early_stop": 1})
    listener = Notes()
    result = train(still, listener)
    assert [r["epoch"] for r in result.rows] == [1, 2, 5]
    assert len([n for n in listener.notes if "has not risen" in n]) == 2
    assert train(still, resume=RunDir(result.folder)).rows == result.rows, "nothing is left to do"


def test_a_frozen_run_keeps_its_backbone(make_recipe: MakeRecipe, published) -> None:
    recipe = make_recipe(start={"weights": str(published()), "freeze": "encoder"}, schedule={"epochs": 1})
    result = train(recipe)
    saved = torch.load(result.folder / "weights" / "last.pt", weights_only=True)
    for name in (keys.MODEL, keys.EMA):
        for key, value in saved[name].items():
            if key.startswith(("backbone.", "encoder.")):
                assert torch.equal(value, fresh_state("n")[key]), (name, key)
    key = "decoder.enc_output.proj.weight"
    assert not torch.equal(saved[keys.MODEL][key], fresh_state("n")[key])
