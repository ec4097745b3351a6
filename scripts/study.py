#!/usr/bin/env python
"""The benchmark matrix: run what is not done, print the ranking, write docs/results.md.

    python scripts/study.py                        # everything; resumes where it stands
    python scripts/study.py --only digits wine_1   # some settings
    python scripts/study.py --seeds 0              # the first seed of each; the others later
    python scripts/study.py --role development --page dev.md  # confirmation is neither run nor read
    python scripts/study.py --runs runs            # begin with equal trainings that lie there
    python scripts/study.py --jobs 4               # so many cells at a time, one by default
    python scripts/study.py --report-only          # the page from what is finished
    python scripts/study.py --plan configs/study/openood.yaml --page openood.md
    python scripts/study.py --plan configs/study/trained.yaml --page trained.md  # it alone

The rows of each finished cell lie beside the page, docs/results/PLAN/SETTING.csv, and are to be
committed: the page is made from them alone, and a cell whose rows are there is not run again.
A setting that fails does not stop the others; it is named with its reason, and the status is 1.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from nervecode.cli.show import complain, progress, say
from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.files import write_text
from nervecode.lab.machine.interrupt import Interrupted, listen
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.collect import collect, recorded
from nervecode.lab.study.costs import read_costs
from nervecode.lab.study.headline import headline
from nervecode.lab.study.plan import (
    ROLES,
    Plan,
    cells_of,
    check_apart,
    config_of,
    read_plan,
    with_role,
)
from nervecode.lab.study.published import published_page
from nervecode.lab.study.results import Findings, asked_of, page
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study, attempt, run_cells_of
from nervecode.lab.study.trained import trainings
from nervecode.lab.sweep.cells import Cell
from nervecode.lab.sweep.launchers import LAUNCHERS
from nervecode.lab.sweep.run import require_data
from nervecode.viz.critical_difference import plot_critical_difference

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results.md"
STUDY = ROOT / "configs/study"
COMMAND = "python scripts/study.py"
# A path from the root of a machine, no address and no fraction, and its last two parts.
PART = r"[^\s/|`'\",;:]+"
ABSOLUTE = re.compile(rf"(?<![\w.~/<-])(?:/{PART})*/({PART}/{PART})")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, default=STUDY / "matrix.yaml")
    parser.add_argument("--ablations", type=Path, default=STUDY / "ablations.yaml")
    parser.add_argument("--trained", type=Path, default=STUDY / "trained.yaml")
    parser.add_argument("--role", choices=ROLES, help="of those two, only settings of this one")
    parser.add_argument("--outdir", type=Path, default=Path("runs/study"))
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--only", nargs="+", metavar="SETTING")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="to run")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def main() -> int:
    given = parse()
    check_options(given)
    check_page(given)
    whole = read_plans(given)
    check_apart([plan for plan in whole if plan.settings])
    if not whole[0].published:
        trainings(attempt(whole[-1].settings, partial(config_of, whole[-1]))[0])
    plans = [with_role(plan, given.role) for plan in whole]
    check_known(plans, given)
    failed = {} if given.report_only else run(plans, given)
    done = [attempt(plan.settings, partial(gather, plan, given)) for plan in plans]
    absent = {name: why for _, lost in done for name, why in lost.items()} | failed
    studies = [Study(list(some.values())) for some, _ in done]
    if plans[0].published:
        text = published_page(plans[0], studies[0], absent)
    else:
        matrix, ablations, trained = zip(whole, studies, strict=True)
        costs = read_costs(given.page.with_suffix("") / "costs.csv")
        text = report(
            Findings(matrix, ablations, trained, absent, costs, given.role, picture(given)), given
        )
    # Reasons and sets may name files; a page is not the place for the folders of a machine.
    text = without_folders(text, (given.outdir, given.page.parent, *given.runs, Path.cwd(), ROOT))
    write_text(given.page, text)
    sys.stdout.write(text)
    say(f"Page: {given.page}")
    lacking = any(setting.absent for some in studies for setting in some.settings)
    return 1 if absent or lacking else 0


def check_options(given: argparse.Namespace) -> None:
    """Refuse what would run nothing, for ever or without a word."""
    if given.jobs < 1:
        raise InputError(f"--jobs: found {given.jobs}, allowed: 1 or more")
    for option in ("only", "seeds"):
        if given.report_only and getattr(given, option):
            told = "found with --report-only, whose page is of all that is finished"
            raise InputError(f"--{option}: {told}; allowed: one of the two")


def same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def check_page(given: argparse.Namespace) -> None:
    """Refuse to write the page of the repository, or its rows, from less or from other plans."""
    if not same(given.page.with_suffix(""), PAGE.with_suffix("")):
        return
    if given.role:
        told = f"a page of its own with --role {given.role}"
        raise InputError(f"--page: found {given.page}, allowed: {told}")
    for name in ("matrix", "ablations", "trained"):
        path = given.plan if name == "matrix" else getattr(given, name)
        if not same(path, STUDY / f"{name}.yaml"):
            raise InputError(f"--page: found {given.page}, allowed: a page of its own for {path}")


def read_plans(given: argparse.Namespace) -> list[Plan]:
    """The matrix and the plans beside it; one of those, or one with published figures, alone."""
    plan, sides = read_plan(given.plan), (given.ablations, given.trained)
    if plan.published:
        return [plan]
    if any(same(given.plan, side) for side in sides):
        none = Plan(name="none", title="", settings={})
        return [none, *(plan if same(given.plan, side) else none for side in sides)]
    return [plan, *map(read_plan, sides)]


def check_known(plans: Sequence[Plan], given: argparse.Namespace) -> None:
    """Refuse settings and seeds that are in no plan."""
    names = [name for plan in plans for name in plan.settings]
    seeds = {s for p in plans for one in p.settings.values() for s in one.seeds or p.seeds}
    for name in given.only or ():
        if name not in names:
            raise InputError(f"--only: unknown setting {name!r}; {did_you_mean(name, names)}")
    for seed in given.seeds or ():
        if seed not in seeds:
            allowed = ", ".join(map(str, sorted(seeds)))
            raise InputError(f"--seeds: found {seed}, allowed: {allowed}")


def rows_of(plan: Plan, given: argparse.Namespace) -> Path:
    """The folder of a plan's rows."""
    return Path(given.page.with_suffix("")) / plan.name


