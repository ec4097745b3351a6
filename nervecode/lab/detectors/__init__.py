"""Baselines by name, from pytorch-ood. Every one scores higher = more OOD.

Hyperparameters are the authors' own; `docs/detectors.md` lists them with their sources.
"""

from nervecode.lab.detectors import distances, head, logits, rerun  # noqa: F401 (fill the registry)
from nervecode.lab.detectors.registry import DETECTORS, Detector, Fit, Score

__all__ = ["DETECTORS", "Detector", "Fit", "Score"]
