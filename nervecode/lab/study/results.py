"""Results: the page of a study, in Markdown. Each figure comes from saved rows and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nervecode.lab.detectors.combination import COMBINATION, COMBINED
from nervecode.lab.results.rows import GROUPS
from nervecode.lab.results.statistics import Interval
from nervecode.lab.results.table import Table, as_markdown
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study import side_tables
from nervecode.lab.study.claims import Target, claims
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study

HEAD = """# Results

`python scripts/study.py` ran or read every setting below and wrote this page; no figure on it was
typed. AUROC x100, higher is better, OOD is the positive class. A group is the unweighted mean over
its sets, a score the mean of near and far, a figure the mean over seeds {seeds} ± the standard
deviation. A seed draws weights, batches and augmentation; splits are the same for all. The rules
are those of [benchmarks](benchmarks.md): codes, feature statistics and classifiers see ID train
alone, thresholds and standardisation ID calibration alone. Hyperparameters are those of
[detectors](detectors.md), the same in every setting but where a note below says otherwise.

Settings marked *development* were looked at while the default signal was chosen, in earlier
trainings of the same classes; those marked *confirmation* had no part in any choice, and are looked
at when this page is written. Averages and ranks are over the settings that have something near.
"""
MARKS = {True: "reached", False: "**not reached**", None: "not known"}


def page(plan: Plan, study: Study, side: Study, failed: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        plan: of the matrix.
        study: its finished settings.
        side: ablations and reproductions.
        failed: setting -> why it is not among them.
    """
    tables = [
        targets(claims(study, side), _missing(plan, study)),
        ranking(study),
        by_setting(study),
        parts(study, "By role", lambda setting: setting.role),
        parts(study, "By data set", lambda setting: setting.config.data.id),
        parts(study, "By network", lambda setting: setting.config.model.name),
        combinations(study),
        *[every(study, group) for group in (None, "near", "shift")],
        *[alone(setting) for setting in study.settings if not setting.has_near],
        *[side_tables.ablation(setting) for setting in side.settings if setting.role != "joint"],
        side_tables.joint(side),
        side_tables.oracles(study),
        side_tables.settings([*study.settings, *side.settings]),
        side_tables.failures(plan, [*study.settings, *side.settings], failed),
    ]
    texts = [as_markdown(table) for table in tables if table.body]
    texts.insert(2, "![average ranks and critical difference](images/critical_difference.png)\n")
    head = HEAD.format(seeds=", ".join(map(str, plan.seeds)))
    return "\n".join([head, *texts]).rstrip() + "\n"


def targets(claims: Sequence[Target], missing: str = "") -> Table:
    """The targets, each with what was found, and what that lacks."""
    body = [[claim.text, claim.found, MARKS[claim.reached]] for claim in claims]
    reached = sum(claim.reached is True for claim in claims)
    caption = f"{reached} of {len(claims)} are reached.{missing}"
    return Table("Targets", ["the signal", "found", "verdict"], body, caption=caption)


def ranking(study: Study) -> Table:
    """Every single method over all settings."""
    ranks = study.ranks()
    methods = [m for m in study.methods if not m.startswith("combo_") and study.ran(m)]
    body = []
    for method in methods:
        rank = f"{ranks.average[method]:.2f}" if method in ranks.average else ""
        lead = "" if method == PRIMARY else interval_text(study.ahead(method))
        ran = f"{len(study.near) - study.missing(method)} of {len(study.near)}"
        body.append([f"`{method}`", *_figures(study, method), lead, rank, ran])
    caption = (
        f"Averages over the settings in which a method has figures; `{PRIMARY}` ahead: over those "
        "same settings, with a 95 % interval for settings drawn anew; settings that share a data "
        "set are not independent, so that it is rather too narrow. A method that lacks a seed "
        "or a setting (last column) has no rank and stands below. Friedman test that all ranked "
        f"methods are alike: p = {ranks.p_value:.1g}; critical difference of ranks "
        f"{ranks.critical_difference:.2f} (Nemenyi, 5 %)."
    )
    header = ["method", "score", *GROUPS, f"`{PRIMARY}` ahead", "average rank", "all seeds in"]
    return Table("Ranking over all settings", header, body, caption=caption)


def headline(study: Study, rows: int = 8) -> Table:
    """The first rows of the ranking, for the README."""
    ranks, rival = study.ranks().average, study.best()
    first = [m for m in study.methods if m in ranks][:rows]
    body = [[f"`{m}`", *_figures(study, m), f"{ranks[m]:.1f}"] for m in first]
    wins = sum(setting.ahead(setting.best()) > 0 for setting in study.near)
    caption = (
        f"On average `{PRIMARY}` is {interval_text(study.ahead(rival))} points ahead of "
        f"`{rival}`, the best of {len(study.rivals)} baselines; in {wins} of {len(study.near)} "
        "settings it is ahead of whichever is best there."
    )
    return Table("", ["method", "score", *GROUPS, "average rank"], body, caption=caption)


