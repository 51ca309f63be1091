"""Mixed precision: which type the model runs in on a device."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from dfine_cli.errors import MissingError


@dataclass(frozen=True)
class Precision:
    """Type of the forward pass.

    Args:
        device: Where the model runs.
        dtype: bfloat16, float16, or float32 for no mixed precision.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """Context of the forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Gradient scaler; does nothing unless the type is float16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


def choose_precision(amp: Literal["auto", "off", "bf16", "fp16"], device: torch.device) -> Precision:
    """The type that the recipe asks for; ``auto`` takes bfloat16 on a GPU that computes in it.

    Raises:
        MissingError: The device cannot do what was asked.
    """
    cuda = device.type == "cuda"
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if amp == "auto":
        return Precision(device, torch.bfloat16 if bf16 else torch.float32)
    if amp == "bf16" and cuda and not bf16:
        raise MissingError("this GPU has no bfloat16", "use --set optim.amp=fp16 or optim.amp=auto")
    if amp == "fp16" and not cuda:
        raise MissingError("float16 training needs a GPU", "use --set optim.amp=auto")
    return Precision(device, {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp])
