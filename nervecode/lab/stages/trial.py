"""Trial: one seed of a run, and what every stage needs to work on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nervecode.lab.data.splits import Splits
from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import Config


@dataclass(frozen=True)
class Trial:
    """One seed of a run, with the data of its config in memory.

    Attributes:
        run: whose files the stage reads and writes.
        splits: ID train, calibration and test, and the OOD sets.
        seed: one of the run's.
        device: where the model is.
        progress: told what is done.
    """

    run: RunDir
    splits: Splits
    seed: int
    device: torch.device
    progress: Progress

    @property
    def config(self) -> Config:
        """The run's config."""
        return self.run.config
