"""Files of ``torch.save``: reading them, of whatever origin, without running code that is in them, and writing them."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dfine_cli.errors import CheckError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

_ZIP: Final = b"PK"
_PICKLE: Final = b"\x80"
_OF_TORCH: Final = b"\x80\x02"
"""The protocol of pickle that ``torch.save`` writes."""
_WHAT_TO_USE: Final = "use a file written by `dfine train`, or published weights"
_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""How PyTorch names the object that a pickle asks for."""
_NOT_WEIGHTS: Final = {  # first bytes: what the file is, and what to do about it
    b"<": ("a web page, not weights", "download it again; the network may ask for a login first"),
    b"version https://git-lfs": ("a pointer to a large file, not the file", "fetch it with `git lfs pull`"),
}


def load_plain(path: Path) -> object:
    """The tensors and plain values in a file, on the CPU.

    Args:
        path: A file of ``torch.save``, in its present or its older form.

    Raises:
        UsageError: There is no such file.
        CheckError: It is empty, cut off, something else, or asks for code to be run.
    """
    import torch

    if not path.is_file():
        raise UsageError(f"{path}: no such file", "give a run folder or a file like weights/best.pt")
    _refuse_other_kinds(path)
    try:
        with warnings.catch_warnings():  # of another protocol, which is an error below where it matters
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise CheckError(
                f"{path}: it holds a pickle with instructions that torch.save does not use, and is not read, as "
                "they could run code",
                "save it anew without pickle_protocol, or as .safetensors",
            ) from error
        found = _GLOBAL.search(str(error))
        if found is None:
            raise _cut_off(path) from error
        raise CheckError(
            f"{path}: it holds more than tensors and plain values ({found[1]}), and is not read, as that could "
            "run code",
            "ask its maker for a file of tensors alone, such as .safetensors",
        ) from error
    except EOFError as error:
        raise _cut_off(path) from error
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "unexpected EOF" in reason:  # what the older form of file says
            raise _cut_off(path) from error
        if "magic number" in reason:
            raise CheckError(f"{path}: not a checkpoint", _WHAT_TO_USE) from error
        raise CheckError(f"{path}: cannot be read: {reason}", "use another copy") from error


def save_plain(content: object, path: Path) -> None:
    """Write tensors and plain values, down to the disk.

    Args:
        content: What ``load_plain`` is to give back.
        path: The file; one that is there is overwritten.

    Raises:
        OSError: The disk takes no more, or the file cannot be opened.
    """
    import torch

    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # Its writer goes on after an error of the disk, and tells of what follows from it.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds a NaN or infinity; None where all are numbers.

    Args:
        state: A state dict, on one device, which is waited for once.
    """
    import torch

    # Infinity is right in anchors: it marks those that are not usable.
    floating = {k: v for k, v in state.items() if v.is_floating_point() and not k.endswith("anchors")}
    if not floating:
        return None
    finite = torch.stack([values.isfinite().all() for values in floating.values()]).tolist()
    return next((name for name, is_finite in zip(floating, finite, strict=True) if not is_finite), None)


def require_finite(state: Mapping[str, Tensor], file: object) -> None:
    """Refuse weights that are no numbers, which a run that diverged leaves.

    Args:
        state: The weights.
        file: Where they are from.

    Raises:
        CheckError: A value is not finite; the message names its tensor.
    """
    if name := first_not_finite(state):
        raise CheckError(
            f"{file}: the weights are damaged: not all values of {name} are finite numbers",
            "the training diverged or the file was changed: use another checkpoint",
        )


def _refuse_other_kinds(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(_ZIP):
        if not zipfile.is_zipfile(path):  # the directory of the archive is at its end
            raise _cut_off(path)
        return
    for first, (what, hint) in _NOT_WEIGHTS.items():
        if start.lstrip().startswith(first):
            raise CheckError(f"{path}: {what}", hint)
    if not start.startswith(_PICKLE):
        raise CheckError(f"{path}: not a checkpoint" + ("" if start else ": the file is empty"), _WHAT_TO_USE)
    if not start.startswith(_OF_TORCH):
        raise CheckError(
            f"{path}: a pickle that torch.save did not write; it is not read, as that could run code",
            _WHAT_TO_USE,
        )


def _cut_off(path: Path) -> CheckError:
    return CheckError(f"{path}: the file is cut off", "copy or download it again")
