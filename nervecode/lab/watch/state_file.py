"""StateFile: the file from which a watch goes on where it stood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nervecode.errors import ArtifactError, InputError
from nervecode.files import read_json, write_json
from nervecode.lab.watch.tail import PIPE, Place
from nervecode.lab.watch.watcher import Watcher

FORMAT = 2
MOST = 1 << 62  # bytes or lines of a file


@dataclass(frozen=True)
class StateFile:
    """The state of one source, in a file that is whole at any moment.

    Attributes:
        path: of the file.
        source: as `Tail` takes it.
    """

    path: Path
    source: str

    def read(self, make: Callable[..., Watcher]) -> tuple[Watcher, Place | None]:
        """The watcher as it stood, and how far its file was read; None for a pipe.

        Args:
            make: a new watcher, `layers` and `by_class` being whether those are watched.

        Raises:
            ArtifactError: the file is damaged.
            InputError: it is of another source, calibration set or promise.
        """
        stored = read_json(self.path)
        if isinstance(stored, dict) and "format" not in stored:
            raise InputError(
                f"{self.path}: has no key 'format', allowed: a file that watch --state wrote, or "
                "none yet"
            )
        try:
            if stored["format"] != FORMAT:
                raise InputError(f"{self.path}: is the state of another version of watch")
            self._check_source(stored["source"])
            place = _place(**stored["place"])
            settings = stored["watcher"]["monitor"]["settings"]
            watcher = make(layers=bool(settings["layers"]), by_class=bool(settings["classes"]))
            self._check_settings(settings, watcher.monitor.settings.plain())
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise ArtifactError(f"{self.path}: is damaged ({error})") from None
        watcher.load_state_dict(stored["watcher"], str(self.path))
        return watcher, None if self.source == PIPE else place

    def write(self, watcher: Watcher, place: Place) -> None:
        """Keep a watcher that has taken what is before the place, and nothing else."""
        held = {
            "format": FORMAT,
            "source": self._identity(),
            "place": asdict(place),
            "watcher": watcher.state_dict(),
        }
        write_json(self.path, held)

    def _identity(self) -> str:
        return PIPE if self.source == PIPE else str(Path(self.source).resolve())

    def _check_source(self, stored: Any) -> None:
        if stored != self._identity():
            raise InputError(
                f"{self.path}: is of {stored}, not of {self._identity()}; "
                "give each source a state of its own"
            )

    def _check_settings(self, stored: Any, ours: dict[str, Any]) -> None:
        """Refuse a state of another calibration set or promise, in the words of the command."""
        for name, option in (("alpha", "--alpha"), ("run_length", "--run-length")):
            if stored[name] is not None and stored[name] != ours[name]:
                raise InputError(
                    f"{self.path}: was begun with {option} {stored[name]:g}; "
                    "give the same, or another --state"
                )
        if stored["n_calibration"] != ours["n_calibration"]:
            raise InputError(
                f"{self.path}: was begun with {stored['n_calibration']} calibration inputs, here "
                f"are {ours['n_calibration']}; give the same calibration set, or another --state"
            )
        if ours["classes"] and not stored["classes"]:
            raise InputError(
                f"{self.path}: was begun without --by-class; leave it out, or give another --state"
            )
        if any(stored[name] != ours[name] for name in ("classes", "layers", "calibration", "ties")):
            raise InputError(
                f"{self.path}: was begun with another calibration set; "
                "give the same --run and --seed, or another --state"
            )


def _place(offset: int, line: int, known: str, columns: list[str] | None) -> Place:
    """A place as a state keeps it.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not all(type(count) is int and 0 <= count < MOST for count in (offset, line)):
        raise ValueError(f"place: offset {offset}, line {line}")
    if len(bytes.fromhex(known)) > offset or (offset > 0) != bool(known):
        raise ValueError(f"place: knows {known!r} before {offset}")
    if columns is None:
        return Place(offset, line, known)
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"place: columns: {columns}")
    return Place(offset, line, known, tuple(columns))
