"""Trained tables: what each loss is worth over all tasks, and what is claimed of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nervecode.lab.results.statistics import over_data_sets
from nervecode.lab.results.table import Table
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.claims import Target
from nervecode.lab.study.method_tables import figure
from nervecode.lab.study.study import Study
from nervecode.lab.study.trained import (
    PLAIN,
    RIVALS,
    TrainedTask,
    best_detector,
    joint_losses,
    losses,
    rivals,
)

TASKS = 10  # so many at least
SOME = "a loss in bits"  # where none has been run
CHOSEN = (
    "**None of these tasks confirms anything:** the loss in bits, its form and its weight were "
    "chosen by near AUROC on nine of them (not digits), among about ten losses and four weights, "
    "by programs that are not part of the repository; the others had one setting for all tasks, "
    "LogitNorm of two that were looked at."
)


def training(tasks: Sequence[TrainedTask]) -> Table:
    """What each loss is worth, over all tasks."""
    body, names = [], losses(tasks)
    common = [task for task in tasks if len(task.by_loss) == len(names)]
    for loss in names:
        chosen = [task for task in tasks if loss in task.by_loss]
        part = Study([task.by_loss[loss] for task in common])
        first = _of_training(chosen, common, loss)
        for method in (PRIMARY, best_detector(tasks, loss)):
            values = [figure(part.average(method, group)) for group in ("near", None)]
            gains = [_gain(chosen, loss, method, group) for group in ("near", None)]
            body.append([f"`{loss}`", f"`{method}`", *values, *gains, *first])
            first = [""] * len(first)
    header = [
        "trained with", "method", "near", "score", "near over plain", "score over plain", "tasks",
        "accuracy %", "over plain", "ECE %",
    ]  # fmt: skip
    caption = (
        f"Tasks that were trained with each loss, alike in all else; `{PLAIN}` is plain training. "
        f"Near, score, accuracy and ECE (expected calibration error) are over the {len(common)} "
        "tasks that have every loss, what is over plain over all tasks of the loss. "
        f"Below `{PRIMARY}` stands the baseline that is best after this loss, on average over the "
        "tasks (chosen on these very figures, in its favour). Over plain: the same method on the "
        "same seeds, with a 95 % interval for data sets drawn anew, each with all its tasks. "
        f"{CHOSEN if joint_losses(tasks) else ''}".strip()
    )
    return Table("Trained against post-hoc", header, body, caption=caption)


def by_task(tasks: Sequence[TrainedTask]) -> Table:
    """Our score, plain and joint, beside what is trained for OOD inputs, task by task."""
    ours = [(loss, PRIMARY) for loss in (PLAIN, *joint_losses(tasks))]
    theirs = rivals(tasks)
    body = []
    for task in tasks if theirs else ():
        cells = [_cell(task, *pair) for pair in (*ours, *theirs)]
        leads = [task.lead(loss, theirs) for loss, _ in ours]
        body.append([task.name, *cells, *["" if x is None else str(x) for x in leads]])
    header = [
        "task", *[f"`{loss}`, `{method}`" for loss, method in (*ours, *theirs)],
        *[f"`{loss}` ahead" for loss, _ in ours],
    ]  # fmt: skip
    caption = (
        f"Near, score. Ahead: the score of `{PRIMARY}` less that of the best of "
        f"{', '.join(f'`{loss}`' for loss in RIVALS)}, or of as many of them as stand behind it, "
        "each with one detector, the best after it on average over the tasks. "
        "Empty or fewer: not run, or the gate was not passed. Intervals: Student's, 95 %, over the "
        "seeds that both have, in pairs; they do not cover the draw of inputs, since the rows tell "
        "no error between two trainings."
    )
    return Table("Trained against post-hoc, by task", header, body, caption=caption)


def training_claims(tasks: Sequence[TrainedTask]) -> Iterator[Target]:
    """What is asked of a loss in bits, and of our score beside losses for OOD inputs.

    Reached with ten tasks alone; beside others, with ten that were trained with each of them.
    """
    joint = joint_losses(tasks)
    for loss in joint or [SOME]:
        chosen = [task for task in tasks if task.has(loss)]
        near = (
            f"training with {_named(loss)}, chosen on these tasks, lifts near by at least 1.5 "
            "points, mean over the tasks"
        )
        accuracy = (
            f"training with {_named(loss)}, chosen on these tasks, nowhere lowers accuracy by more "
            "than 0.2 points"
        )
        if not chosen:
            yield from (Target(text, "not run yet", None) for text in (near, accuracy))
            continue
        enough = len(chosen) >= TASKS
        gain = over_data_sets((task.data_set, task.gain(loss, PRIMARY, "near")) for task in chosen)
        yield Target(near, f"{gain} over {len(chosen)}", enough and gain.mean >= 1.5)
        worst, where = min((task.accuracy_gain(loss), task.name) for task in chosen)
        at_worst = f"{worst:+.2f} at worst, {where}; {len(chosen)} tasks"
        yield Target(accuracy, at_worst, enough and round(worst, 2) >= -0.2)
    theirs = rivals(tasks)
    for loss in (PLAIN, *(joint or [SOME])):
        text = (
            f"after {_named(loss)}, it is ahead of LogitNorm, T2FNorm and CIDER, each with the "
            "detector that is best after it on average over the tasks, in at least 8 of 10 tasks"
        )
        all_run = tasks if len(theirs) == len(RIVALS) else ()
        leads = [lead for task in all_run if (lead := task.lead(loss, theirs)) is not None]
        wins = sum(lead.points.mean > 0 for lead in leads)
        clear = sum(lead.points.low > 0 for lead in leads)
        figure = f"{wins} of {len(leads)}, {clear} clearly" if leads else "not run yet"
        if some := sum(lead.rivals < len(RIVALS) for lead in leads):
            figure += f"; in {some} beside those of them that passed the gate"
        reached = len(leads) >= TASKS and wins >= 0.8 * len(leads)
        yield Target(text, figure, reached if leads else None)


def _named(loss: str) -> str:
    return loss if loss == SOME else f"`{loss}`"


def _of_training(
    chosen: Sequence[TrainedTask], common: Sequence[TrainedTask], loss: str
) -> list[str]:
    """How many tasks; the accuracy of the common ones, what it is over plain, and their ECE."""
    settings = [task.by_loss[loss] for task in common]
    gains = [task.accuracy_gain(loss) for task in chosen]
    errors = [r.ece for setting in settings for r in setting.records if r.ece is not None]
    return [
        str(len(chosen)),
        f"{np.mean([setting.accuracy for setting in settings]):.2f}" if settings else "",
        "" if loss == PLAIN else f"{np.mean(gains):+.2f}, worst {min(gains):+.2f}",
        f"{np.mean(errors):.2f}" if errors else "",
    ]  # fmt: skip


def _gain(chosen: Sequence[TrainedTask], loss: str, method: str, group: str | None) -> str:
    some = [task for task in chosen if task.has(loss, method)]
    gains = [(task.data_set, task.gain(loss, method, group)) for task in some]
    known = [pair for pair in gains if not np.isnan(pair[1])]
    return str(over_data_sets(known)) if known and loss != PLAIN else ""


def _cell(task: TrainedTask, loss: str, method: str) -> str:
    if not task.has(loss, method):
        return ""
    setting = task.by_loss[loss]
    return f"{setting.mean(method, 'near'):.2f}, {setting.mean(method):.2f}"
