"""The application: its commands, its errors, its exit statuses.

Commands import what they need when they run, so that `nervecode --help` loads neither torch nor
anything else that is slow.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import cast

import typer

from nervecode.cli import (
    archive,
    bench,
    calibrate,
    compare,
    data,
    plot,
    presets,
    report,
    runs,
    score,
    train,
    verify,
)
from nervecode.errors import NervecodeError

# Plain help: rich would double the time of `--help`.
app = typer.Typer(
    name="nervecode",
    help="How surprising is an input to a network itself, layer by layer, in bits?",
    epilog="First steps: nervecode bench --preset digits",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("score")(score.score)
app.command("bench")(bench.bench)
app.command("plot")(plot.plot)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("runs")(runs.runs)
app.command("verify")(verify.verify)
app.command("archive")(archive.archive)
app.add_typer(presets.app, name="presets")
app.add_typer(data.app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        from nervecode import __version__

        typer.echo(f"nervecode {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks. May stand anywhere."),
    version: bool = typer.Option(
        False, "--version", help="Show the version.", is_eager=True, callback=_show_version
    ),
) -> None:
    """Options of every command."""


# Click's own class, wherever typer gets its click from: since 0.26 it carries one inside.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


class Interrupted(BaseException):
    """SIGINT or SIGTERM. Not a KeyboardInterrupt, to which typer has an answer of its own."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number


def main() -> None:
    """The entry point of the `nervecode` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status.

    0 done, 1 failed, 2 bad usage, config or input, 3 accuracy gate not passed, 4 an artifact is
    missing or damaged, 130 and 143 interrupted.
    """
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
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
        _complain(str(error))
        return error.exit_status
    except (Interrupted, typer.Abort) as stop:
        _complain("interrupted; `nervecode bench RUN` goes on where the run stopped")
        return stop.exit_status if isinstance(stop, Interrupted) else 130
    except Exception as error:
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}\n(unexpected; --debug shows the traceback)")
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _complain(message: str) -> None:
    typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(message, err=True)
