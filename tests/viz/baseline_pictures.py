"""The pictures of the baseline: made-up runs, drawn without letters and with few pixels.

python -m tests.viz.baseline_pictures
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from PIL import Image

from nervecode.viz import KINDS, picture

from .conftest import finish_run, write_run

FOLDER = Path(__file__).parent / "baseline"
CASES = [(3, 1), (5, 4), (20, 10)]  # layers, OOD sets
DRAWN = [(kind, *case) for kind in KINDS for case in CASES]
DPI = 45


def made_up_run(folder: Path, layers: int, sets: int) -> Path:
    groups = {f"set_{i}": ("near", "far", "shift")[3 * i // sets] for i in range(sets)}
    return finish_run(write_run(folder / "run", layers=layers, groups=groups))


def bare_picture(kind: str, run: Path) -> np.ndarray:
    """(H, W, 3) of a plot without letters and legends, whose sizes are a font's."""
    kept: list[bytes] = []

    def keep(figure: Figure, path: Path) -> Path:
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(NullFormatter())
                axis.set_minor_formatter(NullFormatter())
        for legend in figure.findobj(Legend):  # its rows are as high as letters
            legend.remove()
        for text in figure.findobj(Text):
            text.set_text("")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        kept.append(buffer.getvalue())
        return path

    with mock.patch.object(picture, "save", keep):
        KINDS[kind](run)
    return load(io.BytesIO(kept[0]))


def load(file: Path | io.BytesIO) -> np.ndarray:
    with Image.open(file) as found:
        return np.asarray(found.convert("RGB"))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for layers, sets in CASES:
        with tempfile.TemporaryDirectory() as folder:
            run = made_up_run(Path(folder), layers, sets)
            for kind in KINDS:
                path = FOLDER / f"{kind}_{layers}_{sets}.png"
                Image.fromarray(bare_picture(kind, run)).save(path, optimize=True)
                sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
