import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfine_cli.model.attention import MultiheadSelfAttention
from dfine_cli.model.encoder import HybridEncoder, PositionOrder, position_embedding
from dfine_cli.model.encoder_blocks import ConvNorm, CspLayer, FusionBlock, RepVggBlock, ScDown
from dfine_cli.model.fuse import fuse_model
from dfine_cli.model.sizes import SIZES, ModelSize
from dfine_cli.types import EncoderFeatures

ROWS = pytest.mark.parametrize("row", SIZES.values(), ids=list(SIZES))
CPU, F32 = torch.device("cpu"), torch.float32

# Entries of the state dict, parameters, input channels of the last convolution of a fusion block.
COUNTS = {
    "n": (234, 703_824, 298),
    "s": (354, 4_021_504, 640),
    "m": (450, 7_799_040, 768),
    "l": (546, 9_343_232, 768),
    "x": (546, 20_700_032, 1152),
}
INNER = {"n": (21, 2), "s": (64, 1), "m": (128, 2), "l": (128, 3), "x": (192, 3)}


def make(row: ModelSize, position_embedding: PositionOrder = "aligned") -> HybridEncoder:
    torch.manual_seed(0)
    return HybridEncoder(
        row.in_channels,
        hidden=row.hidden,
        feedforward=row.feedforward,
        expansion=row.expansion,
        depth=row.depth,
        position_embedding=position_embedding,
    )


