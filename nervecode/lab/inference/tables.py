"""TableInputs: the rows of a table, encoded as the table that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.by_path.table_files import typed_blocks
from nervecode.lab.data.samples import Shape
from nervecode.lab.data.seen import Seen
from nervecode.lab.inference.arrays import MappedInputs
from nervecode.lab.inference.source import SKIPS


class TableInputs(MappedInputs):
    """The rows of a `.csv`, `.tsv` or `.parquet` file, whose columns are found by their names.

    They are read once, and wait encoded in a file without a name.
    """

    def __init__(
        self, path: Path, shape: Shape, encoder: TableEncoder | None, *, skip_bad: bool = False
    ) -> None:
        if encoder is None:
            raise InputError(f"{path}: is a table, allowed: inputs of the kind of the ID set")
        self._rows = TemporaryFile()  # noqa: SIM115 - it is read as long as this lives
        self._encoder = encoder
        seen, bad, start = Seen(), BadRows(skip_bad, SKIPS), 0
        for block in typed_blocks(path, encoder.names, encoder.numbers, bad):
            right = [start + row not in bad.reasons for row in range(len(block))]
            rows = np.full((len(block), encoder.width), np.nan, np.float32)
            rows[right] = encoder.encode(block[right], seen).numpy()
            self._rows.write(rows.tobytes())
            start += len(block)
        self._rows.flush()
        if not self._rows.tell():
            raise InputError(f"{path}: holds no row below the names of its columns")
        super().__init__(path, shape, skip_bad=skip_bad, bad=bad.reasons)
        self.remarks = tuple(seen.remarks(str(path)))

    def _map(self) -> np.ndarray:
        return np.memmap(self._rows, np.float32, "r").reshape(-1, self._encoder.width)

    def not_finite(self, row: int, entry: int, value: float) -> str:
        """The column of the table that the number stands for."""
        return f"{self.path}: row {row}, {self._encoder.beyond(entry)}"