def by_setting(study: Study) -> Table:
    """`nervecode` beside the best baseline of each setting, and beside the best on average."""
    rival, body = study.best(), []
    for setting in study.near:
        best, near = setting.best(), setting.best("near")
        body.append([
            setting.name, setting.role, spread(setting, PRIMARY),
            f"{spread(setting, best)} `{best}`",
            interval_text(setting.lead(best)),
            interval_text(setting.lead(rival)) if setting.has(rival) else "",
            f"{setting.mean(PRIMARY, 'near'):.2f}",
            f"{setting.ahead(near, 'near'):+.2f} to `{near}`",
        ])  # fmt: skip
    header = [
        "setting", "role", PRIMARY, "best baseline", "ahead of it", f"ahead of `{rival}`",
        "near", "near ahead",
    ]  # fmt: skip
    caption = (
        "The best baseline is chosen per setting on the test figures, in its favour; "
        f"`{rival}` is the best on average. Leads are paired, with 95 % bootstrap intervals over "
        "test inputs, drawn alike for all seeds and both methods; they do not cover the choice of "
        "classes, of sets, or of weights."
    )
    return Table("Setting by setting", header, body, caption=caption)


def parts(study: Study, title: str, key: Callable[[Setting], str]) -> Table:
    """The study cut into parts, each compared with the best baseline of its own."""
    body = []
    for name in dict.fromkeys(map(key, study.near)):
        part = Study([setting for setting in study.near if key(setting) == name])
        best, near = part.best(), part.best("near")
        wins = sum(setting.ahead(setting.best()) > 0 for setting in part.near)
        body.append([
            name, str(len(part.near)), figure(part.average(PRIMARY)),
            f"{part.ahead(best).mean:+.2f} to `{best}`",
            f"{part.ahead(near, 'near').mean:+.2f} to `{near}`", f"{wins} of {len(part.near)}",
        ])  # fmt: skip
    header = ["part", "settings", PRIMARY, "ahead of the best", "near ahead of the best", "wins"]
    return Table(title, header, body)


def combinations(study: Study) -> Table:
    """Equal-weight combinations and their members."""
    members = list(COMBINED.values())
    names = [*members, *[m for m in study.methods if m.startswith(COMBINATION)]]
    names = sorted([m for m in names if study.ran(m)], key=study.average, reverse=True)
    body = [[f"`{m}`", *_figures(study, m)] for m in names]
    if COMBINATION not in names:
        return Table("Combinations", [], [])
    best = max(members, key=study.average)
    good = study.average(COMBINATION) >= study.average(best)
    caption = (
        f"On average `{COMBINATION}` is {'at least as good as' if good else '**worse than**'} "
        f"its best member, `{best}`; the best row of this table is `{names[0]}`."
    )
    return Table("Combinations", ["method", "score", *GROUPS], body, caption=caption)


def every(study: Study, group: str | None) -> Table:
    """Every method in every setting."""
    methods = [m for m in study.methods if study.ran(m, group)]
    body = []
    for method in methods:
        cells = [
            spread(setting, method, group) if setting.has(method, group) else ""
            for setting in study.near
        ]
        body.append([f"`{method}`", *cells])
    header = ["method", *[setting.name for setting in study.near]]
    caption = "Empty: failed or not run; the reasons stand at the end."
    return Table(f"Every method: {group or 'score'}", header, body, caption=caption)


def alone(setting: Setting) -> Table:
    """A setting without near-OOD; it counts in no average."""
    groups = [g for g in GROUPS if g in setting.sets.values()]
    order = [m for m in sorted(setting.scores, key=setting.mean, reverse=True) if "combo_" not in m]
    body = [[f"`{m}`", *[spread(setting, m, group) for group in groups]] for m in order]
    caption = (
        f"Nothing near is in {setting.name}, so it counts in no average and in no rank. "
        f"ID accuracy {setting.accuracy:.2f} %."
    )
    return Table(f"{setting.name}: without near-OOD", ["method", *groups], body, caption=caption)


def interval_text(interval: Interval) -> str:
    """A difference and its interval."""
    return f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def spread(setting: Setting, method: str, group: str | None = None) -> str:
    """A mean over seeds and its standard deviation."""
    return f"{setting.mean(method, group):.2f}±{setting.std(method, group):.2f}"


def figure(value: float) -> str:
    """A figure; nothing for NaN."""
    return "" if np.isnan(value) else f"{value:.2f}"


def _missing(plan: Plan, study: Study) -> str:
    names = [name for name in plan.settings if name not in {done.name for done in study.settings}]
    if not names:
        return ""
    return (
        f" **The matrix is not complete, and no verdict is final; not in it: {', '.join(names)}.**"
    )


def _figures(study: Study, method: str) -> list[str]:
    return [figure(study.average(method, group)) for group in (None, *GROUPS)]
