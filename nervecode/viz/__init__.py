"""Pictures from saved files: no torch, no model. Kinds load when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from nervecode.errors import MissingExtraError, need_lab

try:
    need_lab("nervecode.viz")
except MissingExtraError as error:
    if sys.argv[0] != "-m":  # what it is while `python -m nervecode.viz.layerwise` begins
        raise
    sys.stderr.write(f"Error: {error}\n")
    sys.exit(error.exit_status)

Draw = Callable[..., Path]


class _Kinds(Mapping[str, Draw]):
    """Kind -> function that draws it, imported when it is asked for."""

    _homes: ClassVar[dict[str, str]] = {
        "layerwise": "nervecode.viz.layerwise",
        "roc": "nervecode.viz.curves",
        "scores": "nervecode.viz.curves",
        "training": "nervecode.viz.curves",
        "calibration": "nervecode.viz.calibration",
        "matrix": "nervecode.viz.matrix",
        "codebooks": "nervecode.viz.codebooks",
        "heat": "nervecode.viz.layerwise",
        "trace": "nervecode.viz.trace",
        "stream": "nervecode.viz.stream",
    }

    def __getitem__(self, kind: str) -> Draw:
        draw: Draw = getattr(import_module(self._homes[kind]), f"plot_{kind}")
        return draw

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


KINDS: Mapping[str, Draw] = _Kinds()
"""Kind -> draw(run, *, seed, ood, output, force) -> the path of the picture."""
