"""Recipes from files, parents and ``--set``; and every mistake told with its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dfine_cli.config.load import load_recipe
from dfine_cli.errors import UsageError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into an empty current folder; gives its path."""
    monkeypatch.chdir(tmp_path)

    def call(text: str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return call


def message_of(source: str | Path, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(source, overrides)
    assert caught.value.hint
    return caught.value.message


def test_layers_replace_single_keys_and_keep_their_origin(write: Write) -> None:
    write("optim: {lr: 1e-3, betas: [0.8, 0.9]}\nschedule:\n  epochs: 5\n", "parent.yaml")
    path = write("extends: ./parent.yaml\nschedule: {curve: cosine}\nsize: s\n")
    resolved = load_recipe(path, ["schedule.epochs=9", "run.seed=1", "run.seed=2"])
    recipe, origins = resolved.recipe, resolved.origins
    assert (recipe.optim.lr, recipe.optim.betas) == (1e-3, (0.8, 0.9))
    assert (recipe.schedule.epochs, recipe.schedule.curve, recipe.run.seed) == (9, "cosine", 2)
    assert origins["optim.lr"] == "parent.yaml:1"
    assert origins["schedule.curve"] == "run.yaml:2"
    assert origins["size"] == "run.yaml:3"
    assert origins["schedule.epochs"] == "--set"
    assert origins["model.bins"] == "default"


def test_a_name_is_a_shipped_recipe() -> None:
    resolved = load_recipe("coco/s")
    assert resolved.recipe.size == "s"
    assert resolved.origins["schedule.epochs"].startswith("coco/s.yaml:")
    assert resolved.origins["optim.clip_norm"].startswith("base.yaml:")


def test_lists_are_replaced_as_a_whole(write: Write) -> None:
    path = write("data: {input_size: [320, 640]}\n")
    assert load_recipe(path, ["data.input_size=[64, 96]"]).recipe.data.input_size == (64, 96)


def test_a_set_may_give_a_section_and_may_unset(write: Write) -> None:
    path = write("ema: {share: 0.02}\n")
    recipe = load_recipe(path, ["augment={mosaic: 0.3, flip: 0}", "ema.share="]).recipe
    assert (recipe.augment.mosaic, recipe.augment.flip, recipe.ema.share) == (0.3, 0.0, None)


def test_data_paths_start_at_the_file_that_names_them(write: Write, tmp_path: Path) -> None:
    write("data: {train_json: t.json, train_images: ../images}\n", "sets/parent.yaml")
    path = write("extends: ./sets/parent.yaml\ndata: {val_json: v.json}\n")
    data = load_recipe(path, ["data.val_images=val"]).recipe.data
    assert data.train_json == tmp_path / "sets" / "t.json"
    assert data.train_images == tmp_path / "images"
    assert data.val_json == tmp_path / "v.json"
    assert data.val_images == tmp_path / "val"


def test_relative_source_and_absolute_paths(write: Write, tmp_path: Path) -> None:
    write("data: {train_json: /data/t.json, val_json: v.json}\n", "sub/run.yaml")
    data = load_recipe("sub/run.yaml").recipe.data
    assert data.train_json == Path("/data/t.json")
    assert data.val_json == tmp_path / "sub" / "v.json"


def test_an_empty_section_is_no_mistake(write: Write) -> None:
    assert load_recipe(write("optim:\n  # lr: 1\nema: {}\n")).recipe.optim.lr == 2.5e-4


def test_all_mistakes_at_once_each_with_its_line(write: Write) -> None:
    path = write("extends: coco/s\nschedule:\n  epoch: 5\noptim:\n  lr: -1\n  batch: true\n")
    lines = message_of(path, ("optim.lrr=1", "ema.decay")).splitlines()
    assert lines == [
        "run.yaml:3: unknown key `schedule.epoch` - did you mean `epochs`?",
        "--set ema.decay: must be key=value, for example optim.lr=3e-4",
        "--set: unknown key `optim.lrr` - did you mean `lr`?",
        "run.yaml:5: `optim.lr` = -1: Input should be greater than 0",
        "run.yaml:6: `optim.batch` = true: Input should be a valid integer",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule: {epochs: true}", "`schedule.epochs` = true: Input should be a valid integer"),
        ("schedule: {epochs: 12.0}", "`schedule.epochs` = 12.0: Input should be a valid integer"),
        ("schedule: {epochs: '300'}", "valid integer"),
        ("schedule: {epochs: 0}", "greater than or equal to 1"),
        ("data: {input_size: 320}", "`data.input_size` = 320: must be a list such as [640, 640]"),
        ("data: {input_size: [320, 300]}", "multiple of 32"),
        ("data: {input_size: [320, 320, 320]}", "must be a list such as [640, 640]"),
        ("optim: {betas: [0.9]}", "`optim.betas` = [0.9]: must be a list such as [0.9, 0.999]"),
        ("optim: {betas: [1, 1]}", "less than 1"),
        ("name: ../x", "must be a plain name"),
        (
            "run: {device: foo}",
            "`run.device` = foo: must be auto, or a kind of device and perhaps its number",
        ),
        ("run: {device: 'cuda:x'}", "such as cpu, cuda, cuda:1, mps"),
        ("data: {workers: 999}", "less than or equal to 256"),
        ("run: {seed: 99999999999999999999}", "less than 9223372036854775808"),
        ("model: {points: []}", "at least 1 item"),
        ("schedule: {epochs: 99999999999}", "less than or equal to 100000"),
        ("loss: {classification: vlf}", "`loss.classification` = vlf: Input should be 'vfl'"),
        ("version: 2026.1", "Input should be '2026.1' or '2026.2', in quotes"),
        ("optim: {lr: .inf}", "finite"),
        ("optim: {lr: .nan}", "finite"),
        ("optim: {lr: null}", "`optim.lr` = null"),
        ("optim: 5", "`optim` = 5: is a section"),
        ("lr: 5", "unknown key `lr` - did you mean `optim.lr`?"),
        ("schedule: {lr: 5}", "unknown key `schedule.lr` - did you mean `optim.lr`?"),
        ("optim: {lr: {start: 5}}", "unknown key `optim.lr.start`"),
        ("schedul: {epochs: 5}", "unknown key `schedul.epochs` - did you mean `schedule.epochs`?"),
        ("num_classes: 3", "the classes are read from the annotation file"),
        ("zzz: {}", "unknown key `zzz`"),
        ("schedule: {dense_until: 0.9, refine_from: 0.5}", "warm_until <= dense_until <= refine_from"),
    ],
)
def test_a_mistake_says_where_and_what(write: Write, text: str, message: str) -> None:
    found = message_of(write(f"# first line\n{text}\n"))
    assert message in found
    assert found.startswith("run.yaml:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml: the file is empty"),
        ("# nothing\n", "run.yaml: the file is empty"),
        ("- a\n", "run.yaml:1: a recipe is a mapping"),
        ("a: [1\n", "run.yaml:2:1: not valid YAML"),
        ("size: n\nsize: s\n", "run.yaml:2:1: not valid YAML: key `size` stands twice"),
        ("extends: [coco/s]\n", "run.yaml:1: `extends` = [coco/s]: must be one name or path"),
        ("size: n\nextends: coco/z\n", "run.yaml:2: `extends`: there is no recipe `coco/z`"),
        ("extends: ./none.yaml\n", "none.yaml: recipe not found"),
        ("extends: ./run.yaml\n", "goes round in a circle: run.yaml -> run.yaml"),
    ],
)
def test_files_that_are_no_recipe(write: Write, text: str, message: str) -> None:
    assert message in message_of(write(text))


