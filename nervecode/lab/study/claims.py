"""Claims: what is asked of the signal, what was found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nervecode.lab.detectors.combination import COMBINATION, COMBINED
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study

SETTINGS, CONFIRMATIONS, SEEDS = 26, 10, 3  # so many at least


@dataclass(frozen=True)
class Target:
    """What is asked of the signal; `reached` is None where nothing has been run that could tell."""

    text: str
    found: str
    reached: bool | None


def claims(study: Study) -> list[Target]:
    """The targets of the benchmark matrix."""
    confirmation = Study([setting for setting in study.settings if setting.role == "confirmation"])
    tables = Study([setting for setting in study.settings if setting.kind == "tables"])
    return [
        _wins(study.near, "settings", SETTINGS),
        _wins(confirmation.near, "confirmation settings", CONFIRMATIONS),
        _lead(study, "its average is at least {} points above the best average baseline's", 2.5),
        _lead(tables, "on tables, that is at least {} points", 1.5),
        *_near(study.near),
        _lead(study, "first on shift sets on average, by at least {} points", 2.0, "shift"),
        _combination(study),
        _seeds(study.settings),
    ]


def _wins(settings: Sequence[Setting], words: str, least: int) -> Target:
    text = (
        "beats the best single baseline of the setting in at least 80 % of the "
        f"{words}, of at least {least}"
    )
    if not settings:
        return Target(text, "not run yet", None)
    wins = sum(setting.ahead(setting.best()) > 0 for setting in settings)
    share = wins / len(settings)
    figure = f"{100 * share:.0f} %, {wins} of {len(settings)}"
    return Target(text, figure, share >= 0.8 and len(settings) >= least)


def _lead(study: Study, text: str, points: float, group: str | None = None) -> Target:
    text = text.format(f"{points:.1f}")
    if not study.ran(PRIMARY, group):
        return Target(text, "not run yet", None)
    best = study.best(group)
    lead = study.ahead(best, group)
    return Target(text, f"{lead} to `{best}`", lead.mean >= points)


def _near(settings: Sequence[Setting]) -> Iterator[Target]:
    texts = (
        "near is more than 1 point behind the setting's best baseline in at most 10 % of the "
        f"settings, of at least {SETTINGS}",
        f"near is more than 4 points behind in none, of at least {SETTINGS}",
    )
    if not settings:
        yield from (Target(text, "not run yet", None) for text in texts)
        return
    gaps = [(setting.ahead(setting.best("near"), "near"), setting.label) for setting in settings]
    (gap, worst), n = min(gaps), len(gaps)
    behind, far = (sum(gap < -points for gap, _ in gaps) for points in (1, 4))
    enough = n >= SETTINGS
    yield Target(
        texts[0], f"{100 * behind / n:.0f} %, {behind} of {n}", enough and behind <= 0.1 * n
    )
    yield Target(texts[1], f"{gap:+.2f} on {worst}; {far} of {n}", enough and far == 0)


def _combination(study: Study) -> Target:
    text = f"`{COMBINATION}` is at least as good as its best member on average"
    if not study.ran(COMBINATION):
        return Target(text, "not run yet", None)
    best = max(COMBINED.values(), key=study.average)
    lead = study.ahead(best, method=COMBINATION)
    return Target(text, f"{lead} to `{best}`", lead.mean >= 0)


def _seeds(settings: Sequence[Setting]) -> Target:
    whole = sum(not setting.absent and _is_backed(setting) for setting in settings)
    text = (
        f"every figure is of at least {SEEDS} seeds, and the lead over every single baseline, in "
        "score and near, has a paired interval"
    )
    figure = f"in {whole} of {len(settings)} settings that have figures"
    return Target(text, figure, whole == len(settings))


def _is_backed(setting: Setting) -> bool:
    """Whether each method has enough seeds, and each baseline the errors of its intervals."""
    groups = ("score", "near") if setting.has_near else ("score",)
    return all(len(seeds) >= SEEDS for seeds in setting.scores.values()) and all(
        group in record.errors.get(method, {})
        for record in setting.records
        for method in setting.baselines
        for group in groups
    )
