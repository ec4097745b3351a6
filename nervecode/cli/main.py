"""The application: its commands, its errors, its exit statuses.

Commands import what they need when they run, so that `nervecode --help` loads neither torch nor
anything else that is slow.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click
import typer

from nervecode.cli import bench, calibrate, plot, presets, runs, score, train
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
app.command("runs")(runs.runs)
app.add_typer(presets.app, name="presets")


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks. May stand anywhere."),
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True),
) -> None:
    """Options of every command."""
    if version:
        from nervecode import __version__

        typer.echo(f"nervecode {__version__}")
        raise typer.Exit


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C but for its exit status."""


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
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(args=arguments, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except NervecodeError as error:
        if debug:
            raise
        _complain(str(error))
        return error.exit_status
    except (KeyboardInterrupt, click.Abort) as stop:
        _complain("interrupted; the same command goes on where it stopped")
        return 143 if isinstance(stop, Terminated) else 130
    except Exception as error:
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}\n(unexpected; --debug shows the traceback)")
        return 1


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _complain(message: str) -> None:
    typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(message, err=True)
