"""Results: the page of a study, in Markdown. Each figure comes from committed rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nervecode.lab.results.rows import GROUPS
from nervecode.lab.results.table import Table, as_markdown
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study import side_tables
from nervecode.lab.study.claims import Target, claims
from nervecode.lab.study.costs import Costs
from nervecode.lab.study.method_tables import (
    alone,
    best_methods,
    combinations,
    counted_equally,
    figures,
    not_told_apart,
    parts,
    spread,
)
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study
from nervecode.lab.study.trained import tasks_of
from nervecode.lab.study.trained_tables import by_task, training, training_claims

HEAD = """# Results

`python scripts/study.py` ran or read every setting below and wrote this page from the rows in
`results/`, one file per setting; no figure was typed, and `--report-only` writes it again from
those files alone. AUROC x100, higher is better, OOD is the positive class. A group is the
unweighted mean over its sets, a score the mean of near and far, a figure the mean over the planned
seeds that are done ({seeds}; where some are not, how many stands beside the name) ± the standard
deviation. A seed draws weights, batches and augmentation; splits are the same for all. The rules
are those of [benchmarks](benchmarks.md): codes, feature statistics and classifiers see ID train
alone, thresholds and standardisation ID calibration alone. Hyperparameters are those of
[detectors](detectors.md), the same in every setting but where a note below says otherwise.

Settings marked *development* were looked at while the default signal was chosen, its form and its
weights by OOD figures of earlier trainings of the same classes; those marked *confirmation* had no
part in any choice. After these were first seen, the code of the score changed for what its
percentiles promise; they are looked at whenever this page is written. Those marked TRANSFER begin
with a network that was trained elsewhere, which may have met any of the sets. Averages and ranks
are over the settings that have something near.