def gather(plan: Plan, given: argparse.Namespace, name: str) -> Setting:
    """A setting from its rows, which are brought up to date where runs lie here."""
    return collect(plan, name, given.outdir, rows_of(plan, given), command=COMMAND)


def run(plans: Sequence[Plan], given: argparse.Namespace) -> dict[str, str]:
    """Run the cells that have no rows; setting -> why it could not even begin."""
    ready: list[Cell] = []
    plan_of = {name: plan for plan in plans for name in plan.settings}

    def prepare(name: str) -> None:
        plan = plan_of[name]
        there = recorded(name, rows_of(plan, given))
        cells = [cell for cell in cells_of(plan, name) if cell.id not in there]
        cells = [cell for cell in cells if not given.seeds or cell.seed in given.seeds]
        require_data(cells)
        ready.extend(cells)

    def ended(cell: str) -> None:
        name = next(c.config.name for c in ready if c.id == cell)
        attempt([name], partial(gather, plan_of[name], given))

    _, failed = attempt(given.only or list(plan_of), prepare)
    for name, why in failed.items():
        say(f"Setting {name} failed: {why}")
    with progress() as shown:
        run_cells_of(ready, given.outdir, command=COMMAND, progress=shown, folders=given.runs,
                     launcher=LAUNCHERS[given.launcher], jobs=given.jobs, ended=ended)  # fmt: skip
    return failed


def without_folders(text: str, known: Iterable[Path]) -> str:
    """A text with paths as they are from folders that are known; of others the last two parts."""
    forms = {str(form) for folder in known for form in (folder.absolute(), folder.resolve())}
    for folder in sorted(forms - {"/"}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    return ABSOLUTE.sub(r"\1", text)


def report(findings: Findings, given: argparse.Namespace) -> str:
    """The page of the matrix, beside its picture; its first rows go to the README."""
    plan, matrix = findings.matrix
    if len(matrix.near) < 2 if plan.settings else not findings.settings:
        raise ArtifactError(too_few(findings, given))
    if plan.settings:
        draw(matrix, given.page.parent / findings.picture)
    if same(given.page, PAGE):
        asked = [target for _, some in asked_of(findings).values() for target in some]
        fill(ROOT / "README.md", headline(plan, matrix, asked))
    return page(findings)


def too_few(findings: Findings, given: argparse.Namespace) -> str:
    """Why there is no page: what is finished, where its rows are, and else what is missing."""
    needed = (
        "two settings of the matrix with near-OOD"
        if findings.matrix[0].settings
        else "a finished setting"
    )
    told = [f"{given.page}: not written; a page needs {needed}"]
    if names := [setting.name for setting in findings.settings]:
        told.append(f"finished: {', '.join(names)}, with rows in {given.page.with_suffix('')}")
    missing = given.only or ([] if names else list(findings.failed)[:1])
    told += [f"{name}: {findings.failed[name]}" for name in missing if name in findings.failed]
    return "; ".join(told)


def picture(given: argparse.Namespace) -> str:
    """Where the picture of average ranks is, from the page: beside the rows of any but ours."""
    folder = "images" if same(given.page, PAGE) else given.page.stem
    return f"{folder}/critical_difference.png"


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


def command_line() -> int:
    """The exit status of the script, whatever ends it."""
    listen()
    try:
        return main()
    except NervecodeError as error:
        complain(str(error))
        return 1
    except Interrupted as stop:
        again = shlex.join(["python", "scripts/study.py", *sys.argv[1:]])
        complain(f"interrupted; `{again}` goes on where it stopped")
        return stop.exit_status


if __name__ == "__main__":
    sys.exit(command_line())
