"""Place: which of several processes this one is, as its environment says. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nervecode.errors import InputError

TIMEOUT = "NERVECODE_TIMEOUT"
RENDEZVOUS_TIMEOUT = "NERVECODE_RENDEZVOUS_TIMEOUT"
DEFAULTS = {TIMEOUT: 20.0, RENDEZVOUS_TIMEOUT: 300.0}  # seconds
# SLURM_NTASKS would not do: it is there in a batch script too, which is one process.
NAMES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def place_in(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """(rank, world) of this process, as torchrun or srun say; None outside of a job of several.

    Raises:
        InputError: numbers that make no sense.
    """
    for names in NAMES:
        if names[1] not in environ:
            continue
        found = [environ.get(name, "") for name in names]
        if not all(text.isdigit() for text in found) or int(found[0]) >= int(found[1]):
            told = ", ".join(f"{n}={text!r}" for n, text in zip(names, found, strict=True))
            raise InputError(f"environment: found {told}; allowed: a rank below the world size")
        return None if int(found[1]) == 1 else (int(found[0]), int(found[1]))
    return None


def meeting_point(environ: Mapping[str, str]) -> dict[str, str]:
    """What torchrun sets of a job; where srun began it, from what srun sets.

    Raises:
        InputError: it is not said where the ranks are to meet.
    """
    names = ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
    found = {name: environ[name] for name in names if name in environ}
    if "RANK" not in environ and "SLURM_PROCID" in environ:
        number = int(environ.get("SLURM_JOB_ID", "0")) + int(environ.get("SLURM_STEP_ID", "0"))
        told = {"MASTER_PORT": str(20000 + number % 20000)}
        for name, source in (("MASTER_ADDR", "LAUNCH_NODE_IPADDR"), ("LOCAL_RANK", "LOCALID")):
            if f"SLURM_{source}" in environ:
                told[name] = environ[f"SLURM_{source}"]
        found = told | found
    for name in names[:2]:
        if name not in found:
            raise InputError(f"environment: {name} is not set; torchrun and srun do so")
    return {"LOCAL_RANK": "0"} | found


def seconds(name: str) -> float:
    """A time-out, from the environment or by default.

    Raises:
        InputError: not a number above 0.
    """
    text = os.environ.get(name, "")
    try:
        found = float(text) if text else DEFAULTS[name]
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InputError(f"{name}: found {text!r}, allowed: seconds, a number above 0")
    return found
