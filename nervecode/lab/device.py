"""The device that a config names."""

from __future__ import annotations

import torch

from nervecode.errors import InputError


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        InputError: `cuda` where there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device: found 'cuda', but PyTorch sees no GPU; allowed here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
