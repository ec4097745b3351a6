"""Cells: what a sweep runs, one resolved config and one seed each, kept in `sweep.json`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nervecode.errors import ArtifactError, InputError, did_you_mean
from nervecode.files import read_json, write_json
from nervecode.lab.config.resolve import Resolved
from nervecode.lab.config.stored import config_hash, dotted
from nervecode.lab.config.yaml import parse_value
from nervecode.lab.run.commands import command
from nervecode.lab.run.lock import Lock
from nervecode.lab.schema import Config, Section
from nervecode.lab.schema.validation import first_problem

FILE = "sweep.json"
MAX_CELLS = 100_000

Settings = dict[str, Any]


class Cell(Section):
    """One config with one seed.

    Attributes:
        id: first twelve digits of `config_hash(config, seed)`.
        settings: what the grid set, dotted key -> value.
        config: resolved; its seeds are that one.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    settings: Settings
    config: Config

    @classmethod
    def of(cls, config: Config, seed: int, settings: Mapping[str, Any]) -> Cell:
        """The cell of one seed of a config."""
        alone = config.model_copy(update={"seeds": (seed,)})
        return cls(id=config_hash(alone, seed)[:12], settings=dict(settings), config=alone)

    @property
    def seed(self) -> int:
        """The one seed."""
        return self.config.seeds[0]

    @property
    def label(self) -> str:
        """Its name and what the grid set, the same for all seeds."""
        return " ".join([self.config.name, *(f"{k}={v}" for k, v in self.settings.items())])

    def root(self, folder: Path) -> Path:
        """Its run directory."""
        return folder / f"{self.config.name}-{self.id}"

    def differing(self, config: Config) -> list[str]:
        """The settings in which a run is not of this cell, dotted; a run of more seeds is."""
        if self.seed in config.seeds and config_hash(config, self.seed)[:12] == self.id:
            return []
        own, others = (dotted(one.model_dump(mode="json")) for one in (self.config, config))
        keys = dict.fromkeys((*own, *others))
        return [key for key in keys if own.get(key, ...) != others.get(key, ...)]


class _File(Section):
    format: Literal["nervecode-sweep-1"] = "nervecode-sweep-1"
    cells: list[Cell]


@dataclass(frozen=True)
class Sweep:
    """A folder, and the cells that are run in it, in order."""

    folder: Path
    cells: tuple[Cell, ...]

    def cell(self, name: str) -> Cell:
        """A cell by its id, or by the first digits of it.

        Raises:
            InputError: none has it, or several do.
        """
        matches = [cell for cell in self.cells if name and cell.id.startswith(name)]
        if len(matches) != 1:
            hint = did_you_mean(name, [cell.id for cell in matches or self.cells][:20])
            raise InputError(f"{self.folder}: found {len(matches)} cells {name!r}; {hint}")
        return matches[0]

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Start cells within the block; one process at a time.

        Raises:
            NervecodeError: another process does so, on this machine or another.
        """
        with Lock(self.folder / ".lock").held("runs this sweep"):
            yield


def read_sweep(folder: Path) -> Sweep:
    """The sweep in a folder.

    Raises:
        InputError: there is none.
        ArtifactError: its file is damaged, or a cell is not what its id says.
    """
    path = folder / FILE
    if not path.is_file():
        making = command("sweep", "CONFIG", "--outdir", folder)
        raise InputError(f"{path}: no such file; `{making}` makes it")
    try:
        cells = tuple(_File.model_validate(read_json(path)).cells)
    except ValidationError as error:
        raise ArtifactError(f"{path}: is damaged ({first_problem(error)})") from None
    for cell in cells:
        if Cell.of(cell.config, cell.seed, cell.settings).id != cell.id:
            raise ArtifactError(f"{path}: is damaged (cell {cell.id} has another config)")
    return Sweep(folder, cells)


def add_cells(folder: Path, cells: Sequence[Cell]) -> Sweep:
    """A sweep of some cells in a folder, whose file keeps those that it has already.

    Raises:
        InputError: the folder cannot be made.
        ArtifactError: its file is damaged.
    """
    there = read_sweep(folder).cells if (folder / FILE).exists() else ()
    together = {cell.id: cell for cell in (*there, *cells)}
    if len(together) > len(there):
        _write(folder, list(together.values()))
    return Sweep(folder, tuple(cells))


def write_sweep(folder: Path, cells: Sequence[Cell]) -> Sweep:
    """Begin a sweep in a folder, or go on with the one that is there.

    Raises:
        InputError: the folder holds another sweep, or cannot be made.
    """
    if (folder / FILE).exists():
        there = read_sweep(folder)
        old, new = ({cell.id: cell for cell in some} for some in (there.cells, cells))
        if old.keys() != new.keys():
            told = [_difference("only there", old, new), _difference("only here", new, old)]
            raise InputError(
                f"{folder}: holds another sweep ({'; '.join(filter(None, told))}); give another "
                f"--outdir, or no config to go on with the one that is there"
            )
        return there
    _write(folder, cells)
    return Sweep(folder, tuple(cells))


def _write(folder: Path, cells: Sequence[Cell]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
    write_json(folder / FILE, _File(cells=list(cells)).model_dump(mode="json"))


def grid_of(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`key=a,b,c` texts as key -> values, which are YAML.

    Raises:
        InputError: no key, no value, or a key that is given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not all(key.split(".")) or not values.strip():
            raise InputError(f"--grid {text}: allowed: key=value,value,…")
        if key in grid:
            raise InputError(f"--grid: {key} is given twice")
        grid[key] = parse_value(f"[{values}]", f"--grid {key}")
    return grid


def expand(
    configs: Iterable[Callable[[Mapping[str, Any]], Resolved]], grid: Mapping[str, Sequence[Any]]
) -> tuple[list[Cell], int]:
    """Every config with every combination of the grid and every seed; all are validated first.

    Args:
        configs: each resolves one config with further settings.
        grid: dotted key -> values.

    Returns:
        The cells, each once, and how many were left out because they were there already.

    Raises:
        InputError: a config has a problem, or there are too many cells.
    """
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    cells: dict[str, Cell] = {}
    count = 0
    for resolve in configs:
        for settings in combinations:
            config = resolve(settings).config
            for seed in config.seeds:
                cell = Cell.of(config, seed, settings)
                cells.setdefault(cell.id, cell)
                count += 1
                if count > MAX_CELLS:
                    raise InputError(f"sweep: found over {MAX_CELLS:,} cells, allowed: so many")
    return list(cells.values()), count - len(cells)


def _difference(where: str, cells: Mapping[str, Cell], other: Mapping[str, Cell]) -> str:
    missing = [f"{cell.label} seed {cell.seed}" for key, cell in cells.items() if key not in other]
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"{where}: {', '.join(missing[:3])}{more}" if missing else ""
