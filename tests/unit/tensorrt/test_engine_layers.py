"""What the inspector tells, in the words of several releases."""

from __future__ import annotations

import json

import pytest

from dfine_cli.backends.engine_layers import describe_layer_types, parse_layer_types


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format/Datatype": "Float"}, "fp32"),
        ({"Format/Datatype": "Row major linear FP16 format"}, "fp16"),
        ({"Format/Datatype": "Channel major FP32 format where channel % 4 == 0"}, "fp32"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "int8"),
        ({"Format": "Row major linear", "DataType": "Half"}, "fp16"),
        ({"Format/Datatype": "BFloat16"}, "bf16"),
        ({"Format/Datatype": "Int64"}, "int64"),
        ({"Format/Datatype": "Bool"}, "bool"),
        ({"Format/Datatype": "Complex128"}, "other"),
        ({}, "other"),
    ],
)
def test_the_type_of_a_layer_is_that_of_its_first_output(tensor, name):
    layer = {
        "Name": "x",
        "Inputs": [{"Format/Datatype": "Int32"}],
        "Outputs": [tensor, {"Format/Datatype": "Int32"}],
    }
    assert parse_layer_types(json.dumps({"Layers": [layer]})) == {name: 1}


def test_layers_without_outputs_are_known_by_their_input():
    layer = {"Inputs": [{"Format/Datatype": "Half"}], "Outputs": []}
    assert parse_layer_types(json.dumps({"Layers": [layer]})) == {"fp16": 1}


def test_an_engine_that_keeps_names_only_tells_no_types():
    assert parse_layer_types(json.dumps({"Layers": ["conv + relu", "topk"]})) == {}
    assert describe_layer_types({}) == ""


def test_shares_are_those_of_layers_that_compute_with_numbers():
    assert describe_layer_types({"fp16": 30, "int64": 7, "fp32": 10, "other": 3}) == "fp16 75%, fp32 25%"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "Layers: conv"])
def test_what_cannot_be_read_tells_no_types(text):
    assert parse_layer_types(text) == {}
