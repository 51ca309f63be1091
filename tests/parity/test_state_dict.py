"""Names, shapes, dtypes and counts of the weights against those of the published ones."""

import hashlib
from collections import Counter

import pytest
import torch
from torch import nn

from dfine_cli.model.dfine import build_model

DIGESTS = {
    "n": "cac4b1b0b76bd2b973144322cb3dcad15af3a6562b28f30c71bdfb2867f531a8",
    "s": "dcccef7309125e94b14fc90afa614d50f903e775df21d7549245951f06091db3",
    "m": "7bb291b60bf0f33b970bf0cbf8f0fb73838adfdd9e5ed4183c98ebbb1e2d9782",
    "l": "752bf8b7979e8a3870b55f169cb59dd7154165db50c8cefc1d122f4238c1888c",
    "x": "f1a9107878ce9b4d1e7115fd01632c2915ac741b87ff58a9adfb3d97f5029d05",
}
ENTRIES = {  # backbone, decoder, encoder
    "n": (312, 128, 234),
    "s": (312, 128, 354),
    "m": (442, 161, 450),
    "l": (400, 227, 546),
    "x": (650, 245, 546),
}
PARAMETERS = {  # all, trainable; backbone, encoder, decoder
    "n": (3_782_693, 3_782_691, 1_850_396, 703_824, 1_228_473),
    "s": (10_321_877, 10_321_875, 1_850_396, 4_021_504, 4_449_977),
    "m": (19_590_064, 19_590_062, 6_026_626, 7_799_040, 5_764_398),
    "l": (31_244_152, 31_219_222, 13_507_680, 9_343_232, 8_393_240),
    "x": (62_621_560, 62_596_118, 33_231_840, 20_700_032, 8_689_688),
}
PARAMETERS_366 = {"n": 3_966_877, "s": 10_689_101, "m": 20_030_790, "l": 31_831_882, "x": 63_209_290}
BUFFERS = {"n": 26_379, "s": 70_279, "m": 93_965, "l": 162_737, "x": 275_316}
DEPLOYED = {  # encoder, decoder
    "n": (698_388, 1_205_015),
    "s": (3_981_056, 4_406_039),
    "m": (7_523_072, 5_698_491),
    "l": (8_933_120, 8_283_395),
    "x": (19_789_952, 8_579_843),
}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", DIGESTS)
def test_names_shapes_and_dtypes_have_the_published_digest(name):
    state = build_model(name, 80).state_dict()
    lines = [
        f"{key} {','.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}\n"
        for key, value in sorted(state.items())
    ]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == DIGESTS[name]
    parts = Counter(key.split(".")[0] for key in state)
    assert (parts["backbone"], parts["decoder"], parts["encoder"]) == ENTRIES[name]
    assert list(dict.fromkeys(key.split(".")[0] for key in state)) == ["backbone", "decoder", "encoder"]
    assert sum(value.numel() for _, value in model_buffers(state)) == BUFFERS[name]


def model_buffers(state):
    """The entries of a state dict that are not parameters: statistics, anchors and constants."""
    names = (
        "running_mean",
        "running_var",
        "num_batches_tracked",
        "anchors",
        "valid_mask",
        "num_points_scale",
    )
    frozen = {key.removesuffix("running_mean") for key in state if key.endswith("running_mean")}
    frozen = {prefix for prefix in frozen if f"{prefix}num_batches_tracked" not in state}
    return [
        (key, value)
        for key, value in state.items()
        if key.endswith(names) or key.removesuffix(key.rsplit(".", 1)[-1]) in frozen
    ]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    model = build_model(name, 80)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parts = (_count(model.backbone), _count(model.encoder), _count(model.decoder))
    assert (_count(model), trainable, *parts) == PARAMETERS[name]
    assert _count(build_model(name, 366)) == PARAMETERS_366[name]


@pytest.mark.parametrize("name", DEPLOYED)
def test_fused_model_has_the_published_deploy_form(name):
    model = build_model(name, 80)
    fused = model.fused()
    encoder, decoder = DEPLOYED[name]
    # We fuse the input projections too: a bias takes the place of a norm's weight and bias, per channel.
    projections = sum(projection.conv.out_channels for projection in model.encoder.input_proj)
    in_decoder = sum(p.conv.out_channels for p in model.decoder.input_proj if not isinstance(p, nn.Identity))
    assert _count(fused.encoder) == encoder - projections
    assert _count(fused.decoder) == decoder - in_decoder
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not fused.training
    assert model.training  # and the original is left alone
    assert _count(model) == PARAMETERS[name][0]


def test_two_constants_have_two_names_each():
    model = build_model("x", 2)
    assert model.decoder.up is model.decoder.decoder.up
    assert model.decoder.reg_scale is model.decoder.decoder.reg_scale
    assert model.decoder.reg_scale.dtype == torch.int64
    assert model.decoder.reg_scale.item() == 8
    assert not model.decoder.up.requires_grad
