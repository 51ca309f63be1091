import json
from pathlib import Path

import pytest

from dfine_cli.strict_json import dumps


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_null_at_any_depth(value: float) -> None:
    text = dumps({"a": value, "b": [1.5, (value, {"c": value})]})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.5, [None, {"c": None}]]}


def test_the_rest_stays_as_it_is() -> None:
    values = {"ap": 0.1, "epoch": 3, "ok": True, "none": None, "name": "ü", "terms": {}}
    assert json.loads(dumps(values)) == values
    assert dumps({"path": Path("a/b")}) == '{"path": "a/b"}'
