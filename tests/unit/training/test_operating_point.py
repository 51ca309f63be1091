"""The threshold of an evaluation inside a checkpoint."""

import pytest
import torch

from dfine_cli import checkpoint_format as keys
from dfine_cli.errors import DfineError
from dfine_cli.training import checkpoint


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "best.pt"
    torch.save({keys.FORMAT_KEY: keys.FORMAT, keys.MODEL: {"w": torch.arange(4.0)}}, path)
    return path


def test_everything_else_is_kept_and_the_point_is_replaced(file):
    for threshold in (0.2, 0.4):
        checkpoint.store_operating_point(file, {"threshold": threshold, "classes": [0.1, None]})
    content = torch.load(file, weights_only=True)
    assert content[keys.OPERATING_POINT] == {"threshold": 0.4, "classes": [0.1, None]}
    assert (
        torch.equal(content[keys.MODEL]["w"], torch.arange(4.0)) and content[keys.FORMAT_KEY] == keys.FORMAT
    )
    assert list(file.parent.iterdir()) == [file]


def test_a_checkpoint_that_a_run_is_writing_is_left_alone(file, monkeypatch):
    read = checkpoint.read_checkpoint

    def read_while_it_is_replaced(path):
        content = read(path)
        torch.save({**content, "newer": 1}, path)
        return content

    monkeypatch.setattr(checkpoint, "read_checkpoint", read_while_it_is_replaced)
    with pytest.raises(DfineError, match="being written"):
        checkpoint.store_operating_point(file, {"threshold": 0.4})
    assert torch.load(file, weights_only=True)["newer"] == 1


def test_a_file_that_is_no_checkpoint(tmp_path):
    with pytest.raises(DfineError, match="no such file"):
        checkpoint.store_operating_point(tmp_path / "gone.pt", {})
