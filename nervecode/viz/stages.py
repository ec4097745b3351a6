"""The stages `plots` and `report`: pictures of a run, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

from nervecode import __version__
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.rows import is_withheld, read_rows
from nervecode.lab.run.directory import RunDir
from nervecode.viz import KINDS
from nervecode.viz.report import PAGE, write_report

PLOTS = ("layerwise", "scores", "roc", "matrix", "calibration", "training")


def plots_and_report(run: RunDir, progress: Progress) -> None:
    """Both stages, on a claimed run; without figures, or where they are withheld, no picture.

    Raises:
        ArtifactError: the bench has not come so far, or a file is missing or damaged.
    """
    rows = read_rows(run)["rows"]
    if rows and not is_withheld(rows):
        make_plots(run, progress)
    make_report(run)


def refresh(run: RunDir, progress: Progress) -> Path:
    """Draw what is missing and write the page again, whatever the run has; returns its path.

    Raises:
        ArtifactError: as `plots_and_report`; nothing is written then.
    """
    read_rows(run)
    with run.claimed():
        run.update(stages={k: v for k, v in run.meta["stages"].items() if k != "report"})
        plots_and_report(run, progress)
    return run.root / PAGE


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


def make_report(run: RunDir) -> None:
    """The stage `report`: the page, with the pictures that are there."""

    def work() -> list[Path]:
        return [write_report(run.root)]

    before = {k: v["outputs"] for k, v in run.meta["stages"].items() if k != "report"}
    inputs = {"stages": before, "status": run.meta["status"], "version": __version__}
    run.stage("report", None, inputs, work)