def maps(row: ModelSize, height: int, width: int, batch: int = 1) -> list[Tensor]:
    """Backbone maps for an input of this size."""
    torch.manual_seed(2)
    return [
        torch.randn(batch, channels, height // stride, width // stride)
        for channels, stride in zip(row.in_channels, row.strides, strict=True)
    ]


def randomise(model: nn.Module) -> None:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


def conv_entries(name: str, outputs: int, inputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    norm = {f"{name}.norm.{k}": (outputs,) for k in ("weight", "bias", "running_mean", "running_var")}
    return {
        f"{name}.conv.weight": (outputs, inputs, kernel, kernel),
        **norm,
        f"{name}.norm.num_batches_tracked": (),
    }


def expected_entries(row: ModelSize) -> dict[str, tuple[int, ...]]:
    """State dict of the published encoder, by rule."""
    h, ff, (c4, blocks) = row.hidden, row.feedforward, INNER[row.name]
    layer = "encoder.0.layers.0"
    entries: dict[str, tuple[int, ...]] = {
        f"{layer}.self_attn.in_proj_weight": (3 * h, h),
        f"{layer}.self_attn.in_proj_bias": (3 * h,),
        f"{layer}.self_attn.out_proj.weight": (h, h),
        f"{layer}.self_attn.out_proj.bias": (h,),
        f"{layer}.linear1.weight": (ff, h),
        f"{layer}.linear1.bias": (ff,),
        f"{layer}.linear2.weight": (h, ff),
        f"{layer}.linear2.bias": (h,),
        **{f"{layer}.{norm}.{leaf}": (h,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")},
    }
    for i, channels in enumerate(row.in_channels):
        entries |= conv_entries(f"input_proj.{i}", h, channels, 1)
    for k in range(row.levels - 1):
        entries |= conv_entries(f"lateral_convs.{k}", h, h, 1)
        entries |= conv_entries(f"downsample_convs.{k}.0.cv1", h, h, 1)
        entries |= conv_entries(f"downsample_convs.{k}.0.cv2", h, 1, 3)
        for block in (f"fpn_blocks.{k}", f"pan_blocks.{k}"):
            entries |= conv_entries(f"{block}.cv1", 2 * h, 2 * h, 1)
            entries |= conv_entries(f"{block}.cv4", h, 2 * h + 2 * c4, 1)
            for path, width in (("cv2", h), ("cv3", c4)):
                entries |= conv_entries(f"{block}.{path}.0.conv1", c4, width, 1)
                entries |= conv_entries(f"{block}.{path}.0.conv2", c4, width, 1)
                entries |= conv_entries(f"{block}.{path}.1", c4, c4, 3)
                for b in range(blocks):
                    entries |= conv_entries(f"{block}.{path}.0.bottlenecks.{b}.conv1", c4, c4, 3)
                    entries |= conv_entries(f"{block}.{path}.0.bottlenecks.{b}.conv2", c4, c4, 1)
    return entries


@ROWS
def test_state_dict_is_the_published_one(row: ModelSize):
    model = make(row)
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert found == expected_entries(row)
    entries, parameters, last = COUNTS[row.name]
    assert len(found) == entries
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.pan_blocks[0].cv4.conv.in_channels == last


@ROWS
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (160, 32)])
def test_levels_of_any_size(row: ModelSize, size: tuple[int, int]):
    with torch.inference_mode():
        features = make(row).eval()(maps(row, *size, batch=2))
    assert isinstance(features, EncoderFeatures)
    shapes = [(2, row.hidden, size[0] // stride, size[1] // stride) for stride in row.strides]
    assert [tuple(level.shape) for level in features.levels] == shapes
    assert tuple(features.aifi.shape) == shapes[-1]


def test_every_parameter_is_used():
    model = make(SIZES["s"]).train()
    sum(level.sum() for level in model(maps(SIZES["s"], 64, 96, batch=2)).levels).backward()
    assert all(p.grad is not None for p in model.parameters())


class TestWiring:
    """Written out by hand from the parts, in float64."""

    def test_two_ways_over_three_levels(self):
        row = SIZES["s"]
        model = make(row).double().eval()
        randomise(model)
        x = [m.double() for m in maps(row, 64, 96)]

        p = [model.input_proj[i](x[i]) for i in range(3)]
        p5 = model.lateral_convs[0](model.encoder[0](p[2]))
        p4 = model.fpn_blocks[0](p5.repeat_interleave(2, 2).repeat_interleave(2, 3), p[1])
        p4 = model.lateral_convs[1](p4)
        out3 = model.fpn_blocks[1](p4.repeat_interleave(2, 2).repeat_interleave(2, 3), p[0])
        out4 = model.pan_blocks[0](model.downsample_convs[0](out3), p4)
        out5 = model.pan_blocks[1](model.downsample_convs[1](out4), p5)

        features = model(x)
        for found, wanted in zip(features.levels, (out3, out4, out5), strict=True):
            torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(features.aifi, model.encoder[0](p[2]))

    def test_fusion_block_sends_its_last_half_through_both_paths(self):
        torch.manual_seed(0)
        block = FusionBlock(8, 5, 1).double().eval()
        a, b = torch.randn(2, 2, 8, 6, 4, dtype=torch.float64)
        both = block.cv1(torch.cat((a, b), 1))
        y2 = block.cv2(both[:, 8:])
        wanted = block.cv4(torch.cat((both[:, :8], both[:, 8:], y2, block.cv3(y2)), 1))
        torch.testing.assert_close(block(a, b), wanted)

    def test_csp_layer_adds_its_paths(self):
        torch.manual_seed(0)
        layer, x = CspLayer(6, 4, 2).eval(), torch.randn(1, 6, 5, 5)
        wanted = layer.bottlenecks(F.silu(layer.conv1.norm(layer.conv1.conv(x)))) + layer.conv2(x)
        torch.testing.assert_close(layer(x), wanted)

    def test_down_and_lateral_convolutions_have_no_activation(self):
        row = SIZES["s"]
        model = make(row)
        plain = [*model.lateral_convs, *model.input_proj]
        plain += [conv for down in model.downsample_convs for conv in (down[0].cv1, down[0].cv2)]
        assert all(isinstance(conv.act, nn.Identity) for conv in plain)


class TestAttentionLayer:
    def test_equals_the_library_layer(self):
        row = SIZES["n"]
        own = make(row).encoder[0].double().eval()
        library = nn.TransformerEncoderLayer(128, 8, 512, 0.0, "gelu", batch_first=True).double().eval()
        library.load_state_dict(own.layers[0].state_dict())
        x = torch.randn(2, 128, 3, 4, dtype=torch.float64)
        tokens = x.flatten(2).transpose(1, 2)
        position = position_embedding(3, 4, 128, "aligned", CPU, torch.float64)
        placed = tokens + position
        tokens = library.norm1(tokens + library.self_attn(placed, placed, tokens)[0])
        tokens = library.norm2(tokens + library.linear2(F.gelu(library.linear1(tokens))))
        torch.testing.assert_close(own(x), tokens.transpose(1, 2).reshape(2, 128, 3, 4))


class TestAttention:
    @pytest.fixture
    def pair(self) -> tuple[MultiheadSelfAttention, nn.MultiheadAttention]:
        torch.manual_seed(0)
        own = MultiheadSelfAttention(32, 8).double()
        library = nn.MultiheadAttention(32, 8, batch_first=True).double()
        own.in_proj_bias.data.normal_()
        own.out_proj.bias.data.normal_()
        library.load_state_dict(own.state_dict())
        return own, library

    @pytest.mark.parametrize("same", [True, False], ids=["one query and key", "two"])
    @pytest.mark.parametrize("masked", [True, False])
    def test_equals_the_library(self, pair: tuple, same: bool, masked: bool):
        own, library = pair
        query = torch.randn(2, 10, 32, dtype=torch.float64)
        key = query if same else torch.randn(2, 10, 32, dtype=torch.float64)
        value = torch.randn(2, 10, 32, dtype=torch.float64)
        mask = torch.rand(10, 10) > 0.6 if masked else None
        if mask is not None:
            mask.fill_diagonal_(False)  # a query that sees nothing has no defined output
        wanted = library(query, key, value, attn_mask=mask)[0]
        torch.testing.assert_close(own(query, key, value, mask), wanted)

    def test_starts_like_the_library(self):
        torch.manual_seed(0)
        own = MultiheadSelfAttention(32, 8).state_dict()
        torch.manual_seed(0)
        library = nn.MultiheadAttention(32, 8).state_dict()
        assert list(own) == list(library)
        assert all(torch.equal(own[key], library[key]) for key in own)


class TestPositionEmbedding:
    def test_published_values(self):
        """A map of width 3 and height 2 with 8 channels; the second and third row as recorded."""
        rows = position_embedding(2, 3, 8, "published", CPU, F32)
        one = [0.8414710, 0.0099998, 0.5403023, 0.9999500]
        zero = [0.0, 0.0, 1.0, 1.0]
        wanted = torch.tensor([zero + zero, zero + one, one + zero, one + one])
        torch.testing.assert_close(rows[:4], wanted, rtol=0, atol=1e-7)  # one float32 step

    def test_same_on_square_maps(self):
        assert torch.equal(
            position_embedding(7, 7, 16, "published", CPU, F32),
            position_embedding(7, 7, 16, "aligned", CPU, F32),
        )

    def test_aligned_knows_row_and_column(self):
        rows, columns, width = 3, 5, 8
        table = position_embedding(rows, columns, width, "aligned", CPU, F32).view(rows, columns, width)
        for row in range(rows):
            for column in range(columns):
                angles = [row, row / 100, column, column / 100]
                wanted = [
                    f(a) for pair in (angles[:2], angles[2:]) for f in (math.sin, math.cos) for a in pair
                ]
                torch.testing.assert_close(table[row, column], torch.tensor(wanted), rtol=0, atol=1e-6)

    def test_made_in_float32_and_cast(self):
        """As published, so that models in float64 agree to the last digit with it."""
        single = position_embedding(4, 4, 32, "aligned", CPU, F32)
        assert torch.equal(position_embedding(4, 4, 32, "aligned", CPU, torch.float64), single.double())

    def test_kept(self):
        first = position_embedding(4, 6, 32, "aligned", CPU, F32)
        assert position_embedding(4, 6, 32, "aligned", CPU, F32) is first
        assert position_embedding(6, 4, 32, "aligned", CPU, F32) is not first

    def test_made_in_inference_mode_serves_training(self):
        row = SIZES["n"]
        model, x = make(row), maps(row, 96, 224, batch=2)
        with torch.inference_mode():
            model.eval()(x)
        model.train()(x).levels[0].sum().backward()
        assert model.encoder[0].layers[0].linear1.weight.grad.abs().sum() > 0

    def test_orders_differ_on_rectangles_only(self):
        row = SIZES["n"]
        aligned, published = (make(row, order).eval() for order in ("aligned", "published"))
        square, wide = maps(row, 64, 64), maps(row, 64, 128)
        with torch.inference_mode():
            assert torch.equal(aligned(square).aifi, published(square).aifi)
            assert not torch.allclose(aligned(wide).aifi, published(wide).aifi)


class TestFusing:
    @ROWS
    def test_outputs_stay(self, row: ModelSize):
        model, x = make(row).eval(), maps(row, 64, 96)
        randomise(model)
        with torch.inference_mode():
            before = model(x)
            fused = copy.deepcopy(model)
            fuse_model(fused)
            after = fused(x)
        for a, b in zip(before.levels, after.levels, strict=True):
            # float32 rounding, relative to the size of the values
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4 * a.abs().max().item())
        assert not any(isinstance(m, nn.BatchNorm2d | ConvNorm | RepVggBlock) for m in fused.modules())

    @pytest.mark.parametrize(
        "module",
        [ConvNorm(4, 6, 1), ConvNorm(4, 6, 3, 2, act=True), ConvNorm(4, 4, 3, groups=4), RepVggBlock(4)],
        ids=["point-wise", "strided with SiLU", "depth-wise", "re-parameterised"],
    )
    def test_parts(self, module: ConvNorm | RepVggBlock):
        module = copy.deepcopy(module).double().eval()
        randomise(module)
        x = torch.randn(2, 4, 7, 5, dtype=torch.float64)
        torch.testing.assert_close(module.fuse()(x), module(x))

    def test_down_sampling(self):
        module, x = ScDown(4).double().eval(), torch.randn(2, 4, 8, 6, dtype=torch.float64)
        randomise(module)
        before = module(x)
        assert before.shape == (2, 4, 4, 3)
        fuse_model(module)
        torch.testing.assert_close(module(x), before)
