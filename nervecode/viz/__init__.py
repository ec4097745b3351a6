"""Pictures from saved files: no torch, no model. Kinds load when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from nervecode.errors import MissingExtraError, need_lab

try:
    need_lab("nervecode.viz")
except MissingExtraError as error:
    if sys.argv[0] != "-m":  # what it is while `python -m nervecode.viz.layerwise` begins
        raise
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_status)

from nervecode.lab.registry import Function  # which itself would refuse first, by its name

_MODULES = {
    "layerwise": "layerwise",
    "roc": "curves",
    "scores": "curves",
    "training": "curves",
    "calibration": "calibration",
    "matrix": "matrix",
    "codebooks": "codebooks",
    "heat": "layerwise",
    "trace": "trace",
    "stream": "stream",
}
KINDS: Mapping[str, Callable[..., Path]] = {
    kind: Function(f"nervecode.viz.{module}", f"plot_{kind}") for kind, module in _MODULES.items()
}
"""Kind -> draw(run, *, seed, ood, output, force) -> the path of the picture."""
