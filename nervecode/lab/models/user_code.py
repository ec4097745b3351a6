"""User code: `python:MODULE:FUNCTION`, run only where the user said so, never out of a run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nervecode.errors import ArtifactError, InputError, brief, did_you_mean
from nervecode.files import sha256

PREFIX = "python"
SYNTAX = f"{PREFIX}:MODULE:FUNCTION"
RUN_FILES = ("meta.json", "config.yaml")  # what makes a folder a run

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


class CodeFile(NamedTuple):
    """The file of a module, and the SHA-256 of its bytes."""

    file: Path
    sha256: str

    def record(self) -> dict[str, str]:
        """What a run keeps of it."""
        return {"file": self.file.name, "sha256": self.sha256}


@contextmanager
def trusting() -> Iterator[None]:
    """Within the block, code that a config names may run."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether code that a config names may run."""
    return _trusted.get()


def is_user_code(name: str) -> bool:
    """Whether a model's name stands for code of the user."""
    return name.partition(":")[0] == PREFIX


def fault(name: str) -> str | None:
    """What is wrong with the form of `python:MODULE:FUNCTION`; None where nothing is."""
    _, module, function = (*name.split(":"), "", "")[:3]
    plain = all(part.isidentifier() for part in [*module.split("."), function])
    return None if plain and name.count(":") == 2 else f"found {name!r}, allowed: {SYNTAX}"


def find_source(name: str) -> CodeFile | None:
    """The file behind a name, without running any of it; None where no user code is named.

    What the module imports in turn is not hashed.

    Raises:
        InputError: no such module, one without a file, or one that lies in a run.
    """
    if not is_user_code(name):
        return None
    if wrong := fault(name):
        raise InputError(f"model.name: {wrong}")
    module = name.split(":")[1]
    places = _places()
    spec = module_spec(module, places)
    if spec is None:
        near = sorted({path.stem for place in places[-1:] for path in Path(place).glob("*.py")})
        raise InputError(
            f"model.name: no module {module!r} on Python's path or in {Path.cwd()}; "
            + (did_you_mean(module, near) if near else "allowed: MODULE.py there or on that path")
        )
    if not spec.has_location or spec.origin is None:
        raise InputError(f"model.name: {module!r} has no file; allowed: a module of your own")
    file = Path(spec.origin)
    for path in (file.absolute(), file.resolve()):
        if any(_is_run(parent) for parent in path.parents):
            raise InputError(
                f"model.name: {file} lies in a run, whose files are never run; allowed: a module "
                "outside of it"
            )
    return CodeFile(file, sha256(file))


def check_unchanged(name: str, recorded: Mapping[str, str] | None) -> None:
    """Refuse code that is not what a run was trained with.

    Args:
        name: the model's.
        recorded: what the run kept of its source; None where it kept nothing.

    Raises:
        ArtifactError: the file has other bytes now.
        InputError: as `find_source`.
    """
    source = find_source(name)
    if source and recorded and source.sha256 != recorded["sha256"]:
        raise ArtifactError(
            f"{source.file}: has changed since the run was trained with it (SHA-256 "
            f"{source.sha256[:12]}…, then {recorded['sha256'][:12]}…); put it back, or begin a new "
            "run"
        )


def load(name: str) -> Callable[..., Any]:
    """The function that a name stands for; its module is imported.

    Raises:
        InputError: not trusted, no such module or function, or a module that does not import.
    """
    source = find_source(name)
    assert source is not None
    if not is_trusted():
        raise InputError(
            f"model.name: {name!r} runs code of {source.file}; if you know what it does, allow it "
            "with --trust-code"
        )
    _, module_name, function = name.split(":")
    module = _imported(module_name, source.file)
    factory = getattr(module, function, None)
    if not callable(factory):
        near = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise InputError(
            f"model.name: {source.file} has no function {function!r}; "
            f"{did_you_mean(function, near)}"
        )
    called: Callable[..., Any] = factory
    return called


def module_spec(module: str, places: list[str]) -> ModuleSpec | None:
    """Where a module is. `importlib.util.find_spec` would import the packages above it."""
    path: list[str] | None = places
    spec = None
    for part in module.split("."):  # by its last name: a namespace would ask for its parent
        spec = PathFinder.find_spec(part, path) if path else None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _imported(name: str, file: Path) -> ModuleType:
    for place in _places():
        if place not in sys.path:
            sys.path.append(place)  # last, so that no file of it stands in for a package
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"model.name: {file} does not import ({brief(error)})") from error


def _places() -> list[str]:
    """Python's path, and behind it the working directory, unless that belongs to a run."""
    here = Path.cwd()
    inside = any(map(_is_run, (here, *here.parents)))
    return [*sys.path, *([] if inside else [str(here)])]


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUN_FILES)
