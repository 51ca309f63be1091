import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfine_cli.model.affine_relu import AffineReLU
from dfine_cli.model.frozen_norm import FrozenBatchNorm2d
from dfine_cli.model.fuse import fuse_model
from dfine_cli.model.hgnetv2 import VARIANTS, HGNetV2
from dfine_cli.model.hgnetv2_blocks import ConvBnAct, HgBlock, Stem, _pool
from dfine_cli.model.sizes import SIZES, ModelSize

ROWS = pytest.mark.parametrize("row", SIZES.values(), ids=list(SIZES))

# Entries of the state dict, parameters, parameters that are trained.
COUNTS = {
    "n": (312, 1_850_396, 1_850_396),
    "s": (312, 1_850_396, 1_850_396),
    "m": (442, 6_026_626, 6_026_626),
    "l": (400, 13_507_680, 13_507_680 - 24_928),
    "x": (650, 33_231_840, 33_231_840 - 25_440),
}


def make(row: ModelSize) -> HGNetV2:
    torch.manual_seed(0)
    return HGNetV2(
        row.backbone,
        return_stages=row.return_stages,
        learnable_affine=row.learnable_affine,
        freeze_stem=row.freeze_stem,
        freeze_norm=row.freeze_norm,
    )


def randomise(model: nn.Module) -> None:
    """Give every norm and affine values that matter, some affines a negative scale."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, AffineReLU):
            module.scale.data.uniform_(0.8, 1.2)
            if torch.rand(1) < 0.25:
                module.scale.data.neg_()
            module.bias.data.normal_(0, 0.2)


def conv_entries(name: str, shape: tuple[int, ...], row: ModelSize, *, act: bool = True) -> Iterator[tuple]:
    """The entries of one convolution with all that follows it."""
    yield f"{name}.conv.weight", shape
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.bn.{leaf}", shape[:1]
    if not row.freeze_norm:
        yield f"{name}.bn.num_batches_tracked", ()
    if act and row.learnable_affine:
        yield f"{name}.lab.scale", (1,)
        yield f"{name}.lab.bias", (1,)


def expected_entries(row: ModelSize) -> dict[str, tuple[int, ...]]:
    """State dict of the published backbone, by rule."""
    variant = VARIANTS[row.backbone]
    m, o = variant.stem_mid, variant.stages[0].inputs
    entries = dict(conv_entries("stem.stem1", (m, 3, 3, 3), row))
    entries |= conv_entries("stem.stem2a", (m // 2, m, 2, 2), row)
    entries |= conv_entries("stem.stem2b", (m, m // 2, 2, 2), row)
    entries |= conv_entries("stem.stem3", (m, 2 * m, 3, 3), row)
    entries |= conv_entries("stem.stem4", (o, m, 1, 1), row)
    for i, (inputs, mid, outputs, blocks, layers) in enumerate(variant.stages):
        if i:
            entries |= conv_entries(f"stages.{i}.downsample", (inputs, 1, 3, 3), row, act=False)
        for b in range(blocks):
            block, width = f"stages.{i}.blocks.{b}", outputs if b else inputs
            for n in range(layers):
                layer, first = f"{block}.layers.{n}", mid if n else width
                if i < 2:
                    entries |= conv_entries(layer, (mid, first, 3, 3), row)
                else:
                    entries |= conv_entries(f"{layer}.conv1", (mid, first, 1, 1), row, act=False)
                    entries |= conv_entries(f"{layer}.conv2", (mid, 1, 5, 5), row)
            squeezed = outputs // 2
            entries |= conv_entries(f"{block}.aggregation.0", (squeezed, width + layers * mid, 1, 1), row)
            entries |= conv_entries(f"{block}.aggregation.1", (outputs, squeezed, 1, 1), row)
    return entries


@ROWS
def test_state_dict_is_the_published_one(row: ModelSize):
    found = {key: tuple(value.shape) for key, value in make(row).state_dict().items()}
    assert found == expected_entries(row)
    assert len(found) == COUNTS[row.name][0]


@ROWS
def test_parameter_counts(row: ModelSize):
    parameters = list(make(row).parameters())
    assert sum(p.numel() for p in parameters) == COUNTS[row.name][1]
    assert sum(p.numel() for p in parameters if p.requires_grad) == COUNTS[row.name][2]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (32, 160), (96, 32)])
def test_maps_of_every_variant(variant: str, size: tuple[int, int]):
    with torch.device("meta"):
        model = HGNetV2(
            variant, return_stages=range(4), learnable_affine=True, freeze_stem=False, freeze_norm=False
        )
        maps = model(torch.empty(2, 3, *size))
    height, width = size
    assert [tuple(m.shape) for m in maps] == [
        (2, stage.outputs, height // 2 ** (i + 2), width // 2 ** (i + 2))
        for i, stage in enumerate(VARIANTS[variant].stages)
    ]


def test_images_and_returned_maps_are_left_alone():
    """Activations work in place; nothing that a caller holds may change."""
    model, row = make(SIZES["s"]), SIZES["s"]
    for mode in (True, False):
        model.train(mode)
        images = torch.rand(2, 3, 64, 64)
        kept = images.clone()
        maps = model(images)
        assert torch.equal(images, kept)
        single = HGNetV2.forward(copy.deepcopy(model), kept)
        if not mode:  # in training the second pass has other running statistics, not other outputs
            assert all(torch.equal(a, b) for a, b in zip(maps, single, strict=True))
        assert len(maps) == row.levels


class TestStem:
    """2x2 convolutions and the pool see zeros on the right and below, after the affine."""

    @pytest.fixture
    def stem(self) -> Stem:
        torch.manual_seed(0)
        stem = Stem(8, 12, learnable_affine=True, freeze_norm=False).double().eval()
        randomise(stem)
        # Below the padding everywhere but for few cells, so that the padding wins in the pool.
        stem.stem1.lab.bias.data.fill_(-3.0)
        return stem

    def test_padding(self, stem: Stem):
        images = torch.rand(2, 3, 32, 48).double()

        def layer(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
            block = getattr(stem, name)
            z = block.bn(F.conv2d(x, block.conv.weight, None, stride, padding))
            return z.clamp(min=0) * block.lab.scale + block.lab.bias

        x = F.pad(layer("stem1", images, 2, 1), (0, 1, 0, 1))
        pooled = F.max_pool2d(x, 2, 1, ceil_mode=True)
        assert (pooled[:, :, -1] >= 0).all()  # the padding took part
        assert (pooled[:, :, :-1, :-1] < 0).any()
        x = layer("stem2b", F.pad(layer("stem2a", x), (0, 1, 0, 1)))
        x = layer("stem4", layer("stem3", torch.cat((pooled, x), 1), 2, 1))
        torch.testing.assert_close(stem(images), x, rtol=1e-10, atol=1e-10)
        assert x.shape == (2, 12, 8, 12)

    @pytest.mark.parametrize("size", [(2, 2), (5, 9), (9, 4)])
    def test_quick_pool_is_the_pool(self, size: tuple[int, int]):
        x = torch.randn(2, 4, *size)
        assert torch.equal(_pool(x), F.max_pool2d(x, 2, 1))
        assert _pool(x.requires_grad_()).grad_fn.name() == "MaxPool2DWithIndicesBackward0"


class TestAffineReLU:
    @pytest.mark.parametrize("scale", [1.0, -0.7, 0.0])
    @pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
    def test_equals_its_formula_and_gradients(self, scale: float, memory: torch.memory_format):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=memory).requires_grad_()
        weights = torch.randn(2, 3, 4, 5, dtype=torch.float64)
        module = AffineReLU().double()
        module.scale.data.fill_(scale)
        module.bias.data.fill_(0.3)
        inputs = (x, module.scale, module.bias)

        y = module(x * 1)  # a copy: its memory is used up
        expected = x.clamp(min=0) * module.scale + module.bias
        torch.testing.assert_close(y, expected)
        found = torch.autograd.grad((y * weights).sum(), inputs)
        wanted = torch.autograd.grad((expected * weights).sum(), inputs)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b)

    def test_same_in_eval(self):
        module, x = AffineReLU(), torch.randn(2, 3, 4, 5)
        module.bias.data.fill_(0.3)
        assert torch.equal(module(x.clone()), module.eval()(x.clone()))

    @pytest.mark.parametrize("training", [True, False])
    def test_keeps_half_precision(self, training: bool):
        module = AffineReLU().train(training)
        x = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16, requires_grad=True)
        y = module(x * 1)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == torch.bfloat16
        assert module.scale.grad.dtype == module.bias.grad.dtype == torch.float32
        assert module.bias.grad.item() == x.numel()


class TestFreezing:
    def test_norms_never_change(self):
        model = make(SIZES["l"]).train()
        randomise(model)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        model(torch.rand(1, 3, 32, 32))[-1].sum().backward()
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())

    def test_stem_gets_no_gradient_and_the_rest_does(self):
        model = make(SIZES["l"]).train()
        model(torch.rand(1, 3, 32, 32))[-1].sum().backward()
        assert all(p.grad is None for p in model.stem.parameters())
        assert all(p.grad is not None for p in model.stages.parameters())

    def test_counted_batches_are_dropped_on_loading(self):
        model = make(SIZES["l"])
        state = model.state_dict()
        counted = {k.replace("running_var", "num_batches_tracked") for k in state if "running_var" in k}
        model.load_state_dict({**state, **dict.fromkeys(counted, torch.tensor(5))}, strict=True)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_frozen_norm_is_batch_norm_in_eval(self, dtype: torch.dtype):
        torch.manual_seed(0)
        frozen, plain = FrozenBatchNorm2d(6), nn.BatchNorm2d(6).eval()
        randomise(frozen)
        plain.load_state_dict(frozen.state_dict(), strict=False)
        x = torch.randn(2, 6, 4, 5, dtype=dtype)
        assert frozen(x).dtype == dtype
        torch.testing.assert_close(frozen(x), plain(x))


class TestFusing:
    @ROWS
    def test_outputs_stay(self, row: ModelSize):
        model = make(row).eval()
        randomise(model)
        images = torch.rand(1, 3, 64, 96)
        with torch.inference_mode():
            before = model(images)
            fused = copy.deepcopy(model)
            fuse_model(fused)
            after = fused(images)
        for a, b in zip(before, after, strict=True):
            # float32 rounding through some hundred layers, relative to the size of the values
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4 * a.abs().max().item())
        gone = nn.BatchNorm2d | FrozenBatchNorm2d | AffineReLU | ConvBnAct
        assert not any(isinstance(module, gone) for module in fused.modules())
        assert not any(p.requires_grad for p in fused.parameters())

    @pytest.mark.parametrize("scale", [1.3, 0.0, -0.8])
    @pytest.mark.parametrize("freeze_norm", [False, True])
    def test_sign_of_the_scale(self, scale: float, freeze_norm: bool):
        torch.manual_seed(0)
        block = ConvBnAct(4, 6, 3, learnable_affine=True, freeze_norm=freeze_norm).double().eval()
        randomise(block)
        block.lab.scale.data.fill_(scale)
        x = torch.randn(2, 4, 7, 5, dtype=torch.float64)
        torch.testing.assert_close(block.fuse()(x), block(x))

    def test_channels_last_weights_stay_so(self):
        block = ConvBnAct(8, 8, 3, learnable_affine=True, freeze_norm=False)
        conv = block.to(memory_format=torch.channels_last).eval().fuse()[0]
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)

    def test_the_original_is_untouched(self):
        block = ConvBnAct(4, 6, 3, learnable_affine=True, freeze_norm=False)
        before = {k: v.clone() for k, v in block.state_dict().items()}
        fused = block.fuse()
        fused[0].weight.data.zero_()
        assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


def test_only_later_blocks_are_residual():
    def block(residual: bool) -> HgBlock:
        torch.manual_seed(0)
        return HgBlock(
            8, 4, 8, 2, light=True, residual=residual, learnable_affine=True, freeze_norm=False
        ).eval()

    x = torch.rand(1, 8, 6, 6)
    assert torch.equal(block(True)(x), block(False)(x) + x)
    stage = make(SIZES["n"]).stages[2]
    assert [b.residual for b in stage.blocks] == [False, True]


def test_memory_formats_agree():
    model = make(SIZES["n"]).eval()
    randomise(model)
    images = torch.rand(1, 3, 64, 64)
    plain = model(images)
    last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for a, b in zip(plain, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * a.abs().max().item())
