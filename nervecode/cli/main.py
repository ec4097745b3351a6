"""The application: its commands, its errors, its exit statuses.

Commands import what they need when they run, so that `nervecode --help` loads neither torch nor
anything else that is slow.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import warnings
from importlib import import_module
from inspect import getdoc
from typing import Any, cast

import typer
from typer.core import TyperGroup

from nervecode.cli import several, show
from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.machine.interrupt import SIGNALS, Interrupted, forget, interrupt, listen

# `a-b` is the function `a_b` of the module `a_b`, or its `app` where it has commands of its own.
COMMANDS = (
    "train",
    "calibrate",
    "score",
    "merge",
    "watch",
    "bench",
    "sweep",
    "run-cell",
    "plot",
    "report",
    "export",
    "compare",
    "import-checkpoint",
    "runs",
    "doctor",
    "verify",
    "archive",
    "presets",
    "config",
    "data",
)


class Commands(TyperGroup):
    """The commands. Each is loaded when it is called, and built from its options only then."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update(dict.fromkeys(COMMANDS))  # type: ignore[arg-type]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; None where there is none of that name."""
        if self.commands.get(cmd_name) is None and cmd_name in COMMANDS:
            self.commands[cmd_name] = built(cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, each with the first sentence that it says of itself."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name)) for name in COMMANDS])


def built(name: str) -> Any:
    """A command with its options, as Typer makes it."""
    app = _loaded(name)
    if not isinstance(app, typer.Typer):
        app = typer.Typer(rich_markup_mode=None)
        app.command(name)(_loaded(name))
    app._add_completion = False  # the application has it
    command = typer.main.get_command(app)
    command.name = name
    return command


def _loaded(name: str) -> Any:
    key = name.replace("-", "_")
    module = import_module(f"nervecode.cli.{key}")
    return getattr(module, "app", None) or getattr(module, key)


def _summary(name: str) -> str:
    command = _loaded(name)
    text = str(command.info.help if isinstance(command, typer.Typer) else getdoc(command))
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".") + "."


# Plain help: rich would double the time of `--help`.
app = typer.Typer(
    name="nervecode",
    cls=Commands,
    help="How surprising is an input to a network itself, layer by layer, in bits?",
    epilog="First steps: nervecode bench --preset digits",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from nervecode import __version__

        typer.echo(f"nervecode {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks. May stand anywhere."),
    quiet: bool = typer.Option(
        False, "--quiet", help="Only errors on standard error. May stand anywhere."
    ),
    version: bool = typer.Option(
        False, "--version", help="Show the version.", is_eager=True, callback=_show_version
    ),
) -> None:
    """Options of every command."""


# Click's own class, wherever typer gets its click from: since 0.26 it carries one inside.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


def main() -> None:
    """The entry point of the `nervecode` command."""
    # A daemon has its streams closed, where Python has None; its work is done all the same.
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name is shown, whatever the locale lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        status = run(sys.argv[1:])
        for number in SIGNALS:  # which has nothing left to interrupt
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)
        sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status.

    0 done, 1 failed, 2 bad usage, config or input, 3 accuracy gate not passed, 4 an artifact is
    missing or damaged, 5 an alarm of `watch --fail`, 130 and 143 interrupted.
    """
    debug = "--debug" in arguments
    show.quiet.set("--quiet" in arguments)
    arguments = [_expanded(word) for word in arguments if word not in ("--debug", "--quiet")]
    # A warning is a remark: where in the code it arose says nothing to whoever runs a command.
    warnings.showwarning = lambda message, *_: show.say(f"Warning: {message}")
    listen()
    try:
        status = app(args=arguments, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        error.show()
        return 2
    except NervecodeError as error:
        if debug:
            raise
        several.complain(error, str(error), _hint(error, arguments))
        return error.exit_status
    except (Interrupted, typer.Abort) as stop:
        forget()
        interrupted = stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT)
        several.complain(interrupted, f"interrupted; {_way_on(interrupted, arguments)}")
        return interrupted.exit_status
    except Exception as error:
        if debug:
            raise
        message = f"{type(error).__name__}: {error}\n(unexpected; --debug shows the traceback)"
        several.complain(error, message)
        return 1


def _expanded(argument: str) -> str:
    """An argument whose `~` is the home folder, where quotes or `--option=` hid it from a shell."""
    option, equals, path = argument.partition("=")
    if not (equals and option.startswith("--")):
        return os.path.expanduser(argument)
    return option + equals + os.path.expanduser(path)


def _way_on(stop: Interrupted, arguments: list[str]) -> str:
    """The command that takes up what a signal ended: of a run, or the same once more."""
    if stop.command is not None:
        return f"`{stop.command}` goes on where the run stopped"
    return f"`{shlex.join(['nervecode', *arguments])}` does again what was not finished"


def _hint(error: NervecodeError, arguments: list[str]) -> str:
    """What to do next, where the message itself names no command."""
    if "`" in str(error):
        return ""
    if isinstance(error, InputError):
        command = arguments[0] if arguments and arguments[0].replace("-", "").isalpha() else ""
        return f"nervecode {command} --help".replace("  ", " ")
    if isinstance(error, ArtifactError):
        return "nervecode verify RUN tells which files of the run are whole"
    return "nervecode runs tells how each run stands; --debug shows the traceback"
