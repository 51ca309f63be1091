"""Every shipped recipe resolves, and the COCO ones say what was published."""

import json
from pathlib import Path

import pytest

from dfine_cli.config.load import load_recipe
from dfine_cli.config.locate import recipe_names, recipes_folder
from dfine_cli.config.schema import Start
from dfine_cli.config.write import write_recipe
from dfine_cli.errors import UsageError
from dfine_cli.phases import Phase, Phases

FILES = sorted(recipes_folder().rglob("*.yaml"))
KINDS = ("finetune", "scratch")
COCO = {  # epochs, first epoch of the last phase, repeats of the base size, batches, rates, decay
    "n": (160, 148, 0, 128, 256, 8e-4, 4e-4, 1e-4),
    "s": (132, 120, 20, 32, 64, 2e-4, 1e-4, 1e-4),
    "m": (132, 120, 6, 32, 64, 2e-4, 2e-5, 1e-4),
    "l": (80, 72, 4, 32, 64, 2.5e-4, 1.25e-5, 1.25e-4),
    "x": (80, 72, 3, 32, 64, 2.5e-4, 2.5e-6, 1.25e-4),
}


def test_the_recipes_are_all_there() -> None:
    assert len(FILES) == 22
    assert recipe_names() == [
        f"{kind}/{size}" for kind in ("coco", "finetune", "scratch") for size in "lmnsx"
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(recipes_folder()).as_posix())
def test_a_recipe_resolves_and_round_trips(path: Path, tmp_path: Path) -> None:
    resolved = load_recipe(path)
    assert resolved.notes == []
    write_recipe(resolved.recipe, tmp_path / "run.yaml")
    assert load_recipe(tmp_path / "run.yaml").recipe == resolved.recipe


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_opens_with_the_command_that_runs_it(name: str) -> None:
    lines = (recipes_folder() / f"{name}.yaml").read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    assert any("dfine train" in line or "dfine finetune" in line for line in comment[:5])
    kind, _, size = name.partition("/")
    recipe = load_recipe(name).recipe
    assert (recipe.name, recipe.size) == (f"{kind}_{size}", size)


@pytest.mark.parametrize("size", COCO)
def test_coco_is_as_published(size: str) -> None:
    r = load_recipe(f"coco/{size}").recipe
    s = r.schedule
    phases = Phases(s.epochs, s.warm_until, s.dense_until, s.refine_from)
    found = (
        s.epochs,
        phases.first_epoch(Phase.REFINE),
        r.augment.multi_scale,
        r.optim.batch,
        r.evaluation.batch,
        r.optim.lr,
        r.optim.backbone_lr,
        r.optim.weight_decay,
    )
    assert found == COCO[size]
    assert [phase for phase, _, _ in phases.timeline()] == [Phase.PLAIN, Phase.REFINE]
    assert (s.curve, s.warmup_steps, s.warmup_share, s.reload_best) == ("constant", 500, None, True)
    assert (r.ema.decay, r.ema.warmup_steps, r.ema.share) == (0.9999, 1000, None)
    assert (r.optim.groups, r.optim.clip_norm, r.optim.betas) == ("published", 0.1, (0.9, 0.999))
    assert (r.categories.remap, r.evaluation.weights, r.data.input_size) == ("coco80", "ema", (640, 640))
    augment = r.augment
    assert (augment.photometric, augment.zoom_out, augment.iou_crop, augment.flip) == (0.5, 0.5, 0.8, 0.5)


@pytest.mark.parametrize("size", "nsmlx")
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_for_own_data_are_shares_of_the_run(kind: str, size: str) -> None:
    r = load_recipe(f"{kind}/{size}").recipe
    assert r.schedule.curve == "cosine"
    assert r.schedule.warmup_share is not None and r.schedule.warmup_share <= 0.2
    assert r.ema.share is not None and r.ema.share <= 0.05
    assert r.schedule.refine_from < 1
    assert r.optim.groups == "clean"
    assert r.optim.nominal_batch is not None


@pytest.mark.parametrize("size", "smlx")
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_differ_only_in_their_rows(kind: str, size: str) -> None:
    def rest(name: str) -> object:
        recipe = load_recipe(name).recipe
        rows = {"kind": "muon", "lr": 1.0, "backbone_lr": 1.0, "clip_norm": 0.0}
        model = recipe.model.model_copy(update={"frozen_backbone": True})  # of L and X, and only they can
        optim = recipe.optim.model_copy(update=rows)
        return recipe.model_copy(update={"name": "", "size": "n", "optim": optim, "model": model})

    assert rest(f"{kind}/{size}") == rest(f"{kind}/n")


@pytest.mark.parametrize("size", "nsmlx")
def test_fine_tuning_has_no_higher_rates_than_training_from_scratch(size: str) -> None:
    tuned, scratch = (load_recipe(f"{kind}/{size}").recipe.optim for kind in KINDS)
    assert tuned.batch == scratch.batch
    assert tuned.lr <= scratch.lr and tuned.backbone_lr <= scratch.backbone_lr


@pytest.mark.parametrize("size", "nsmlx")
def test_an_old_config_keeps_the_values_of_its_version(size: str, tmp_path: Path) -> None:
    """What ``extends: finetune/…`` meant in 2026.1, recorded then; keys that came later are at rest."""
    recorded = json.loads((Path(__file__).parent / "finetune_2026.1.json").read_text())[size]
    old = tmp_path / "old.yaml"
    old.write_text(f'version: "2026.1"\nextends: finetune/{size}\n')
    for recipe in (
        load_recipe(old).recipe,
        load_recipe(f"finetune/{size}", ["version='2026.1'"]).recipe,
        load_recipe(f"2026.1/finetune/{size}").recipe,
    ):
        found = recipe.model_dump(mode="json")
        for section, values in recorded.items():
            if isinstance(values, dict):
                assert {k: found[section][k] for k in values} == values
            else:
                assert found[section] == values
        assert recipe.start == Start() and recipe.schedule.early_stop == 0
    assert load_recipe(f"finetune/{size}").recipe.optim.lr != recorded["optim"]["lr"]


def test_a_run_of_an_old_config_is_pinned_to_its_version(tmp_path: Path) -> None:
    recipe = load_recipe("finetune/n", ["version='2026.1'"]).recipe
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml").recipe == recipe
    assert 'version: "2026.1"' in (tmp_path / "recipe.yaml").read_text().replace("'", '"')


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text('version: "2031.7"\nextends: finetune/n\n')
    with pytest.raises(UsageError, match=r"new\.yaml:1: `version` = .*2031\.7"):
        load_recipe(tmp_path / "new.yaml")


@pytest.mark.parametrize(
    ("size", "backbone"), [("n", "b0"), ("s", "b0"), ("m", "b2"), ("l", "b4"), ("x", "b5")]
)
def test_the_published_schedules_start_from_the_published_backbones(size: str, backbone: str) -> None:
    assert load_recipe(f"coco/{size}").recipe.start.weights == f"{backbone}/imagenet"
