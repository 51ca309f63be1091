"""The keys of a recipe as dotted names, read off the schema: ``optim.lr`` and what it means."""

from typing import Any

from pydantic.fields import FieldInfo

from dfine_cli.config.schema import Recipe, Section

SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""Name of each section and its type."""

KEYS: dict[str, FieldInfo] = {
    key: field
    for name, own in Recipe.model_fields.items()
    for key, field in (
        {f"{name}.{inner}": f for inner, f in SECTIONS[name].model_fields.items()}
        if name in SECTIONS
        else {name: own}
    ).items()
}
"""Every key that holds a value, in the order of the schema."""


def help_of(key: str) -> str:
    """The help text of a key or a section."""
    text = SECTIONS[key].__doc__ if key in SECTIONS else KEYS[key].description
    return " ".join((text or "").replace("``", "`").split())


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe by dotted key, in the order of the schema."""
    values: dict[str, Any] = {}
    for key in KEYS:
        section, _, name = key.rpartition(".")
        holder = getattr(recipe, section) if section else recipe
        values[key] = getattr(holder, name)
    return values
