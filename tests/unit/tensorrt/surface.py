"""The Python surface of one TensorRT release, as it was recorded from the real binding, around a simulation.

Only what the recording names can be used: any other name is an AttributeError, and every call is bound to the
recorded signature with its types. Where the recording has none (``*args, **kwargs``), only positions are accepted.
What the recording cannot know is added here: ``name`` and ``value`` of enums are attributes, the severities of
``ILogger`` are its attributes, ``Dims`` behaves as a sequence,
``IHostMemory`` as a buffer, and ``__version__`` is set by the package's own
Python file.
"""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from types import ModuleType
from typing import Any

SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
OVERRIDABLE = ("ILogger", "IProgressMonitor")
"""Classes that a program derives its own from."""


class Member:
    """One member of an enum."""

    def __init__(self, name: str, value: int) -> None:
        self.name = name
        self.value = value


class Recorded:
    """Parent of all recorded classes; holds the simulated object."""

    _members: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        derived = type(self).__module__ != __name__
        if not derived and not name.startswith("_sim") and name not in self._members:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        super().__setattr__(name, value)


class Surface:
    """Builds the module.

    Args:
        api: Class -> member -> first line of its docstring.
        version: ``__version__``.
        simulated: Class name -> class that acts; its constructor is given ``world`` first.
        world: Passed on.
    """

    def __init__(self, api: dict[str, Any], version: str, simulated: dict[str, type], world: Any) -> None:
        self.api = api
        self.simulated = simulated
        self.world = world
        self.classes: dict[str, type] = {}
        self.module = ModuleType("tensorrt")
        self.module.__dict__["__version__"] = version
        for name, members in api.items():
            if isinstance(members, dict):
                self.classes[name] = self._class(name, members)
                setattr(self.module, name, self.classes[name])

    def _class(self, name: str, members: dict[str, str]) -> type:
        values = [member for member, text in members.items() if text == "enum value"]
        if values:
            made = type(name, (Member,), {"__module__": __name__})
            for index, value in enumerate(values):
                setattr(made, value, made(value, index))
            return made
        namespace: dict[str, Any] = {"__module__": __name__, "_members": frozenset(members)}
        for member, text in members.items():
            if member == "__init__":
                namespace[member] = self._constructor(name, text)
            elif re.match(rf"{member}\(", text):
                namespace[member] = self._method(name, member, text)
            elif name in ("ILogger", "Logger") and member in SEVERITIES:
                namespace[member] = Member(member, SEVERITIES.index(member))
            else:
                namespace[member] = self._property(name, member)
        if name == "Dims":
            namespace["__len__"] = lambda dims: len(dims._sim)
            namespace["__getitem__"] = lambda dims, index: dims._sim[index]
        if name == "IHostMemory":
            namespace["__bytes__"] = lambda memory: bytes(memory._sim)
        return type(name, (Recorded,), namespace)

    def _constructor(self, name: str, text: str) -> Any:
        def construct(this: Any, *args: Any, **kwargs: Any) -> None:
            signature = parse(text)
            if signature is None and name != "Dims":
                raise TypeError(f"{name}: No constructor defined!")
            given = self._bind(name, signature, args, kwargs) if signature else list(args)
            this._sim_made = True
            if name in self.simulated:
                this._sim = self.simulated[name](self.world, *given)

        return construct

    def _method(self, owner: str, name: str, text: str) -> Any:
        def call(this: Any, *args: Any, **kwargs: Any) -> Any:
            signature = parse(text)
            if signature is None and kwargs:
                raise TypeError(f"{owner}.{name}: names of arguments are not recorded, give them by position")
            given = self._bind(f"{owner}.{name}", signature, args, kwargs) if signature else list(args)
            return self.wrap(getattr(this._sim, name)(*map(self._inner, given)))

        return call

    def _property(self, owner: str, name: str) -> property:
        def read(this: Any) -> Any:
            return self.wrap(getattr(this._sim, name))

        def write(this: Any, value: Any) -> None:
            setattr(this._sim, name, self._inner(value))

        return property(read, write)

    def wrap(self, value: Any) -> Any:
        """A simulated object as the program sees it."""
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        name = next((key for key, kind in self.simulated.items() if type(value) is kind), None)
        if name is None:
            return value
        outside = object.__new__(self.classes[name])
        outside._sim_made = True
        outside._sim = value
        return outside

    def _inner(self, value: Any) -> Any:
        return getattr(value, "_sim", value)

    def _bind(
        self, where: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Any]:
        bound = signature.bind(*args, **kwargs)  # what is left out is left to the simulation
        for name, value in bound.arguments.items():
            self._check(f"{where}({name})", signature.parameters[name].annotation, value)
        return list(bound.arguments.values())

    def _check(self, where: str, annotation: str, value: Any) -> None:
        last = re.split(r"[.:]+", annotation)[-1]
        if annotation in ("int", "typing.SupportsInt"):
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif annotation in ("str", "bool", "float"):
            fits = isinstance(value, {"str": str, "bool": bool, "float": float}[annotation])
            fits = fits or (annotation == "str" and value is None)
        elif last in ("buffer", "Buffer"):
            fits = isinstance(value, bytes | bytearray | memoryview)
        elif last == "Dims":
            fits = isinstance(value, self.classes["Dims"] | tuple | list) and all(
                isinstance(side, int) for side in value
            )
        elif last in OVERRIDABLE:
            fits = isinstance(value, self.classes[last]) and hasattr(value, "_sim_made")
        elif last in self.classes:
            fits = isinstance(value, self.classes[last])
        else:
            raise NotImplementedError(f"{where}: no check for {annotation!r}")
        if not fits:
            raise TypeError(f"{where}: incompatible argument {value!r}, expected {annotation}")


@lru_cache
def parse(text: str) -> inspect.Signature | None:
    """The signature in a docstring, without ``self``; None if it has no names."""
    found = re.match(r"\w+\((.*)\)(?: -> .*)?$", text)
    if not found or "*args" in text:
        return None
    parameters = []
    for part in split(found[1])[1:]:
        declared, _, default = part.partition(" = ")
        name, _, annotation = declared.partition(": ")
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                annotation=annotation,
                default={"": inspect.Parameter.empty, "None": None, "0": 0}.get(default, default),
            )
        )
    return inspect.Signature(parameters)


def split(text: str) -> list[str]:
    """Parts of a list of parameters; commas inside of brackets do not count."""
    parts, depth, begin = [], 0, 0
    for index, char in enumerate(text):
        depth += (char in "[(<") - (char in "])>")
        if char == "," and depth == 0:
            parts.append(text[begin:index].strip())
            begin = index + 1
    return [*parts, text[begin:].strip()]
