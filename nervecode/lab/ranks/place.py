"""Place: which of several processes this one is, as its environment says. Needs no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from nervecode.errors import InputError

TIMEOUT = "NERVECODE_TIMEOUT"
RENDEZVOUS_TIMEOUT = "NERVECODE_RENDEZVOUS_TIMEOUT"
DEFAULTS = {TIMEOUT: 20.0, RENDEZVOUS_TIMEOUT: 300.0}  # seconds
TORCHRUN = ("RANK", "WORLD_SIZE")
# SLURM_NTASKS would not do: it is there in a batch script too, which is one process.
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
LAUNCHED = "NERVECODE_LAUNCHED"
"""In the environment of the processes that `launch` starts: it tells the user of their errors."""


def place_in(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """(rank, world) of this process, as torchrun or srun say; None outside of a job of several.

    Raises:
        InputError: numbers that make no sense.
    """
    for names in (TORCHRUN, SRUN):
        if names[1] not in environ:
            continue
        texts = [environ.get(name, "") for name in names]
        if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
            told = ", ".join(f"{n}={text!r}" for n, text in zip(names, texts, strict=True))
            raise InputError(f"environment: found {told}; allowed: a rank below the world size")
        return None if int(texts[1]) == 1 else (int(texts[0]), int(texts[1]))
    return None


def meeting_point(environ: Mapping[str, str]) -> dict[str, str]:
    """What torchrun sets of a job; where srun began it, from what srun sets.

    Raises:
        InputError: it is not said where the ranks are to meet.
    """
    names = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
    settings = {name: environ[name] for name in names if name in environ}
    if "RANK" not in environ and "SLURM_PROCID" in environ:
        number = int(environ.get("SLURM_JOB_ID", "0")) + int(environ.get("SLURM_STEP_ID", "0"))
        told = {"MASTER_PORT": str(20000 + number % 20000)}
        if "SLURM_LOCALID" in environ:
            told["LOCAL_RANK"] = environ["SLURM_LOCALID"]
        if host := _first_host(environ.get("SLURM_STEP_NODELIST", "")):
            told["MASTER_ADDR"] = host
        settings = told | settings
    for name in names[:2]:
        if name not in settings:
            raise InputError(f"environment: {name} is not set; torchrun and srun do so")
    return {"LOCAL_RANK": "0"} | settings


def _first_host(nodes: str) -> str:
    """The machine of rank 0, which is the first: `n07` of `n[07-12,20],login1`."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).partition(",")[0]


def seconds(name: str) -> float:
    """A time-out, from the environment or by default.

    Raises:
        InputError: not a number above 0.
    """
    text = os.environ.get(name, "")
    try:
        limit = float(text) if text else DEFAULTS[name]
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{name}: found {text!r}, allowed: seconds, a number above 0")
    return limit