What the repository cannot repeat: forms of the score, and losses in bits, were compared by programs
that are not part of it ([mathematics](mathematics.md), [training](training.md)), so that the choice
of the default can be read but not run. `scripts/ablate_costs.py` measures what signals cost, apart
from this command. Rows are of the code of their own commits, which is not always that of this page:
which, and how many, stands below [the settings](#{settings}).
"""
ROLE = """
**Written with `--role {role}`: of development and confirmation, no setting of the other role was
run or read. What is left out is named below the targets, and no verdict is final.**
"""
MARKS = {True: "reached", False: "**not reached**", None: "not known"}


@dataclass(frozen=True)
class Findings:
    """All that the page tells of.

    Attributes:
        matrix: the benchmark's plan, and its settings that are finished.
        ablations: signals that share a training, joint training of old, reproductions.
        trained: tasks that are trained with several losses.
        failed: setting -> why it is not among them.
        costs: of the signals of the ablations.
        role: the only one that was run and read, of development and confirmation; None for both.
        picture: of the average ranks, as a path from the page.
    """

    matrix: tuple[Plan, Study]
    ablations: tuple[Plan, Study]
    trained: tuple[Plan, Study]
    failed: Mapping[str, str]
    costs: Costs
    role: str | None = None
    picture: str = "images/critical_difference.png"

    @property
    def plan(self) -> Plan:
        """The matrix, or the other plan that was run alone."""
        plans = [plan for plan, _ in (self.matrix, self.ablations, self.trained)]
        return next((plan for plan in plans if plan.settings), plans[0])

    @property
    def settings(self) -> list[Setting]:
        """Every finished setting."""
        parts = (self.matrix, self.ablations, self.trained)
        return [setting for _, study in parts for setting in study.settings]


def page(findings: Findings) -> str:
    """The whole page."""
    study, side, plan = findings.matrix[1], findings.ablations[1], findings.plan
    tasks = tasks_of(findings.trained[1])
    ablations = [setting for setting in side.settings if setting.role != "joint"]
    made_of = side_tables.settings([*study.settings, *side.settings], findings.trained[1].settings)
    tables = [
        targets(findings),
        *(_of_matrix(study, findings.picture) if study.near else ()),
        training(tasks),
        by_task(tasks),
        *[side_tables.ablation(setting, findings.costs) for setting in ablations],
        side_tables.joint(side),
        *(_appendices(study) if study.near else ()),
        *[alone(setting) for setting in study.settings if not setting.has_near],
        made_of,
        side_tables.failures(plan, findings.settings, findings.failed),
    ]
    tables = [table for table in tables if table.body]
    head = HEAD.format(seeds=", ".join(map(str, plan.seeds)), settings=_anchor(made_of.title))
    if findings.role:
        head += ROLE.format(role=findings.role)
    contents = [f"* [{table.title}](#{_anchor(table.title)})" for table in tables]
    return "\n".join([head, *contents, "", *map(as_markdown, tables)]).rstrip() + "\n"


def _anchor(title: str) -> str:
    """What a heading is linked by, on GitHub and on the site."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _of_matrix(study: Study, picture: str) -> list[Table]:
    ranked = ranking(study)
    image = f"![average ranks and critical difference]({picture})"
    equally = as_markdown(counted_equally(study)).strip()
    return [
        replace(ranked, caption="\n\n".join([ranked.caption, image, equally])),
        parts(study, "By kind of data", lambda setting: setting.kind),
        parts(study, "Development against confirmation", lambda setting: setting.role),
        parts(study, "By network", lambda setting: setting.config.model.name),
        by_setting(study),
    ]


def _appendices(study: Study) -> list[Table]:
    return [
        combinations(study),
        *[best_methods(study, group) for group in (None, "near", "shift")],
        side_tables.oracles(study),
    ]


def asked_of(findings: Findings) -> dict[str, tuple[tuple[Plan, Study], list[Target]]]:
    """Part -> its plan and settings, and what is asked of it; without plans that were not run."""
    tasks = tasks_of(findings.trained[1])
    asked = {
        "The matrix": (findings.matrix, claims(findings.matrix[1])),
        "Training with losses": (findings.trained, list(training_claims(tasks))),
    }
    return {name: (part, some) for name, (part, some) in asked.items() if part[0].settings}


def targets(findings: Findings) -> Table:
    """The targets, each with what was found, and what that lacks."""
    body, captions, reached = [], [], 0
    for name, (part, asked) in asked_of(findings).items():
        missing = _missing(*part)
        for claim in asked:
            so_far = ", not complete" if missing and claim.reached is not None else ""
            body.append([claim.text, claim.found, MARKS[claim.reached] + so_far])
        reached += sum(claim.reached is True for claim in asked)
        if missing:
            captions.append(f"{name} is not complete, and no verdict on it is final; {missing}.")
    caption = " ".join([f"{reached} of {len(body)} are reached.", *(f"**{c}**" for c in captions)])
    return Table("Targets", ["target", "found", "verdict"], body, caption=caption)


def ranking(study: Study) -> Table:
    """Every single method over all settings."""
    ranks = study.ranks()
    methods = [m for m in study.methods if not m.startswith("combo_") and study.ran(m)]
    body = []
    for method in methods:
        rank = f"{ranks.average[method]:.2f}" if method in ranks.average else ""
        lead = "" if method == PRIMARY else str(study.ahead(method))
        ran = f"{len(study.near) - study.missing(method)} of {len(study.near)}"
        body.append([f"`{method}`", *figures(study, method), lead, rank, ran])
    caption = (
        f"Averages over the settings in which a method has figures; `{PRIMARY}` ahead: over those "
        "same settings, with a 95 % interval for data sets drawn anew, each with all its settings; "
        f"of {len(study.data_sets)} data sets that is still somewhat narrow. A method that lacks a "
        "seed or a setting (last column) has no rank and stands below. Friedman test that all "
        f"ranked methods are alike: p = {ranks.p_value:.1g}. {not_told_apart(ranks)}"
    )
    header = ["method", "score", *GROUPS, f"`{PRIMARY}` ahead", "average rank", "all seeds in"]
    return Table("Ranking over all settings", header, body, caption=caption)


def by_setting(study: Study) -> Table:
    """`nervecode` beside the best baseline of each setting, and beside the best on average."""
    rival, body = study.best(), []
    for setting in study.near:
        best, near = setting.best(), setting.best("near")
        body.append([
            setting.label, setting.role, spread(setting, PRIMARY),
            f"{spread(setting, best)} `{best}`",
            str(setting.lead(best)),
            str(setting.lead(rival)) if setting.has(rival) else "",
            f"{setting.mean(PRIMARY, 'near'):.2f}",
            f"{setting.lead(near, 'near')} to `{near}`",
        ])  # fmt: skip
    header = [
        "setting", "role", PRIMARY, "best baseline", "ahead of it", f"ahead of `{rival}`",
        "near", "near ahead",
    ]  # fmt: skip
    caption = (
        "The best baseline is chosen per setting on the test figures, in its favour; "
        f"`{rival}` is the best on average. Leads are paired, with 95 % intervals over test inputs "
        "(DeLong's error of the difference, its mean over the seeds, which meet the same inputs); "
        "they do not cover the choice of classes, of sets, or of weights."
    )
    return Table("Setting by setting", header, body, caption=caption)


def _missing(plan: Plan, study: Study) -> str:
    """Which settings of a plan are not there, or not with all their seeds; empty for none."""
    done = {setting.name for setting in study.settings if not setting.absent}
    names = [name for name in plan.settings if name not in done]
    if len(names) == len(plan.settings):
        return f"none of {len(names)} settings is done with all its seeds" if names else ""
    return f"not in it, or without some seeds: {', '.join(names)}" if names else ""
