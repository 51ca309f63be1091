"""The decoder and the whole model: outputs of training, input sizes, loading, gradients, initial state."""

import copy

import pytest
import torch

from dfine_cli.errors import UsageError
from dfine_cli.model.dfine import build_model
from dfine_cli.model.sizes import SIZES
from dfine_cli.types import Target

CLASSES, QUERIES = 3, 20


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shared_model():
    return _model()


@pytest.fixture
def model(shared_model):
    return copy.deepcopy(shared_model)


def _model(size="n", **knobs):
    torch.manual_seed(0)
    return build_model(
        size, CLASSES, **{"input_size": (64, 64), "num_queries": QUERIES, "num_denoising": 6} | knobs
    )


def _targets(*counts):
    return [
        Target(torch.randint(0, CLASSES, (n,)), torch.rand(n, 4) * 0.4 + 0.2, image_id, (10, 10))
        for image_id, n in enumerate(counts)
    ]


def _loss(output):
    layers = [output.final, *output.aux, output.pre, *output.encoder]
    if output.denoising is not None:
        layers += [*output.denoising.layers, output.denoising.pre]
    tensors = [t for layer in layers for t in (layer.logits, layer.boxes, layer.corners) if t is not None]
    return sum(tensor.square().sum() for tensor in tensors)


def _check_layer(layer, images, queries, bins=33):
    assert layer.logits.shape == (images, queries, CLASSES)
    assert layer.boxes.shape == (images, queries, 4)
    assert layer.corners.shape == (images, queries, 4 * bins)
    assert layer.references.shape == (images, queries, 4)


def test_training_gives_every_output_by_its_shape(model):
    output = model(torch.rand(2, 3, 96, 96), _targets(2, 3))
    _check_layer(output.final, 2, QUERIES)
    assert len(output.aux) == 2
    for layer in output.aux:
        _check_layer(layer, 2, QUERIES)
    assert output.pre.logits.shape == (2, QUERIES, CLASSES)
    assert output.pre.corners is None
    assert output.encoder[0].boxes.shape == (2, QUERIES, 4)
    assert len(output.encoder) == 1
    denoising = output.denoising
    assert denoising.groups == 2
    assert len(denoising.layers) == 3
    for layer in denoising.layers:
        _check_layer(layer, 2, 2 * 3 * 2)
    assert denoising.pre.boxes.shape == (2, 12, 4)
    assert denoising.positives.objects.tolist() == [0, 1, 0, 1, 2, 3, 4, 2, 3, 4]
    assert [level.shape[-2:] for level in output.features.levels] == [(6, 6), (3, 3)]


def test_evaluation_gives_the_last_layer_only(model):
    output = model.eval()(torch.rand(2, 3, 96, 96), _targets(2, 3))
    _check_layer(output.final, 2, QUERIES)
    assert (output.aux, output.pre, output.encoder, output.denoising) == ((), None, (), None)


@torch.no_grad()
def test_training_and_evaluation_agree_but_for_the_batch_norms(model):
    images = torch.rand(2, 3, 96, 96)
    expected = model.eval()(images).final
    for module in model.modules():
        module.training = not isinstance(module, torch.nn.BatchNorm2d)
    found = model(images, _targets(4, 1)).final  # and denoising queries do not disturb the others
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-5)


@pytest.mark.parametrize("counts", [(0, 0), (0, 4), (200, 1)])
def test_any_number_of_objects_trains(model, counts):
    output = model(torch.rand(2, 3, 96, 96), _targets(*counts))
    assert (output.denoising is None) == (sum(counts) == 0)
    loss = _loss(output)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_every_trained_weight_gets_a_gradient(model):
    for parameter in model.parameters():
        if parameter.requires_grad:  # zero-initialised layers would hide what is behind them
            torch.nn.init.normal_(parameter, std=0.05)
    _loss(model(torch.rand(2, 3, 96, 96), _targets(2, 3))).backward()
    without = [
        n
        for n, p in model.named_parameters()
        # A shift before a norm over the batch cancels out, and its gradient is rounding or exactly zero.
        if p.requires_grad and (p.grad is None or not (n.endswith("lab.bias") or p.grad.any()))
    ]
    assert without == []


