"""YAML as people mean it."""

import pytest
import yaml

from dfine_cli.config.yaml12 import parse_value, read_yaml, render_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # a text in YAML 1.1
        ("2.5e-4", 2.5e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-1", -1),
        ("010", 10),  # eight in YAML 1.1
        ("0x1F", 31),
        ("0o17", 15),
        ("1:30", "1:30"),  # ninety in YAML 1.1
        ("true", True),
        ("yes", "yes"),  # true in YAML 1.1
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("null", None),
        ("", None),
        ("2026-01-31", "2026-01-31"),  # a date in YAML 1.1
        ("1_000", "1_000"),
        ("[320, 320]", [320, 320]),
        ("data/train", "data/train"),
        ("'1'", "1"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -3,
        1e-5,
        1.25e-22,
        1e22,
        "plain",
        "with space",
        " led by space",
        "ends with space ",
        "",
        "yes",
        "1",
        "1e-4",
        "null",
        "a: b",
        "a #b",
        "#",
        'quo"te',
        "back\\slash",
        "tab\tnewline\n",
        "ümlaut 日本",
        "- x",
        "-",
        "~",
        "~/data",
        "*alias",
        "\u2028\x85\ufeff",
        [1, 2.5, "no: thing"],
    ],
)
def test_rendered_values_read_back(value: object) -> None:
    back = parse_value(render_value(value))
    assert back == value and type(back) is type(value)


def test_lines_are_kept_by_dotted_key() -> None:
    _, lines = read_yaml("a: 1\n\nb:\n  c: 2\n  d: {e: 3}\n")
    assert lines == {"a": 1, "b": 3, "b.c": 4, "b.d": 5, "b.d.e": 5}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "key `a` stands twice, first in line 1", 3),
        ("a:\n  b: 1\n  b: 2\n", "key `a.b` stands twice", 3),
        ("a: &x [1]\nb: *x\n", "aliases", 2),
        ("a: [1\n", "expected", 2),
        ("a: b: c\n", "not allowed here", 1),
        ("[1]: 2\n", "a key must be a word", 1),
        ("a: 1\n---\nb: 2\n", "another document", 2),
        ("a: !!python/object:os.system x\n", "could not determine a constructor", 1),
    ],
)
def test_what_is_refused(text: str, message: str, line: int) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        read_yaml(text)
    assert message in str(caught.value)
    assert caught.value.problem_mark is not None and caught.value.problem_mark.line + 1 == line
