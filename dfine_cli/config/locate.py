"""Recipes by name (``coco/s``) or by path, in a checkout and in an installed wheel."""

from difflib import get_close_matches
from pathlib import Path

from dfine_cli.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".yaml", ".yml")


def recipes_folder() -> Path:
    """The folder of the shipped recipes."""
    installed = _PACKAGE / "_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes that can be trained, such as ``coco/s``; old versions are not listed."""
    folder = recipes_folder()
    found = [p.relative_to(folder).with_suffix("") for p in sorted(folder.glob("*/*.yaml"))]
    return [path.as_posix() for path in found if path.name != "base"]


def find_recipe(source: str | Path, beside: Path | None = None, version: str | None = None) -> Path:
    """The file of a recipe.

    Recipes that have changed since a version are kept as they were in a folder of its name.

    Args:
        source: Name of a shipped recipe, or a path.
        beside: Folder that a relative path starts from; the current one by default.
        version: Version whose recipe a name stands for; the newest by default.

    Raises:
        UsageError: There is no such recipe.
    """
    shipped = recipes_folder() / f"{source}.yaml"
    kept = recipes_folder() / str(version) / f"{source}.yaml"
    path = (beside or Path()) / Path(source).expanduser()
    is_name = isinstance(source, str) and not source.startswith((".", "/", "~")) and "\\" not in source
    if is_name and path.suffix not in _SUFFIXES and shipped.is_file():
        return kept if kept.is_file() else shipped
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, not a recipe", _near_miss(str(source)))
    what = f"{path}: recipe not found" if path.suffix in _SUFFIXES else f"there is no recipe `{source}`"
    raise UsageError(what, _near_miss(str(source)))


def display_name(path: Path) -> str:
    """Short name of a recipe file: as in the recipes folder, or from the current folder."""
    for folder in (recipes_folder(), Path.cwd()):
        if path.is_absolute() and path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(path)


def _near_miss(source: str) -> str:
    names = recipe_names()
    near = get_close_matches(source.removesuffix(".yaml").removesuffix(".yml"), names, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"recipes: {', '.join(names)}; or a path to a file"