def test_gradients_stop_between_the_layers(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    output = model(torch.rand(1, 3, 96, 96))
    model.zero_grad()
    output.final.boxes.sum().backward(retain_graph=True)
    decoder = model.decoder
    assert decoder.enc_bbox_head.layers[0].weight.grad is None  # the first boxes are detached
    assert decoder.enc_output.proj.weight.grad is None  # and so is the first content
    assert decoder.pre_bbox_head.layers[0].weight.grad is None  # and the boxes offsets are measured from
    assert decoder.dec_bbox_head[0].layers[0].weight.grad.any()  # but offsets add up through the layers


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 160), (96, 64)])
@pytest.mark.parametrize("training", [True, False])
def test_any_multiple_of_32_works_without_rebuilding(model, size, training):
    output = model.train(training)(torch.rand(2, 3, *size), _targets(1, 2))
    cells = size[0] * size[1] // 256 + size[0] * size[1] // 1024
    assert output.final.boxes.shape == (2, min(QUERIES, cells), 4)
    assert output.final.logits.isfinite().all()


def test_three_levels_work_at_other_sizes():
    output = _model("s").eval()(torch.rand(1, 3, 32, 96)).final
    assert output.boxes.shape == (1, QUERIES, 4)
    assert output.boxes.isfinite().all()


@torch.no_grad()
def test_computed_anchors_equal_the_stored_ones(model):
    other = _model(input_size=(96, 128)).eval()
    other.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 96, 128)
    found, expected = model.eval()(images).final, other(images).final
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=0)


def test_a_size_first_seen_in_inference_mode_can_be_trained(model):
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        model.eval()(images)
    _loss(model.train()(images, _targets(1))).backward()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((100, 64), "height 96 or 128, width 64"),
        ((64, 65), "height 64, width 64 or 96"),
        ((20, 31), "height 32, width 32"),
    ],
)
def test_another_size_is_refused_with_the_nearest_ones(model, size, words):
    with pytest.raises(UsageError, match=f"{size[0]}x{size[1]}") as caught:
        model(torch.rand(1, 3, *size))
    assert words in caught.value.hint


def test_an_unknown_size_and_wrong_points_are_refused():
    with pytest.raises(UsageError, match="'q'"):
        build_model("q", 3)
    with pytest.raises(UsageError, match="2 levels"):
        build_model("n", 3, points=(3, 6, 3))


def test_knobs_reach_the_decoder():
    model = _model(decoder_layers=2, points=(2, 1), bins=16, weighting_a=0.25, weighting_c=0.4)
    output = model(torch.rand(1, 3, 64, 64), _targets(1))
    assert len(output.aux) == 1
    _check_layer(output.final, 1, QUERIES, bins=17)
    assert model.decoder.reg_scale.item() == 2.5
    assert model.decoder.reg_scale.dtype == torch.float32
    assert model.decoder.decoder.bin_offsets[-1].item() == pytest.approx(2 * 0.25 * 2.5)
    assert model.decoder.decoder.layers[0].cross_attn.num_points_scale.tolist() == [0.5, 0.5, 1.0]
    assert model.num_classes == CLASSES
    assert model.size == "n"
    assert model.input_size == (64, 64)


@pytest.mark.parametrize("c", [0.25, 1 / 8, 1 / 3])
def test_whole_scales_are_stored_as_published(c):
    assert _model(weighting_c=c).decoder.reg_scale.dtype == torch.int64


def test_queries_start_with_zero_offsets_and_equal_layers(model):
    first, *others = model.decoder.decoder.layers
    for other in others:
        for found, expected in zip(other.parameters(), first.parameters(), strict=True):
            assert found.equal(expected)
            assert found is not expected
    output = model(torch.rand(1, 3, 64, 64))
    assert not output.final.corners.any()
    torch.testing.assert_close(output.final.boxes, output.final.references)
    prior = model.decoder.dec_score_head[0].bias.sigmoid()
    torch.testing.assert_close(prior, torch.full((CLASSES,), 0.01))
    assert not model.decoder.denoising_class_embed.weight[-1].any()


@pytest.mark.parametrize("missing", [("decoder.up", "decoder.reg_scale"), ("decoder.decoder.up",)])
def test_one_name_of_a_shared_constant_is_enough(model, missing):
    state = {key: value for key, value in model.state_dict().items() if key not in missing}
    _model().load_state_dict(state)
    assert missing[0] not in state  # and the file's own dict is left alone


def test_counters_of_the_norms_may_be_missing(model):
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    _model().load_state_dict(state)


def test_scale_and_bins_follow_the_loaded_weights(model):
    state = model.state_dict()
    state["decoder.reg_scale"] = torch.tensor([8.0])
    state["decoder.up"] = torch.tensor([0.25])
    loaded = _model()
    loaded.load_state_dict(state)
    assert loaded.decoder.reg_scale.dtype == torch.int64
    assert loaded.decoder.decoder.reg_scale.item() == 8
    assert loaded.decoder.decoder.bin_offsets[-1].item() == pytest.approx(2 * 0.25 * 8)
    state["decoder.reg_scale"] = torch.tensor([2.5])
    loaded.load_state_dict(state)
    assert loaded.decoder.decoder.reg_scale.item() == 2.5


