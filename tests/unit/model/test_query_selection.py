"""Anchors of the encoder's cells and the choice of the best."""

import pytest
import torch

from dfine_cli.model.query_selection import inverse_sigmoid, make_anchors, select_proposals

AT_640 = ((80, 80), (40, 40), (20, 20))


def _start(shapes, level):
    return sum(height * width for height, width in shapes[:level])


def test_anchors_have_the_documented_values():
    anchors, _ = make_anchors(AT_640)
    found = [anchors[0, _start(AT_640, 1) + 800], anchors[0, _start(AT_640, 2) + 200]]
    expected = [
        [-4.3694477, 0.0500104, -2.1972246, -2.1972246],
        [-3.6635616, 0.1000833, -1.3862944, -1.3862944],
    ]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected), rtol=0, atol=1e-6)
    two_levels, usable = make_anchors(AT_640[1:])
    assert usable.all()
    torch.testing.assert_close(
        two_levels[0, [800, 1800], 2:], torch.tensor([[-2.9444389] * 2, [-2.1972246] * 2]), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("side", "unusable"),
    [(320, 0), (480, 4 * 59), (640, 316), (768, 4 * 95), (800, 396 + 196)],
)
def test_border_cells_are_unusable_where_they_are_narrow(side, unusable):
    anchors, usable = make_anchors([(side // stride, side // stride) for stride in (8, 16, 32)])
    assert (~usable).sum() == unusable
    assert anchors[~usable.expand(-1, -1, 4)].isposinf().all()
    assert anchors[usable.expand(-1, -1, 4)].isfinite().all()


def test_anchors_of_a_wide_map_run_row_by_row():
    anchors, _ = make_anchors([(2, 4)])
    centres = anchors.sigmoid()[0, :, :2]
    expected = [[(column + 0.5) / 4, (row + 0.5) / 2] for row in range(2) for column in range(4)]
    torch.testing.assert_close(centres, torch.tensor(expected))


def test_best_cells_come_first():
    features, logits = torch.randn(2, 9, 5), torch.randn(2, 9, 3)
    anchors = torch.randn(1, 9, 4)
    found = select_proposals(features, logits, anchors, 4)
    for image in range(2):
        order = logits[image].amax(-1).argsort(descending=True)[:4]
        torch.testing.assert_close(found.content[image], features[image, order])
        torch.testing.assert_close(found.logits[image], logits[image, order])
        torch.testing.assert_close(found.box_logits[image], anchors[0, order])


def test_a_small_image_gives_as_many_queries_as_it_has_cells():
    found = select_proposals(torch.randn(1, 5, 8), torch.randn(1, 5, 3), torch.randn(1, 5, 4), 300)
    assert found.content.shape == (1, 5, 8)


def test_inverse_sigmoid_is_finite_at_the_ends():
    values = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0])
    limit = torch.tensor(1e-5).log().neg().item()
    torch.testing.assert_close(
        inverse_sigmoid(values), torch.tensor([-limit, -limit, -1.0986123, limit, limit])
    )
