"""OpenVINO files: the same detections, and their description."""

from __future__ import annotations

import onnx
import pytest
import torch

from dfine_cli.artefact import KEY, Artefact, BatchRange
from dfine_cli.backends.openvino_core import openvino_core
from dfine_cli.errors import DfineError
from dfine_cli.export.openvino import write_openvino
from dfine_cli.export.precision import convert
from dfine_cli.export.spec import GraphSpec
from tests.unit.export.detectors import expected, make_detector, make_graph, make_inputs

openvino = pytest.importorskip("openvino", reason="needs OpenVINO: pip install dfine-cli[openvino]")
SIZE = (64, 96)
PLAIN = Artefact(
    name="dfine-n",
    size="n",
    contract="published",
    input_size=SIZE,
    batch=BatchRange(1, 1, 1),
    classes={"names": ["a"], "category_ids": [1], "rule": "auto"},
    preprocessing={"channels": "RGB"},
)


@pytest.mark.parametrize("sampling", ["grid", "gather"])
def test_a_file_gives_what_torch_gives_and_describes_itself(tmp_path, sampling):
    model = make_detector("n", SIZE)
    file = tmp_path / "model.xml"
    described = write_openvino(make_graph(GraphSpec(SIZE, sampling=sampling)), PLAIN, file)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    core = openvino_core()
    loaded = core.read_model(file)
    inside = Artefact.from_json(loaded.get_rt_info(KEY).astype(str), file)
    assert inside == described
    assert inside.precision_found["weights"] == {"fp32": 1.0} and "openvino" in inside.versions
    images, sizes = make_inputs(1, SIZE)
    found = core.compile_model(loaded, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        {"images": images.numpy(), "orig_target_sizes": sizes.numpy()}
    )
    labels, boxes, scores = expected(model, images, sizes)
    assert found["labels"].tolist() == labels.tolist()
    torch.testing.assert_close(torch.from_numpy(found["boxes"]), boxes, rtol=0, atol=2e-3)
    torch.testing.assert_close(torch.from_numpy(found["scores"]), scores, rtol=0, atol=1e-5)


def test_half_precision_halves_the_weights(tmp_path):
    graph = convert(make_graph(GraphSpec(SIZE, sampling="grid")), "fp16").model
    described = write_openvino(graph, PLAIN, tmp_path / "model.xml")
    assert described.precision_found["weights"]["fp16"] > 0.99


def test_a_graph_that_cannot_be_converted(tmp_path):
    with pytest.raises(DfineError, match="OpenVINO cannot write it"):
        write_openvino(onnx.ModelProto(), PLAIN, tmp_path / "model.xml")
    assert not list(tmp_path.iterdir())
