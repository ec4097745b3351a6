"""The device that a config names."""

from __future__ import annotations

import torch

from nervecode.errors import InputError, did_you_mean

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        InputError: another name, or `cuda` where there is none.
    """
    if name not in DEVICES:
        raise InputError(f"device: unknown {name!r}; {did_you_mean(name, DEVICES)}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device: found 'cuda', but PyTorch sees no GPU; allowed here: auto, cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
