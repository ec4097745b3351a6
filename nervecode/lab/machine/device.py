"""The device that a config names."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of autocast in training; `auto` takes bfloat16 where the device multiplies it.

    A CPU without such an instruction would emulate it, slower than float32.
    """
    if precision == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older releases of PyTorch do not tell.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def tensor_cores(device: torch.device) -> Iterator[None]:
    """Within it, CUDA multiplies float32 matrices as TF32; scores are never made that way."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seed_everything(seed: int) -> None:
    """One seed for Python, NumPy, and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_determinism(device: torch.device, *, wanted: bool) -> str:
    """Choose PyTorch's algorithms for this process; returns what now holds, in words.

    Call it before anything runs on CUDA: cuBLAS reads its setting once.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted
    if wanted:
        return "bit-identical on this machine: deterministic algorithms only"
    if device.type == "cpu":
        return "bit-identical on this machine with as many threads"
    return "alike to rounding: CUDA may add in another order"
