"""The wheel: it builds, and what is in it finds its recipes away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as an installer would put it there."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("dfine_cli-*-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.check_output([sys.executable, *words], text=True, env=environment, cwd=installed.parent)


def test_the_code_and_the_recipes_are_those_of_the_wheel(installed: Path) -> None:
    where = run(installed, "-c", "import dfine_cli; print(dfine_cli.__file__)")
    assert Path(where.strip()) == installed / "dfine_cli" / "__init__.py"
    shipped = {p.relative_to(ROOT / "recipes") for p in (ROOT / "recipes").rglob("*.yaml")}
    assert {p.relative_to(installed / "dfine_cli" / "_recipes") for p in installed.rglob("*.yaml")} == shipped
    assert len(shipped) > 20


def test_a_recipe_is_shown(installed: Path) -> None:
    shown = run(installed, "-m", "dfine_cli", "train", "coco/s", "--show")
    assert any(line.split()[:2] == ["size", "s"] for line in shown.splitlines())
    assert str(ROOT) not in shown


def test_both_names_of_the_command_lead_to_it(installed: Path) -> None:
    (entries,) = installed.glob("*.dist-info/entry_points.txt")
    text = entries.read_text()
    assert "dfine = dfine_cli.cli.app:main" in text and "dfine-cli = dfine_cli.cli.app:main" in text
