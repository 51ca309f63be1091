import pytest
import torch

from dfine_cli.config.schema import Loss
from dfine_cli.errors import DfineError
from dfine_cli.losses.criterion import build_criterion
from dfine_cli.types import Target


def criterion_for(outputs, **knobs):
    classes = outputs.final.logits.shape[-1]
    return build_criterion(Loss(**knobs), num_classes=classes, reg_max=32, up=0.5, reg_scale=4.0)


def backward(terms, leaves):
    """Gradients of the sum of all terms; zeros where there is none."""
    total = sum(terms.values())
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


def names(layers, denoising):
    found = {"loss_vfl", "loss_bbox", "loss_giou", "loss_fgl"}
    for i in range(layers - 1):
        found |= {f"loss_{t}_aux_{i}" for t in ("vfl", "bbox", "giou", "fgl", "ddf")}
    found |= {f"loss_{t}_{h}" for t in ("vfl", "bbox", "giou") for h in ("pre", "enc_0")}
    if denoising:
        for i in range(layers):
            found |= {f"loss_{t}_dn_{i}" for t in ("vfl", "bbox", "giou", "fgl", "ddf")}
        found |= {f"loss_{t}_dn_pre" for t in ("vfl", "bbox", "giou")}
    return found


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("denoising", [0, 2])
def test_names_and_number_of_terms(case, layers, denoising):
    outputs, targets, _ = case([2, 1], layers=layers, denoising=denoising)
    terms = criterion_for(outputs)(outputs, targets)
    assert set(terms) == names(layers, denoising)
    assert len(terms) == (10 * layers + 8 if denoising else 5 * layers + 5)
    assert all(term.shape == () for term in terms.values())


EDGE_CASES = {
    "an image without objects": {"counts": [3, 0, 2]},
    "no objects at all": {"counts": [0, 0]},
    "more objects than queries": {"counts": [9, 1], "queries": 5},
    "as many objects as queries": {"counts": [5, 5], "queries": 5},
    "one image, one object": {"counts": [1]},
    "one class": {"counts": [3, 1], "classes": 1},
    "one layer": {"counts": [3, 1], "layers": 1},
}


@pytest.mark.parametrize("classification", ["vfl", "mal", "focal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("knobs", EDGE_CASES.values(), ids=EDGE_CASES)
def test_edge_cases_are_finite(case, knobs, dtype, classification):
    outputs, targets, leaves = case(**knobs, denoising=2, dtype=dtype)
    terms = criterion_for(outputs, classification=classification)(outputs, targets)
    assert all(term.isfinite() and term.dtype == dtype for term in terms.values())
    assert all(gradient.isfinite().all() for gradient in backward(terms, leaves))


BOXES = {
    "duplicates": [[0.5, 0.5, 0.2, 0.2]] * 3,
    "on the border": [[0.05, 0.05, 0.1, 0.1], [0.95, 0.95, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]],
    "without area": [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.3]],
    "tiny": [[0.5, 0.5, 1e-6, 1e-6], [0.2, 0.2, 1e-6, 0.5], [0.7, 0.7, 0.1, 1e-6]],
}


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_odd_boxes_are_finite(case, boxes):
    outputs, targets, leaves = case([3, 2], denoising=2, dtype=torch.float32)
    targets[0] = targets[0]._replace(boxes=torch.tensor(boxes))
    terms = criterion_for(outputs)(outputs, targets)
    assert all(term.isfinite() for term in terms.values())
    assert all(gradient.isfinite().all() for gradient in backward(terms, leaves))


def test_degenerate_predictions_are_finite(case):
    outputs, targets, leaves = case([3, 2], denoising=2, dtype=torch.float32)
    with torch.no_grad():
        outputs.final.boxes[..., 2:] = -0.1
        outputs.final.references[0] = 0.0
        outputs.aux[0].boxes[:] = 0.5
        outputs.aux[1].boxes[:] = torch.tensor([1e4, -1e4, 0.0, 1e4])
    terms = criterion_for(outputs)(outputs, targets)
    assert all(term.isfinite() for term in terms.values())
    assert all(gradient.isfinite().all() for gradient in backward(terms, leaves))


def test_without_objects_only_negatives_count(case):
    outputs, targets, _ = case([0, 0, 0], denoising=2)
    terms = criterion_for(outputs)(outputs, targets)
    silent = [n for n in terms if not n.startswith(("loss_vfl", "loss_ddf"))]
    assert len(silent) == 13
    assert all(terms[n] == 0 for n in silent)
    assert all(terms[n] > 0 for n in terms if n.startswith("loss_vfl"))


def test_nan_is_not_hidden(case):
    # published: NaN terms become 0; the loop skips and counts such steps instead
    outputs, targets, _ = case([2, 1])
    with torch.no_grad():
        outputs.aux[0].boxes[:] = torch.nan
    terms = criterion_for(outputs)(outputs, targets)
    assert terms["loss_bbox_aux_0"].isnan()
    assert terms["loss_giou_aux_0"].isnan()
    assert terms["loss_bbox"].isfinite()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(case, half):
    outputs, targets, _ = case([3, 2], denoising=2, dtype=torch.float32)
    rounded = rounded_outputs(outputs, half)
    criterion = criterion_for(outputs)
    found = criterion(rounded, targets)
    expected = criterion(rounded_outputs(rounded, torch.float32), targets)
    for name, term in found.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name]), name


