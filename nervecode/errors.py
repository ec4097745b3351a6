"""The errors that users meet. Each class carries the exit status of the command line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from operator import index

MOST = 50  # names that an error lists


class NervecodeError(Exception):
    """Something went wrong that the user can understand and act on (exit status 1)."""

    exit_status = 1


class InputError(NervecodeError, ValueError):
    """A bad argument, config, file or tensor (exit status 2)."""

    exit_status = 2


class GateError(NervecodeError):
    """The accuracy gate was not passed; tables are withheld (exit status 3)."""

    exit_status = 3


class ArtifactError(NervecodeError):
    """A file of a run is missing or damaged (exit status 4)."""

    exit_status = 4


class NotReadyError(NervecodeError, RuntimeError, AttributeError):
    """A value was asked for before the call that makes it (forward, fit, calibrate).

    An AttributeError too, so that looking for a property that is not ready yet finds none.
    """


class MissingExtraError(NervecodeError, ImportError):
    """An optional dependency is not installed; the message says what to install (exit status 2)."""

    exit_status = 2


# What the extra `lab` brings, as it is imported.
LAB = (
    "PIL", "jinja2", "matplotlib", "pydantic", "pytorch_ood", "rich", "scipy", "sklearn",
    "torchvision", "typer", "yaml",
)  # fmt: skip


def need_lab(what: str) -> None:
    """Refuse to go on where a package of the laboratory is missing, as `need_extra` does."""
    for package in LAB:
        need_extra(what, package, "lab")


def need_extra(what: str, package: str, extra: str) -> None:
    """Refuse to go on without a package that an extra brings; it is not imported here.

    Args:
        what: needs it, in the words of the user.
        package: as it is imported.
        extra: of this package, which installs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        absent = find_spec(package) is None
    except ImportError:  # a finder may refuse a name
        absent = True
    if absent:
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed; "
            f"pip install -e '.[{extra}]' in the checkout"
        )


def check_count(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or one below `least`; `name` is the argument's."""
    try:
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise InputError(f"{name}: found {value!r}, allowed: a whole number, at least {least}")
    if number < least:
        raise InputError(f"{name}: found {number}, allowed: at least {least}")


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither True nor False, as the text "false"; `name` is the argument's."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: found {value!r}, allowed: True or False")


def brief(error: BaseException, limit: int = 200) -> str:
    """The kind and the first line of an error of other people's code, cut where that is long.

    >>> brief(KeyError("a"))
    "KeyError: 'a'"
    """
    line = f"{type(error).__name__}: {error}".partition("\n")[0]
    return line if len(line) <= limit else f"{line[:limit]}…"


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message that says something; its kind where none does.

    >>> first_line(ValueError("\n  no such key\nTraceback"))
    'no such key'
    >>> first_line(ValueError())
    'ValueError'
    """
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def one_line(error: BaseException) -> str:
    r"""The whole message of an error in one line; its kind where it has none.

    >>> one_line(ValueError("no such\n  key"))
    'no such key'
    """
    return " ".join(str(error).split()) or type(error).__name__


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is most like one, capitals aside before all; None where none is."""
    names = sorted(allowed)
    alike = [other for other in names if other.casefold() == str(name).casefold()]
    return next(iter(alike or get_close_matches(str(name), names, n=1, cutoff=0.51)), None)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest match, then what is allowed.

    Of more than `MOST` names, such as the modules of a large network, those most like it.

    >>> did_you_mean("digit", ["digits", "toy"])
    "did you mean 'digits'? Allowed: digits, toy"
    """
    names = sorted(allowed)
    near = nearest(name, names)
    hint = f"did you mean '{near}'? " if near else ""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    if more:  # such as every module of a network: the most alike
        names = sorted(get_close_matches(str(name), names, n=MOST, cutoff=0.0))
    return f"{hint}Allowed: {', '.join(names) or '(none)'}{more}"
