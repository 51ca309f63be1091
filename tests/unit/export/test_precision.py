"""The table of precisions."""

import pytest

from dfine_cli.export.islands import ISLANDS
from dfine_cli.export.precision import PRECISIONS, convert
from dfine_cli.export.shares import count_types


def test_the_precisions_are_those_of_the_command_line():
    assert list(PRECISIONS) == ["fp32", "fp16", "int8"]


def test_single_precision_leaves_the_graph_alone(single_graph):
    converted = convert(single_graph["grid"], "fp32")
    assert converted.model is single_graph["grid"]
    assert converted.islands == {}
    assert converted.found["nodes"] == {"fp32": 1.0}


def test_half_precision_reports_what_is_in_the_graph(single_graph):
    converted = convert(single_graph["gather"], "fp16")
    reasons = {island.name: island.reason for island in ISLANDS}
    assert converted.islands.items() <= reasons.items()
    assert len(converted.islands) == 5
    assert converted.found == count_types(converted.model)
    assert converted.found["nodes"]["fp16"] == pytest.approx(
        converted.found["counts"]["nodes"]["fp16"] / sum(converted.found["counts"]["nodes"].values())
    )