def rounded_outputs(outputs, dtype):
    """Class and corner logits in ``dtype``, boxes as they are: what autocast gives."""

    def rounded(layer):
        corners = None if layer.corners is None else layer.corners.to(dtype)
        return layer._replace(logits=layer.logits.to(dtype), corners=corners)

    noisy = outputs.denoising
    return outputs._replace(
        final=rounded(outputs.final),
        aux=tuple(map(rounded, outputs.aux)),
        pre=rounded(outputs.pre),
        encoder=tuple(map(rounded, outputs.encoder)),
        denoising=noisy._replace(layers=tuple(map(rounded, noisy.layers)), pre=rounded(noisy.pre)),
    )


def test_float32_is_near_float64(case):
    (single, targets, leaves), (double, same, same_leaves) = (
        case([3, 0, 4], denoising=2, dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    found, expected = criterion_for(single)(single, targets), criterion_for(double)(double, same)
    gradients = zip(backward(found, leaves), backward(expected, same_leaves), strict=True)
    for name, term in found.items():
        # sums of some hundred float32 numbers of order 1
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-5, abs=1e-7), name
    for low, high in gradients:
        torch.testing.assert_close(low.double(), high, rtol=1e-4, atol=1e-6)


def test_weights_scale_their_term_only(case):
    outputs, targets, _ = case([3, 2], denoising=2)
    usual = criterion_for(outputs)(outputs, targets)
    knobs = {
        "class_weight": 2.0,
        "bbox_weight": 15.0,
        "giou_weight": 8.0,
        "fgl_weight": 0.75,
        "ddf_weight": 9.0,
    }
    factors = {"vfl": 2, "bbox": 3, "giou": 4, "fgl": 5, "ddf": 6}
    for name, term in criterion_for(outputs, **knobs)(outputs, targets).items():
        torch.testing.assert_close(term, factors[name.split("_")[1]] * usual[name])


def test_denoising_layers_are_divided_by_objects_times_groups(case):
    outputs, targets, _ = case([3, 2], denoising=4)
    terms = criterion_for(outputs)(outputs, targets)
    images, queries, objects = outputs.denoising.positives
    boxes = outputs.denoising.layers[1].boxes[images, queries]
    wanted = torch.cat([t.boxes for t in targets])[objects]
    expected = 5 * (boxes - wanted).abs().sum() / (5 * 4)
    torch.testing.assert_close(terms["loss_bbox_dn_1"], expected)


def test_the_teacher_of_denoising_is_its_last_layer(case):
    outputs, targets, _ = case([3, 2], denoising=2)
    noisy = outputs.denoising
    same = noisy._replace(layers=(noisy.layers[2]._replace(boxes=noisy.layers[0].boxes), *noisy.layers[1:]))
    terms = criterion_for(outputs)(outputs._replace(denoising=same), targets)
    assert terms["loss_ddf_dn_0"] == 0
    assert terms["loss_ddf_dn_1"] > 0
    assert terms["loss_ddf_dn_2"] == 0


def test_another_number_of_classes_is_an_error(case):
    outputs, targets, _ = case([1], classes=4)
    criterion = build_criterion(Loss(), num_classes=5, reg_max=32, up=0.5, reg_scale=4.0)
    with pytest.raises(DfineError, match="4 classes"):
        criterion(outputs, targets)


def test_evaluation_outputs_are_an_error(case):
    outputs, targets, _ = case([1])
    final = outputs.final._replace(corners=None)
    with pytest.raises(DfineError, match="edge distributions"):
        criterion_for(outputs)(outputs._replace(final=final, aux=()), targets)


def test_objects_on_another_dtype_follow_the_outputs(case):
    outputs, _, _ = case([1], dtype=torch.float64)
    target = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.2, 0.2]]), 0, (32, 32))
    terms = criterion_for(outputs)(outputs, [target])
    assert all(term.dtype == torch.float64 for term in terms.values())
