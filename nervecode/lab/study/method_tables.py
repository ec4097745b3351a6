"""Method tables: methods over parts of a study, in every setting, and with their like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nervecode.lab.detectors.combination import COMBINATION, COMBINED
from nervecode.lab.results.rows import GROUPS
from nervecode.lab.results.statistics import FEWEST, Ranks
from nervecode.lab.results.table import Table
from nervecode.lab.results.tables import best_and_second
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study


def parts(study: Study, title: str, key: Callable[[Setting], str]) -> Table:
    """The study cut into parts, each compared with the best baseline of its own."""
    body = []
    for name in dict.fromkeys(map(key, study.near)):
        part = Study([setting for setting in study.near if key(setting) == name])
        wins = sum(setting.ahead(setting.best()) > 0 for setting in part.near)
        leads = [ahead_of_best(part, group) for group in (None, "near", "shift")]
        count = str(len(part.near))
        body.append([
            name, count, str(len(part.data_sets)), figure(part.average(PRIMARY)), *leads,
            f"{wins} of {count}",
        ])  # fmt: skip
    header = [
        "part", "settings", "data sets", PRIMARY, "ahead of the best", "near ahead", "shift ahead",
        "wins",
    ]  # fmt: skip
    caption = (
        "The best baseline of each part and group, on average; intervals are for data sets drawn "
        f"anew, each with all its settings, and are given from {FEWEST} data sets. Wins: over "
        "whichever is best in the setting."
    )
    return Table(title, header, body, caption=caption)


def counted_equally(study: Study) -> Table:
    """The lead with every setting counted equally, and with every data set."""
    body = []
    for group in (None, "near", "shift"):
        if study.ran(PRIMARY, group):
            leads = [ahead_of_best(study, group, equally=equally) for equally in (False, True)]
            means = study.by_data_set(study.best(group, equally=True), group).values()
            ahead = f"{sum(mean > 0 for mean in means)} of {len(means)}"
            body.append([group or "score", *leads, ahead])
    header = ["ahead of the best", "settings count equally", "data sets count equally", "ahead on"]
    caption = (
        "The best baseline on average, of either counting. An average over settings is mostly of "
        "the data sets that have many; in the other, each of "
        f"{len(study.data_sets)} has the mean over its settings, and the last column counts the "
        "means above 0."
    )
    return Table("", header, body, caption=caption)


def not_told_apart(ranks: Ranks) -> str:
    """From which methods average ranks do not tell `nervecode` apart, and how sure that is."""
    alike = ", ".join(f"`{method}`" for method in ranks.alike(PRIMARY))
    verdict = f"not told apart from {alike}" if alike else "told apart from every other method"
    return (
        f"By the critical difference of average ranks, {ranks.critical_difference:.2f} (Nemenyi, "
        f"95 %), `{PRIMARY}` is {verdict}; settings that share a data set are not independent, so "
        "that the test is too sure."
    )


def combinations(study: Study) -> Table:
    """Equal-weight combinations and their members."""
    members = list(COMBINED.values())
    names = [*members, *[m for m in study.methods if m.startswith(COMBINATION)]]
    names = sorted([m for m in names if study.ran(m)], key=study.average, reverse=True)
    body = [[f"`{m}`", *figures(study, m)] for m in names]
    if COMBINATION not in names:
        return Table("", [], [])
    best = max(members, key=study.average)
    good = study.average(COMBINATION) >= study.average(best)
    caption = (
        f"On average `{COMBINATION}` is {'at least as good as' if good else '**worse than**'} "
        f"its best member, `{best}`: {study.ahead(best, method=COMBINATION)}; the best row of this "
        f"table is `{names[0]}`."
    )
    return Table("Appendix: combinations", ["method", "score", *GROUPS], body, caption=caption)


def best_methods(study: Study, group: str | None, rivals: int = 9) -> Table:
    """`nervecode` and the baselines that are best on average, in every setting."""
    order = sorted(study.rivals, key=lambda m: (study.missing(m), -study.average(m, group)))
    methods = [PRIMARY, *[m for m in order if study.ran(m, group)][:rivals]]
    body: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    second: set[tuple[int, int]] = set()
    for r, setting in enumerate(study.ran(PRIMARY, group)):
        known = [m if setting.has(m, group) else None for m in methods]
        cells = ["" if m is None else spread(setting, m, group) for m in known]
        body.append([setting.label, *cells])
        means = [None if m is None else setting.mean(m, group) / 100 for m in known]
        for marked, places in zip((best, second), best_and_second(means), strict=True):
            marked |= {(r, place + 1) for place in places}
    caption = (
        f"The {len(methods) - 1} single baselines with the highest average here, of those that "
        "lack the fewest settings; of these columns the best in bold, the second in italics. "
        "Empty: failed or not run. Every other method, by seed and set, is in the rows of each "
        "setting."
    )
    title = f"Appendix: {group or 'score'} in every setting"
    header = ["setting", *[f"`{m}`" for m in methods]]
    return Table(title, header, body, frozenset(best), frozenset(second), caption)


def alone(setting: Setting) -> Table:
    """A setting without near-OOD; it counts in no average."""
    groups = [g for g in GROUPS if g in setting.sets.values()]
    order = [m for m in sorted(setting.scores, key=setting.mean, reverse=True) if "combo_" not in m]
    body = [[f"`{m}`", *[spread(setting, m, group) for group in groups]] for m in order]
    caption = (
        f"Nothing near is in {setting.label}, so it counts in no average and in no rank. "
        f"ID accuracy {setting.accuracy:.2f} %."
    )
    title = f"Appendix: {setting.label}, without near-OOD"
    return Table(title, ["method", *groups], body, caption=caption)


def spread(setting: Setting, method: str, group: str | None = None) -> str:
    """A mean over seeds and its standard deviation."""
    return f"{setting.mean(method, group):.2f}±{setting.std(method, group):.2f}"


def figure(value: float) -> str:
    """A figure; nothing for NaN."""
    return "" if np.isnan(value) else f"{value:.2f}"


def figures(study: Study, method: str) -> list[str]:
    """Averages over settings: of the score, and of each group."""
    return [figure(study.average(method, group)) for group in (None, *GROUPS)]


def ahead_of_best(study: Study, group: str | None = None, *, equally: bool = False) -> str:
    """The lead over the baseline that is best on average; nothing where none has a figure."""
    if not study.ran(PRIMARY, group):
        return ""
    best = study.best(group, equally=equally)
    lead = study.ahead_equally(best, group) if equally else study.ahead(best, group)
    return f"{lead} to `{best}`"
