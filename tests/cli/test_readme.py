"""README.md is true: every command in it runs, and every path in its table is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfine_cli.cli.app import COMMANDS
from dfine_cli.data.synthetic import write_dataset

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOOLS = ("dfine", "make", "python")

# What a reader puts in place of the README's own words. The data set itself is drawn at `path/to/data`.
SUBSTITUTIONS = {
    "DATA": "path/to/data",
    "JSON": "path/to/data/annotations/instances_train.json",
    "IMAGES": "path/to/data/train",
    "runs/other": "runs/data_n",
}
# What is added to a command so that it takes seconds instead of minutes; the words of the README stay.
TINY_RECIPE = "--set data.input_size=[64,64] --set schedule.epochs=1 --set data.workers=0 --set optim.batch=2"
TINY_RECIPE += " --set optim.nominal_batch=2 --set model.num_queries=20 --set run.device=cpu"
TINY = {
    "dfine init": TINY_RECIPE,
    "dfine train": TINY_RECIPE,
    "dfine eval": "--device cpu --workers 0",
    "dfine finetune": "--show",  # the weights themselves are on a server
    "dfine export": "--max-ap-drop 100",  # a model of two steps; that a proof can fail is tested elsewhere
    "dfine bench": "--input-size 64 --threads 1 --warmup 1 --runs 2",
    "dfine visualize": "--device cpu --workers 0",
    "dfine demo": "--images 8 --size 64 --epochs 1 --device cpu",
    "python tests/benchmarks/bench_loader.py": "--side 64 --batch 2",
    "python tests/benchmarks/bench_end_to_end.py": "--side 64 --workers 0 --rounds 1",
    "python tests/benchmarks/bench_inference.py": "--sizes n --side 64 --runs 1 --threads 1",
    "python tests/benchmarks/bench_step.py": "--side 64 --batch 2 --boxes 3 --runs 1 --threads 1",
}


def commands() -> Iterator[str]:
    """Commands in the order of the README: lines of shell blocks, and code in the text that starts with a tool."""
    for block, inline in re.findall(r"^```(?:bash|sh|console)\n(.*?)^```|`([^`\n]+)`", README, re.M | re.S):
        for line in (block or inline).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if len(words) > 1 and words[0] in TOOLS and "…" not in line:
                yield shlex.join(words)


def in_full(command: str) -> list[str]:
    """The words to run for a command of the README."""
    words = [SUBSTITUTIONS.get(word, word) for word in shlex.split(command)]
    runs_a_model = not {"--predictions", "--estimate"} & set(words)  # else there is nothing to make quicker
    return words + shlex.split(TINY.get(" ".join(words[:2]), "") if runs_a_model else "")


def test_the_commands_are_found() -> None:
    found = list(commands())
    assert {"make demo", "make test"} <= set(found)
    assert {word for word in COMMANDS if any(c.startswith(f"dfine {word}") for c in found)} >= {
        "init",
        "train",
        "eval",
    }


def test_every_command_runs(run: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "path" / "to" / "data", train=4, val=2, size=(64, 64), seed=0)
    for command in dict.fromkeys(commands()):
        words = in_full(command)
        if words[0] == "dfine":
            code, _, err = run(*words[1:])
            assert code == 0, f"{command}\n{err}"
        elif words[0] == "python":
            script = ROOT / words[1]
            done = subprocess.run(
                [sys.executable, script, *words[2:]], cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("command", sorted({c for c in commands() if c.startswith("make ")}))
def test_every_make_target_is_in_the_makefile(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.M)
    assert phony
    for target in shlex.split(command)[1:]:
        assert target in phony[1].split()
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M)


def rows() -> list[str]:
    """Rows of the table "Where things live", without header and rule."""
    section = README.partition("\n## Where things live\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_the_table_names_only_what_is_there() -> None:
    assert len(rows()) > 10
    for row in rows():
        places = [ROOT, ROOT / "dfine_cli"]
        for name in re.findall(r"`([^`]+)`", row.split("|")[2]):
            found = next((base / name for base in places if (base / name).exists()), None)
            assert found, f"{name} of {row!r} is not there"
            places += [found] if found.is_dir() else []


def test_the_table_names_every_package() -> None:
    table = "\n".join(rows())
    packages = [folder.parent.name for folder in sorted((ROOT / "dfine_cli").glob("*/__init__.py"))]
    assert len(packages) >= 9
    assert [name for name in packages if f"`dfine_cli/{name}/" not in table] == []
