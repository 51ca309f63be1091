"""Help of every command: there, quick, and without loading anything heavy."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfine_cli.cli.app import COMMANDS, GROUPS

HEAVY = [
    "torch",
    "numpy",
    "cv2",
    "albumentations",
    "pycocotools",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "tensorrt",
    "fiftyone",
    "scipy",
    "matplotlib",
    "PIL",
    "pydantic",
    "yaml",
    "rich",
]
PROBE = """
import atexit, json, sys
atexit.register(lambda: sys.stderr.write(json.dumps(sorted(set(sys.argv[1].split()) & set(sys.modules)))))
from dfine_cli.cli.app import main
main(sys.argv[2:])
"""
ALL = [[name] for name in COMMANDS] + [
    [name, inner] for name, (_, group) in GROUPS.items() for inner in group
]
CALLS = [
    [],
    ["--help"],
    ["--version"],
    *([*words, "--help"] for words in [*ALL, *([name] for name in GROUPS)]),
]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, " ".join(HEAVY), *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr) == []
    assert done.stdout.startswith("Usage: dfine" if "--version" not in words else "dfine ")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_and_option_says_what_it_does(words: list[str]) -> None:
    import typer

    from dfine_cli.cli.app import app

    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help
    silent = [p.name for p in command.params if not getattr(p, "help", None)]
    assert silent == []


def test_help_is_quick() -> None:
    """The wall clock is a smoke alarm only: the limit leaves room for a busy machine."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dfine_cli", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 1.0


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import dfine_cli; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dfine_cli"]


def test_every_module_in_the_cli_folder_with_a_command_is_listed() -> None:
    folder = Path(__file__).resolve().parents[2] / "dfine_cli" / "cli"
    with_command = {p.stem for p in folder.glob("*.py") if "\ndef command(" in p.read_text()}
    assert with_command == set(COMMANDS)
