"""pytorch-ood, where the detectors are."""

from __future__ import annotations

import logging
from typing import Any


def library() -> Any:
    """pytorch-ood's detectors; imported late, since most commands need no baseline."""
    from pytorch_ood import detector

    # It warns where it chooses a device, and where ViM's subspace is as small as it is told to be.
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    return detector
