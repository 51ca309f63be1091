"""The network as it is deployed against the network that was trained."""

from __future__ import annotations

import pytest
import torch

from dfine_cli.artefact import BatchRange
from dfine_cli.errors import UsageError
from dfine_cli.export.deploy import DeployModel
from dfine_cli.export.deploy_encoder import DeployEncoder
from dfine_cli.export.deploy_sampling import GatherSampler, GridSampler, Maps
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.deformable_attention import DeformableAttention
from tests.unit.export.detectors import expected, make_detector, make_inputs

TWO = BatchRange(2, 2, 2)


def assert_same(found, right) -> None:
    labels, boxes, scores = found
    assert labels.tolist() == right[0].tolist() and labels.dtype == torch.int64
    # Float32 in another order of operations, boxes in pixels of originals of up to 1000.
    torch.testing.assert_close(boxes, right[1], rtol=0, atol=2e-3)
    torch.testing.assert_close(scores, right[2], rtol=0, atol=5e-6)


@pytest.mark.parametrize("sampling", ["grid", "gather"])
@pytest.mark.parametrize(
    ("size", "input_size"),
    [
        ("n", (64, 96)),  # two levels
        ("n", (32, 64)),  # the coarsest map is one cell high
        ("n", (32, 32)),  # and one cell wide; fewer cells than queries
        ("s", (96, 64)),  # three levels, some of whose cells have no usable anchor
        ("m", (64, 64)),
        ("x", (64, 64)),  # a projection before the decoder, no affine, frozen norms, another curve
    ],
)
@torch.no_grad()
def test_says_what_the_trained_network_says(size, input_size, sampling):
    model = make_detector(size, input_size)
    images, sizes = make_inputs(2, input_size)
    deployed = DeployModel(model, GraphSpec(input_size, batch=TWO, sampling=sampling)).eval()
    assert_same(deployed(images, sizes), expected(model, images, sizes))


@torch.no_grad()
def test_end2end_gives_pixels_of_the_input():
    model = make_detector("n", (64, 96))
    images, _ = make_inputs(1, (64, 96))
    deployed = DeployModel(model, GraphSpec((64, 96), contract="end2end", sampling="grid")).eval()
    assert_same(deployed(images), expected(model, images, torch.tensor([[96, 64]])))


@torch.no_grad()
def test_the_trained_network_is_left_as_it_is():
    model = make_detector("n", (64, 64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DeployModel(model, GraphSpec((64, 64), sampling="gather"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_boxes_of_negative_size_count_as_their_middle():
    model = make_detector("n", (64, 64))
    model.decoder.dec_bbox_head[-1].layers[-1].bias.copy_(torch.linspace(9, -9, 33).repeat(4))  # inside out
    images, sizes = make_inputs(1, (64, 64))
    right = expected(model, images, sizes)
    assert (right[1][..., 2] == right[1][..., 0]).any()
    assert_same(DeployModel(model, GraphSpec((64, 64), sampling="grid")).eval()(images, sizes), right)


@pytest.mark.parametrize("size", ["n", "s", "m", "x"])  # with and without the projection merged
@torch.no_grad()
def test_the_encoder_sums_in_another_order_only(size):
    model = make_detector(size, (64, 96)).fused()
    maps = model.backbone(make_inputs(2, (64, 96))[0])
    right = model.encoder(maps).levels
    found = DeployEncoder(model.encoder, tuple((level.shape[2], level.shape[3]) for level in right))(maps)
    for ours, theirs in zip(found, right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


SHAPES = ((5, 8), (3, 4), (1, 2), (1, 1))


@pytest.mark.parametrize("spread", [0.05, 0.5, 30.0])  # inside, over the borders, mostly far outside
@torch.no_grad()
def test_gather_reads_what_grid_sample_reads(spread):
    torch.manual_seed(0)
    heads, width, queries, batch = 4, 16, 50, 2
    attention = DeformableAttention(width, heads, (3, 2, 2, 1))
    attention.sampling_offsets.weight.normal_(0, 1)
    attention.attention_weights.weight.normal_(0, 1)
    levels = [torch.randn(batch, width, *shape) for shape in SHAPES]
    query = torch.randn(batch, queries, width)
    centre = 0.5 + spread * torch.randn(batch, queries, 2)
    centre[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.5]])  # on the borders
    size = torch.rand(batch, queries, 2)
    right = attention(query, torch.cat((centre, size), -1), levels).flatten(0, 1)
    cells = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).reshape(-1, width)
    first = (torch.arange(batch) * sum(h * w for h, w in SHAPES)).repeat_interleave(queries)[:, None]
    maps = Maps(levels, cells, first)
    for sampler in (GridSampler, GatherSampler):
        found = sampler(attention, SHAPES, queries)(
            query.flatten(0, 1), centre.flatten(0, 1), size.flatten(0, 1), maps
        )
        torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


def test_an_illegal_size_is_refused():
    with pytest.raises(UsageError, match="not a multiple of 32"):
        DeployModel(make_detector("n", (64, 64)), GraphSpec((60, 64)))
