"""The stages `plots` and `report`: pictures of a run, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nervecode import __version__
from nervecode.errors import InputError
from nervecode.files import write_text
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.rows import is_withheld, read_rows
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import lasting
from nervecode.lab.run.records import derive, forget
from nervecode.viz import KINDS
from nervecode.viz.report import PAGE, render_report

PLOTS = ("layerwise", "scores", "roc", "matrix", "calibration", "training")


def plots_and_report(run: RunDir, progress: Progress) -> None:
    """Both stages, on a claimed run; without figures, or where they are withheld, no picture.

    Raises:
        ArtifactError: the bench has not come so far, or a file is missing or damaged.
    """
    _make_plots_of_figures(run, progress)
    make_report(run)


def refresh(run: RunDir, progress: Progress) -> Path:
    """Draw what is missing and write the page again, whatever the run has; returns its path.

    Raises:
        ArtifactError: as `plots_and_report`; nothing is written then.
    """
    read_rows(run)
    with run.claimed():
        _make_plots_of_figures(run, progress)
        text = render_report(run.root)  # what fails here leaves the page that is there
        forget(run, [], "report")
        make_report(run, text)
    return run.root / PAGE


@contextmanager
def drawing(root: Path, output: Path | None) -> Iterator[Callable[[Path], None]]:
    """Claim a run within the block, and give what enters a picture or page that was drawn into it.

    Args:
        root: of the run.
        output: where it goes; None is the run itself. What goes elsewhere only reads the run.

    Raises:
        InputError: the output is a file that the run holds, and no picture or page.
    """
    home = root.resolve()
    if output is not None and not output.resolve().is_relative_to(home):
        yield lambda path: None
        return
    run = RunDir(root)
    with run.claimed():
        if output is not None and str(output.resolve().relative_to(home)) in lasting(run.meta):
            raise InputError(f"--output {output}: is a file of the run, which is not replaced")
        yield lambda path: derive(run, root / path.resolve().relative_to(home))


def make_plots(run: RunDir, progress: Progress) -> None:
    """The stage `plots`: the pictures of the first seed."""
    seed = run.meta["seeds"][0]
    learned = run.paths.diagnostics(seed).is_file()
    kinds = [*PLOTS, "codebooks"] if learned else list(PLOTS)

    def work() -> list[Path]:
        drawn = progress.track("plots", kinds, len(kinds))
        return [KINDS[kind](run.root, seed=seed) for kind in drawn]

    tables = run.meta["stages"]["tables"]["outputs"]
    inputs = {"tables": tables, "gate": run.meta["gate"], "kinds": kinds}
    run.stage("plots", None, inputs, work)


def _make_plots_of_figures(run: RunDir, progress: Progress) -> None:
    rows = read_rows(run)["rows"]
    if rows and not is_withheld(rows):
        make_plots(run, progress)


def make_report(run: RunDir, text: str | None = None) -> None:
    """The stage `report`: the page, given or rendered, with the pictures that are there."""

    def work() -> list[Path]:
        write_text(run.root / PAGE, render_report(run.root) if text is None else text)
        return [run.root / PAGE]

    records = run.meta["stages"] | run.meta["derived"]
    before = {key: record["outputs"] for key, record in records.items() if key != "report"}
    inputs = {"stages": before, "status": run.meta["status"], "version": __version__}
    run.stage("report", None, inputs, work)
