"""What each operation of a network computes and moves, counted without computing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from dfine_cli.bench.roofline import Layer
from dfine_cli.model.dfine import DFINE
from dfine_cli.model.postprocess import postprocess
from dfine_cli.types import Size

PARTS = ("backbone", "encoder", "decoder")
_OTHER = "post-processing"

_aten = torch.ops.aten
_VIEWS = {
    _aten.view, _aten._unsafe_view, _aten.t, _aten.transpose, _aten.permute, _aten.slice, _aten.select,
    _aten.expand, _aten.unsqueeze, _aten.squeeze, _aten.split, _aten.split_with_sizes, _aten.unbind,
    _aten.detach, _aten.alias,
}  # fmt: skip
"""Another look at the same memory: no work."""
_POINTWISE = {
    _aten.add, _aten.add_, _aten.sub, _aten.rsub, _aten.mul, _aten.mul_, _aten.div, _aten.neg, _aten.pow,
    _aten.remainder, _aten.clamp, _aten.clamp_, _aten.relu, _aten.relu_, _aten.silu, _aten.silu_, _aten.gelu,
    _aten.sigmoid, _aten.sigmoid_, _aten.log, _aten.exp, _aten.sin, _aten.cos, _aten._to_copy,
}  # fmt: skip
"""An inference engine does these in the kernel that makes their input."""
_CONSTANT = {_aten.arange, _aten.ones, _aten.zeros, _aten.empty, _aten.full}
"""Known when an engine is built."""
_FREE = _VIEWS | _POINTWISE | _CONSTANT


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self.part = _OTHER

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation, and note what it does."""
        named = dict(kwargs or {})
        output = func(*args, **named)
        operation = func._overloadpacket
        if operation not in _FREE:
            count = flop_registry.get(operation)
            flops = int(count(*args, **named, out_val=output)) if count else 0
            tensors = [leaf for leaf in tree_leaves((args, named, output)) if isinstance(leaf, torch.Tensor)]
            grouped = operation is _aten.convolution and args[8] > 1
            self.layers.append(
                Layer(
                    part=self.part,
                    operation=str(operation).removeprefix("aten."),
                    flops=flops,
                    elements=sum(tensor.numel() for tensor in tensors),
                    unit="tensor" if flops and not grouped else "vector",
                )
            )
        return output

    def enter(self, part: str) -> None:
        """What comes from now on belongs to ``part``."""
        self.part = part


@torch.no_grad()
def count_layers(model: DFINE, input_size: Size) -> list[Layer]:
    """All operations of one pass over one image, in deploy form, the choice of the best detections included.

    Nothing is computed: the tensors have shapes and no content.

    Args:
        model: The model as it is trained; it is left as it is.
        input_size: (height, width) in pixels.
    """
    empty = model.fused().to("meta")
    recorder = _Recorder()
    for part in PARTS:
        _mark(empty.get_submodule(part), part, recorder)
    images = torch.empty(1, 3, *input_size, device="meta")
    empty(images)  # what depends on the size alone is made once and kept: no work of later passes
    with recorder:
        final = empty(images).final
        postprocess(final, torch.empty(1, 2, device="meta"), top_k=final.logits.shape[1])
    return recorder.layers


def _mark(module: nn.Module, part: str, recorder: _Recorder) -> None:
    module.register_forward_pre_hook(lambda *_: recorder.enter(part))
    module.register_forward_hook(lambda *_: recorder.enter(_OTHER))
