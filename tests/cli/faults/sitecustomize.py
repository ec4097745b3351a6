"""What goes wrong in a rank. Python loads this at the start of every process of a job of the tests.

FAULTS is a folder, in which each process leaves its id; FAULT_RANK names the ranks that something
happens to, FAULT what happens when they begin their second epoch. Trainings are saved every epoch.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any


def happen(fault: str) -> None:
    if fault == "raises":
        raise ValueError("a bad day")
    if fault == "hangs":
        time.sleep(600)
    os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[fault])


def prepare(fault: str, ranks: list[str]) -> None:
    from nervecode.lab.stages import train
    from nervecode.lab.trainer.trainer import Trainer

    train.SAVE_SECONDS = 0.0
    epoch = Trainer.epoch

    def faulty(self: Trainer, number: int, *rest: Any) -> Any:
        if number == 2 and os.environ["RANK"] in ranks:
            happen(fault)
        return epoch(self, number, *rest)

    Trainer.epoch = faulty  # type: ignore[method-assign]


if "FAULTS" in os.environ:
    Path(os.environ["FAULTS"], str(os.getpid())).touch()
if "FAULT" in os.environ and "RANK" in os.environ:
    prepare(os.environ["FAULT"], os.environ["FAULT_RANK"].split())
