#!/usr/bin/env python
"""The benchmark matrix: run what is not done, print the ranking, write docs/results.md.

    python scripts/study.py                        # everything; resumes where it stands
    python scripts/study.py --only digits wine_1   # some settings
    python scripts/study.py --runs runs            # begin with equal trainings that lie there
    python scripts/study.py --jobs 4               # so many cells at a time, one by default
    python scripts/study.py --report-only          # the page from what is finished
    python scripts/study.py --plan configs/study/openood.yaml --page openood.md

A setting that fails does not stop the others; it is named with its reason, and the status is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nervecode.cli.show import progress, say
from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.files import write_text
from nervecode.lab.results.table import as_markdown
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.plan import Plan, cells_of, read_plan
from nervecode.lab.study.published import published_page
from nervecode.lab.study.results import headline, page
from nervecode.lab.study.study import Study, attempt, finished, run_cells_of
from nervecode.lab.sweep.cells import Cell
from nervecode.lab.sweep.launchers import LAUNCHERS
from nervecode.lab.sweep.run import require_data
from nervecode.viz.critical_difference import plot_critical_difference

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results.md"
COMMAND = "python scripts/study.py"


def chosen(plans: Sequence[Plan], only: list[str] | None) -> list[str]:
    """The settings to run, each known."""
    known = [name for plan in plans for name in plan.settings]
    for name in only or ():
        if name not in known:
            raise InputError(f"--only: unknown setting {name!r}; {did_you_mean(name, known)}")
    return only or known


def run(plans: Sequence[Plan], names: list[str], given: argparse.Namespace) -> dict[str, str]:
    """Run the cells of some settings; setting -> why it could not even begin."""
    ready: list[Cell] = []
    failed: dict[str, str] = {}
    for plan in plans:

        def prepare(name: str, plan: Plan = plan) -> None:
            cells = cells_of(plan, name)
            require_data(cells)
            ready.extend(cells)

        failed |= attempt([name for name in names if name in plan.settings], prepare)[1]
    for name, why in failed.items():
        say(f"Setting {name} failed: {why}")
    with progress() as shown:
        run_cells_of(ready, given.outdir, command=COMMAND, progress=shown, folders=given.runs,
                     launcher=LAUNCHERS[given.launcher], jobs=given.jobs)  # fmt: skip
    return failed


def study(plan: Plan, given: argparse.Namespace) -> tuple[Study, dict[str, str]]:
    """All settings of a plan that are finished, and why the others are not."""
    done, absent = attempt(
        plan.settings, lambda name: finished(plan, name, given.outdir, command=COMMAND)
    )
    return Study(list(done.values())), absent


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, default=ROOT / "configs/study/matrix.yaml")
    parser.add_argument("--ablations", type=Path, default=ROOT / "configs/study/ablations.yaml")
    parser.add_argument("--outdir", type=Path, default=Path("runs/study"))
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--only", nargs="+", metavar="SETTING")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def main() -> int:
    given = parse()
    plan = read_plan(given.plan)
    if plan.published:
        return beside_published(plan, given)
    plans = [plan, read_plan(given.ablations)]
    if given.seeds:
        plans = [plan.model_copy(update={"seeds": tuple(given.seeds)}) for plan in plans]
    names = chosen(plans, given.only)
    failed = {} if given.report_only else run(plans, names, given)
    (matrix, lost), (side, side_lost) = (study(plan, given) for plan in plans)
    # Reasons may name files; a page is not the place for the folders of a machine.
    failed = {
        name: why.replace(f"{given.outdir}/", "").replace(str(Path.home()), "~")
        for name, why in {**lost, **side_lost, **failed}.items()
    }
    if len(matrix.near) < 2:
        raise ArtifactError(f"{given.outdir}: fewer than two settings are finished: {failed}")
    draw(matrix, given.page.parent / "images" / "critical_difference.png")
    text = page(plans[0], matrix, side, failed)
    write_text(given.page, text)
    if given.page == PAGE:
        fill(ROOT / "README.md", as_markdown(headline(matrix)))
    sys.stdout.write(text)
    say(f"Page: {given.page}")
    return 1 if failed else 0


def beside_published(plan: Plan, given: argparse.Namespace) -> int:
    """Run a plan whose settings others have figures for, and write a page of both."""
    if given.page == PAGE:
        raise InputError(f"--page: found none, allowed: a page of its own for {given.plan}")
    if given.seeds:
        plan = plan.model_copy(update={"seeds": tuple(given.seeds)})
    failed = {} if given.report_only else run([plan], chosen([plan], given.only), given)
    done, lost = study(plan, given)
    failed = {**lost, **failed}
    text = published_page(plan, done, failed)
    write_text(given.page, text)
    sys.stdout.write(text)
    say(f"Page: {given.page}")
    return 1 if failed else 0


def fill(path: Path, text: str) -> None:
    """Put a text between the marks that a page has for it."""
    before, mark, rest = path.read_text().partition("<!-- study -->\n")
    end = "<!-- /study -->"
    if end not in rest:
        raise ArtifactError(f"{path}: allowed are lines <!-- study --> and {end}, in this order")
    write_text(path, f"{before}{mark}{text}{end}{rest.partition(end)[2]}")


def draw(matrix: Study, path: Path) -> None:
    """The picture of average ranks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measure = "AUROC, mean of near and far"
    plot_critical_difference(matrix.ranks(), path, highlight=PRIMARY, measure=measure)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NervecodeError as error:
        sys.exit(f"Error: {error}")
