"""Baselines by name, from pytorch-ood. Every one scores higher = more OOD.

`docs/detectors.md` lists their hyperparameters, with the source of each.
"""

from nervecode.lab.detectors import distances, head, logits, rerun  # noqa: F401 (fill the registry)
from nervecode.lab.detectors.registry import DETECTORS, Detector, Fit, Score

__all__ = ["DETECTORS", "Detector", "Fit", "Score"]
