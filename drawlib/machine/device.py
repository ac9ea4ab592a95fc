"""Which device a name stands for, in one place."""

from __future__ import annotations

import torch

__all__ = ["is_full", "pick_device"]


def pick_device(name: str | torch.device) -> torch.device:
    """``auto`` is a CUDA device where there is one, else the CPU.

    Anything else is taken as it stands: ``mps``, Apple's, too. Nobody has run the
    library there, so it must be asked for by name.

    Raises:
        ValueError: for a name that is no device, or one that this machine lacks.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta", which holds nothing, gives none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device is {name!r}; allowed: auto, cpu, or a GPU of this machine"
        ) from error
    return device


def is_full(error: BaseException) -> bool:
    """Whether an error says that memory, this machine's or a GPU's, did not suffice.

    Example:
        >>> is_full(MemoryError()), is_full(RuntimeError("sizes differ"))
        (True, False)
    """
    said = str(error)
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in said or "not enough memory" in said)
    )
