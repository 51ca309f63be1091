"""YAML as people mean it (version 1.2): ``1e-4`` is a number, ``no`` is a word, a key stands once.

PyYAML reads version 1.1, in which ``1e-4`` is a text, ``no`` is false and the last of two equal keys wins.
"""

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

_SCALARS = (  # core schema: tag, how a scalar of it looks, its first characters
    ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class Loader(yaml.SafeLoader):
    """A safe loader of the core schema that refuses duplicate keys and aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 as in the parent

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """A node of the document; an alias would let a small file become a large one."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "aliases (`*name`) are not understood", event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in _SCALARS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_int(loader: Loader, node: ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))  # 010 is ten: version 1.1 says eight


Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(text: str) -> tuple[Any, dict[str, int]]:
    """The value of a YAML document and the line, counted from 1, of each key by its dotted name.

    Raises:
        yaml.YAMLError: It is not valid, a key stands twice, or there is more than one document.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        if node is None:
            return None, lines
        _collect_lines(node, "", lines)
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _collect_lines(node: Node, prefix: str, lines: dict[str, int]) -> None:
    if not isinstance(node, MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise ConstructorError(None, None, "a key must be a word", key.start_mark)
        name = f"{prefix}{key.value}"
        if name in lines:
            raise ConstructorError(
                None, None, f"key `{name}` stands twice, first in line {lines[name]}", key.start_mark
            )
        lines[name] = key.start_mark.line + 1
        _collect_lines(value, f"{name}.", lines)


def parse_value(text: str) -> Any:
    """The value of a YAML text, as after ``--set key=``.

    Raises:
        yaml.YAMLError: It is not valid.
    """
    return read_yaml(text)[0]


def render_value(value: Any) -> str:
    """One-line YAML of a scalar or a list of scalars, which ``parse_value`` reads back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(render_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    value = str(value)  # a path
    return value if _is_plain(value) else _quote(value)


def _is_plain(text: str) -> bool:
    return bool(re.fullmatch(r"[\w./~+-][\w./~+ -]*(?<! )", text, re.ASCII)) and parse_value(text) == text


def _quote(text: str) -> str:
    escaped = text.translate({ord("\\"): "\\\\", ord('"'): '\\"'})
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
