"""Parts of a model that are not trained: no gradient, and norms that keep their statistics."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfine_cli.zoo.structure import part_of

FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "backbone": ("backbone",),
    "encoder": ("backbone", "encoder"),
    "all-but-head": ("backbone", "encoder", "decoder"),
}
"""Parts (``zoo.structure.PARTS``) that each value of ``start.freeze`` keeps; score and box heads are always trained."""


def freeze(model: nn.Module, what: str) -> list[nn.Module]:
    """Take the gradient from the frozen parts.

    Args:
        model: A D-FINE.
        what: A key of ``FROZEN``.

    Returns:
        Batch norms of the frozen parts. They are to be put into eval mode whenever the model is put into
        training mode, or they would follow the data in front of weights that cannot.
    """
    parts = FROZEN[what]
    for name, parameter in model.named_parameters():
        if part_of(name) in parts:
            parameter.requires_grad_(False)
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and part_of(f"{name}.weight") in parts
    ]
