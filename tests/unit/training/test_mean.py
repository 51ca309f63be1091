import math

import torch

from dfine_cli.training.mean import Mean


def test_means_leave_out_what_is_not_finite_and_go_on_after_a_restart() -> None:
    mean = Mean()
    mean.add({"a": torch.tensor(1.0), "b": torch.tensor(torch.nan)})
    mean.add({"a": torch.tensor(3.0)})
    again = Mean()
    again.load_state_dict(mean.state_dict())
    again.add({"a": torch.tensor(5.0), "b": torch.tensor(2.0)})
    assert mean.values()["a"] == 2
    assert math.isnan(mean.values()["b"])
    assert again.values() == {"a": 3.0, "b": 2.0}
