#!/usr/bin/env python
"""The benchmark matrix: run or resume every setting, print the ranking, write docs/results.md.

    python scripts/study.py                        # everything; resumes where it stands
    python scripts/study.py --only digits wine_1   # some settings
    python scripts/study.py --report-only          # the page from what is finished

A setting that fails does not stop the others; it is named with its reason, and the status is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nervecode.cli.show import progress, say
from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.lab.files import write_text
from nervecode.lab.results import page
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study import Plan, Setting, Study, attempt, latest, read_plan, run_setting
from nervecode.viz.critical_difference import plot_critical_difference

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python scripts/study.py"


def chosen(plan: Plan, only: list[str] | None) -> list[str]:
    """The settings to run, each known."""
    for name in only or ():
        if name not in plan.settings:
            raise InputError(
                f"--only: unknown setting {name!r}; {did_you_mean(name, plan.settings)}"
            )
    return only or list(plan.settings)


def finished(plan: Plan, name: str, outdir: Path) -> Setting:
    """A setting that an earlier call has run."""
    run = latest(outdir, name)
    if run is None or not (run.root / "results.json").is_file():
        raise ArtifactError(f"not run to its end yet; `{COMMAND} --only {name}` does it")
    return Setting.of(name, plan.settings[name].role, run)


def study(plan: Plan, names: list[str], given: argparse.Namespace) -> tuple[Study, dict[str, str]]:
    """Run what is to be run, and read all settings of the plan."""

    def work(name: str) -> Setting:
        say(f"Setting {name}")
        with progress() as shown:
            run = run_setting(plan, name, given.outdir, command=COMMAND, progress=shown)
        return Setting.of(name, plan.settings[name].role, run)

    failed: dict[str, str] = {}
    if not given.report_only:
        failed |= attempt(names, work)[1]
    done, absent = attempt(plan.settings, lambda name: finished(plan, name, given.outdir))
    return Study(done), {**absent, **failed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, default=ROOT / "configs/study/matrix.yaml")
    parser.add_argument("--ablations", type=Path, default=ROOT / "configs/study/ablations.yaml")
    parser.add_argument("--outdir", type=Path, default=Path("runs/study"))
    parser.add_argument("--only", nargs="+", metavar="SETTING")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results.md")
    given = parser.parse_args()
    plan, ablations = read_plan(given.plan), read_plan(given.ablations)
    both = plan.model_copy(update={"settings": plan.settings | ablations.settings})
    names = chosen(both, given.only)
    main_study, failed = study(plan, [n for n in names if n in plan.settings], given)
    side_study, side_failed = study(ablations, [n for n in names if n in ablations.settings], given)
    if len(main_study.near) < 2:
        raise ArtifactError(f"{given.outdir}: fewer than two settings are finished: {failed}")
    picture = given.page.parent / "images" / "critical_difference.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    found = main_study.ranks()
    caption = (
        f"AUROC, mean of near and far, over {found.num_settings} settings; bars join methods that "
        "the Nemenyi test does not tell apart at 5 %."
    )
    plot_critical_difference(found, picture, highlight=PRIMARY, caption=caption)
    text = page(plan, main_study, side_study, {**failed, **side_failed})
    write_text(given.page, text)
    say(text)
    say(f"Page: {given.page}")
    return 1 if failed or side_failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NervecodeError as error:
        sys.exit(f"Error: {error}")