def test_not_a_text_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "run.yaml: not a text file" in message_of(tmp_path / "run.yaml")


def test_a_circle_of_two(write: Write) -> None:
    write("extends: ./b.yaml\n", "a.yaml")
    path = write("extends: ./a.yaml\n", "b.yaml")
    assert "b.yaml -> a.yaml -> b.yaml" in message_of(path)


def test_three_parents_are_enough(write: Write) -> None:
    for number in range(5):
        write(f"extends: ./{number + 1}.yaml\n" if number < 4 else "size: m\n", f"{number}.yaml")
    assert load_recipe("./1.yaml").recipe.size == "m"
    assert "more than 3 parents" in message_of("./0.yaml")


@pytest.mark.parametrize(("old", "new"), [("true", "coco80"), ("false", "none")])
@pytest.mark.parametrize("form", ["remap_mscoco_category: {}", "data: {{remap_mscoco_category: {}}}"])
def test_the_published_toggle_is_translated_with_a_note(write: Write, form: str, old: str, new: str) -> None:
    resolved = load_recipe(write(form.format(old)))
    assert resolved.recipe.categories.remap == new
    assert resolved.origins["categories.remap"] == "run.yaml:1"
    assert len(resolved.notes) == 1 and f"remap_mscoco_category: {old}" in resolved.notes[0]


def test_the_published_toggle_must_be_plain(write: Write) -> None:
    assert "must be true or false" in message_of(write("remap_mscoco_category: yes\n"))
    both = write("remap_mscoco_category: true\ncategories: {remap: none}\n")
    assert "say the same" in message_of(both)


def test_set_takes_the_published_toggle_over_a_file(write: Write) -> None:
    path = write("categories: {remap: auto}\n")
    assert load_recipe(path, ["remap_mscoco_category=false"]).recipe.categories.remap == "none"


def test_loading_one_recipe_leaves_no_trace_in_the_next(write: Write) -> None:
    before = load_recipe("coco/s")
    load_recipe("coco/s", ["optim.lr=1", "model.points=[1, 2, 3]"])
    assert load_recipe("coco/s") == before


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("[65, 65]", "65 is not a multiple of 32; near it are 64 and 96"),
        ("[64, 31]", "31 is not a multiple of 32; near it are 32"),
        ("[4097, 64]", "4097 is not a multiple of 32; near it are 4096"),
        ("[9999, 64]", "9999 is not a multiple of 32; the largest is 4096"),
    ],
)
def test_an_illegal_size_is_told_once_with_the_nearest(size: str, told: str) -> None:
    assert message_of("coco/n", (f"data.input_size={size}",)) == f"--set: `data.input_size` = {size}: {told}"
