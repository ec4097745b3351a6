"""Claim: what a run says in a sentence, and the reasons to believe it or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nervecode.lab.results.compare import Difference, paired
from nervecode.lab.results.rows import Row, headlines, ranking
from nervecode.viz.calibration import bound, false_alarms
from nervecode.viz.saved import Saved

ALPHA = 0.05
FEW_SEEDS = 3


@dataclass(frozen=True)
class Claim:
    """The headline of the default signal beside the best baseline.

    `row` and `rival` are rows of `ranking`; `rival` is None where there is no baseline.
    """

    row: Row
    place: int
    of: int
    rival: Row | None
    difference: Difference | None


@dataclass(frozen=True)
class Reason:
    """A reason to believe a run (`good`), or to doubt it."""

    good: bool
    title: str
    text: str


def claim(meta: Mapping[str, Any], rows: Sequence[Row], *, own: Sequence[str]) -> Claim | None:
    """The headline of a run; None where near or far sets are lacking.

    Args:
        meta: metadata of the run.
        rows: its rows.
        own: the names of its signals, which are no baselines; nor are combinations.
    """
    ranked, by_seed = ranking(rows), headlines(rows)
    methods = [row["method"] for row in ranked]
    primary = meta["primary_method"]
    if primary not in methods:
        return None
    others = [r for r in ranked if r["method"] not in own and not _combined(r["method"])]
    rival = others[0] if others else None
    place = methods.index(primary)
    difference = paired(by_seed[primary], by_seed[rival["method"]]) if rival else None
    return Claim(ranked[place], place + 1, len(ranked), rival, difference)


def reasons(meta: Mapping[str, Any], saved: Saved, *, withheld: bool) -> list[Reason]:
    """What a reader should weigh, the gate first."""
    listed = [_gate(meta)]
    if meta.get("demo"):
        text = "Made to show how things work; its figures claim nothing."
        listed.append(Reason(False, "Demonstration", text))
    if meta.get("transfer"):
        text = (
            "The network, or the encoder behind its inputs, was trained elsewhere on data that may "
            "hold any of these sets: what is called new here need not be new to it."
        )
        listed.append(Reason(False, "Transfer", text))
    listed.append(_seeds(len(meta["seeds"])))
    listed.append(
        Reason(
            True,
            "No OOD data in the making",
            "Classifier, codes and baselines were fitted on ID train; scores were normalised and "
            "thresholds set on ID calibration. ID test and the OOD sets were only measured.",
        )
    )
    if not withheld:
        listed.append(_calibration(saved))
    for name, left in meta.get("collapsed", {}).items():
        text = (
            f"{name}: {left}. A signal of so few codes says little; its setting revive: true puts "
            "unused codes on inputs."
        )
        listed.append(Reason(False, "Collapsed codebooks", text))
    commit = str(meta.get("git_commit") or "")
    if commit.endswith("-dirty"):
        text = "The source had changes that no commit holds, so the commit alone won't repeat it."
        listed.append(Reason(False, "Uncommitted source", text))
    return listed


def _combined(method: str) -> bool:
    return method.startswith(("combo_", "oracle_"))


def _gate(meta: Mapping[str, Any]) -> Reason:
    gate = meta["gate"]
    lowest = 100 * min(gate["accuracy"].values())
    text = (
        f"ID test accuracy must reach {100 * gate['required']:.2f} % for every seed; the lowest "
        f"is {lowest:.2f} %."
    )
    if not gate["passed"]:
        text += " A classifier this weak says nothing about a signal read from it."
    title = "Accuracy gate passed" if gate["passed"] else "Accuracy gate not passed"
    return Reason(bool(gate["passed"]), title, text)


def _seeds(count: int) -> Reason:
    text = (
        "Deviations and intervals are over seeds: other weights, the same data split. Intervals "
        "of so few are wide."
        if count > 1
        else "One seed has no deviation: a difference from it may be chance."
    )
    return Reason(count >= FEW_SEEDS, f"{count} seed{'s' * (count != 1)}", text)


def _calibration(saved: Saved) -> Reason:
    (alarm,) = false_alarms(saved, (ALPHA,))
    n = len(saved.scores("id_calibration")[saved.meta["primary_method"]])
    most = bound(n, ALPHA)
    text = (
        f"Flagging p ≤ {ALPHA:g} raised false alarms on {100 * alarm.rate:.1f} % of ID test "
        f"(95 % interval {100 * alarm.low:.1f} to {100 * alarm.high:.1f} %, seed {saved.seed}). "
        f"At most {100 * ALPHA:g} % is promised on average over calibration sets, and at most "
        f"{100 * most:.1f} % with 95 % confidence by this one of {n:,} inputs."
    )
    kept = alarm.low <= max(most, ALPHA)
    title = "False alarms agree with the promise" if kept else "More false alarms than promised"
    return Reason(kept, title, text)
