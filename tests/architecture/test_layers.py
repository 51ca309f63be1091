"""Who may import whom, and the shape of files."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "dfine_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LEAF = {
    "__version__",
    "artefact",
    "errors",
    "types",
    "boxes",
    "phases",
    "optional",
    "strict_json",
    "checkpoint_format",
    "tensor_file",
    "whole_file",
}
MAY_IMPORT = {  # layer: what it may import beside itself; a dotted entry is one module only
    **{name: {"errors"} for name in LEAF},
    "config": {"errors", "phases", "whole_file"},
    "model": LEAF,
    "data": LEAF | {"config.schema"},
    "losses": LEAF | {"config.schema", "model.fdr"},
    "zoo": LEAF | {"model", "data.classes", "data.names"},
    "backends": LEAF | {"model", "data.preprocess", "data.classes", "zoo"},
    "evaluation": LEAF | {"data", "backends"},
    "training": LEAF
    | {"config", "model", "data", "losses", "evaluation", "visualize", "zoo", "backends.torch_backend"},
    "export": LEAF | {"model", "backends", "evaluation", "data", "zoo"},
    "bench": LEAF | {"backends", "model", "data.preprocess", "data.classes", "export"},
    "visualize": LEAF | {"data", "backends", "evaluation"},
    "survey": LEAF | {"config", "data"},
    "demo": LEAF | {"backends", "config", "data", "evaluation", "survey", "training", "visualize"},
}
CLI_AT_MODULE_LEVEL = {"cli", "errors", "__version__", "training.monitor"}
CLI_OUTSIDE = {"typer"}


def imports(node: ast.AST) -> Iterator[str]:
    """Dotted names of all modules that the code imports, ours without the package name."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "imports are absolute"
            for alias in child.names:
                name = f"{child.module}.{alias.name}"
                yield name if child.module == "dfine_cli" or is_module(name) else child.module


def is_module(name: str) -> bool:
    return (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").is_file()


def own(names: Iterator[str]) -> set[str]:
    return {name.removeprefix("dfine_cli.") for name in names if name.startswith("dfine_cli.")}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_allowed(module: str, layer: str) -> bool:
    allowed = {layer} | MAY_IMPORT[layer]
    return any(module == entry or module.startswith(f"{entry}.") for entry in allowed)


LAYERED = [p for p in FILES if layer_of(p) not in ("cli", "__main__", "__init__")]


def test_files_are_found() -> None:
    assert len(LAYERED) > 40


@pytest.mark.parametrize("path", LAYERED, ids=relative)
def test_imports_follow_the_layers(path: Path) -> None:
    layer = layer_of(path)
    found = own(imports(ast.parse(path.read_text())))
    assert {m for m in found if not is_allowed(m, layer)} == set()


@pytest.mark.parametrize("path", [p for p in FILES if layer_of(p) == "cli"], ids=relative)
def test_commands_load_their_workers_in_their_bodies(path: Path) -> None:
    outside = set()
    for statement in ast.parse(path.read_text()).body:
        checked_only = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) or checked_only:
            continue
        for name in imports(statement):
            top, _, rest = name.partition(".")
            allowed = {rest, rest.partition(".")[0]} & CLI_AT_MODULE_LEVEL
            known = allowed if top == "dfine_cli" else top in CLI_OUTSIDE
            if not known and top not in sys.stdlib_module_names:
                outside.add(name)
    assert outside == set()


@pytest.mark.parametrize("path", [p for p in FILES if layer_of(p) == "config"], ids=relative)
def test_config_needs_no_arrays(path: Path) -> None:
    heads = {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert heads & {"torch", "numpy", "cv2"} == set()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=relative)
def test_packages_export_nothing(path: Path) -> None:
    assert path.parent == PACKAGE or path.read_text() == ""


def test_files_are_named_by_the_domain() -> None:
    assert {p.stem for p in FILES} & {"utils", "util", "misc", "helpers", "common", "base", "core"} == set()