def test_anchors_of_another_input_size_are_not_taken_over(model):
    other = _model(input_size=(96, 160))
    before = other.decoder.anchors.clone()
    other.load_state_dict(model.state_dict())
    assert other.decoder.anchors.equal(before)


def test_drifted_anchors_of_the_same_size_are_taken_over(model):
    state = model.state_dict()
    state["decoder.anchors"] = state["decoder.anchors"] * 1.0001
    other = _model()
    other.load_state_dict(state)
    assert other.decoder.anchors.equal(state["decoder.anchors"])


def test_weights_that_do_not_fit_are_refused(model):
    state = model.state_dict()
    del state["decoder.enc_score_head.weight"]
    with pytest.raises(RuntimeError, match="enc_score_head"):
        _model().load_state_dict(state)


@torch.no_grad()
def test_memory_layout_of_the_images_does_not_matter(model):
    images = torch.rand(2, 3, 64, 96)
    expected = model.eval()(images).final
    found = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last)).final
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)


def test_boxes_stay_in_full_precision_under_autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.rand(1, 3, 64, 64), _targets(2))
    for layer in (output.final, *output.aux, *output.denoising.layers):
        assert layer.boxes.dtype == layer.corners.dtype == layer.references.dtype == torch.float32
    assert output.pre.boxes.dtype == output.encoder[0].boxes.dtype == torch.float32
    _loss(output).backward()


def test_a_copy_is_independent_and_keeps_the_shared_constants(model):
    other = copy.deepcopy(model)
    assert other.decoder.up is other.decoder.decoder.up
    assert other.decoder.up is not model.decoder.up


def test_fused_model_leaves_out_what_only_training_needs(model):
    fused = model.fused()
    assert [type(head).__name__ for head in fused.decoder.dec_score_head] == [
        "Identity",
        "Identity",
        "Linear",
    ]
    assert not any(p.requires_grad for p in fused.parameters())
    assert model.training
    assert all(isinstance(head, torch.nn.Linear) for head in model.decoder.dec_score_head)


def test_own_size_rows_can_be_built():
    row = SIZES["n"]
    assert build_model(row, 2, input_size=(64, 64)).size == row.name


@pytest.mark.parametrize("training", [True, False])
def test_forward_never_reads_values_from_the_device(model, training):
    # Tensors on the meta device have no values: whatever waits for one fails.
    model = model.to("meta").train(training)
    targets = [t._replace(labels=t.labels.to("meta"), boxes=t.boxes.to("meta")) for t in _targets(2, 0)]
    output = model(torch.empty(2, 3, 96, 96, device="meta"), targets)
    assert output.final.boxes.shape == (2, QUERIES, 4)


@torch.no_grad()
def test_evaluation_compiles_to_one_graph(model):
    images = torch.rand(1, 3, 96, 64)  # not the stored size: anchors are computed
    expected = model.eval()(images).final
    torch.compiler.reset()
    found = torch.compile(model, backend="eager", fullgraph=True)(images).final
    torch.testing.assert_close(found.logits, expected.logits)


def test_training_compiles(model):
    """Batches of several numbers of objects, and back: the second number makes the shapes dynamic."""
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager")
    images = torch.rand(2, 3, 64, 64)
    for objects in (3, 1, 2):
        targets = _targets(2, objects)
        torch.manual_seed(5)
        found = compiled(images, targets)
        torch.manual_seed(5)
        expected = model(images, targets)
        torch.testing.assert_close(found.final.logits, expected.final.logits)
        assert found.final.boxes.shape == expected.final.boxes.shape
        torch.testing.assert_close(found.denoising.pre.boxes, expected.denoising.pre.boxes)
        found.final.boxes.sum().backward()
    assert all(p.grad is not None for p in compiled.decoder.decoder.layers[0].parameters())


def test_all_layers_speak_when_asked_and_the_last_as_always(model):
    images = torch.rand(2, 3, 64, 64)
    model.eval()
    with torch.no_grad():
        for head in model.decoder.dec_bbox_head:  # which begin at zero
            head.layers[-1].weight.normal_()
        layers, usual = model.all_layers(images), model(images)
    assert len(layers) == SIZES["n"].decoder_layers and usual.aux == ()
    for layer in layers:
        _check_layer(layer, 2, QUERIES)
        assert torch.equal(layer.references, layers[0].references)
    assert all(torch.equal(a, b) for a, b in zip(layers[-1], usual.final, strict=True))
    assert not torch.equal(layers[0].corners, layers[-1].corners)
    with pytest.raises(ValueError, match="fused"):
        model.fused().all_layers(images)
