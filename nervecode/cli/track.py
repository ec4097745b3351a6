"""`--track`: TensorBoard and MLflow, which watch a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.options import completing
from nervecode.cli.show import say

if TYPE_CHECKING:
    from nervecode.lab.machine.tracking import Tracking
    from nervecode.lab.run.directory import RunDir


def _trackers() -> Iterable[str]:
    from nervecode.lab.machine.tracking import TRACKERS

    return TRACKERS


Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        envvar="NERVECODE_TRACK",
        autocompletion=completing(_trackers),
        help="tensorboard or mlflow, to watch; may be given twice. They write beside the runs.",
    ),
]


@contextmanager
def tracked(names: Sequence[str] | None, run: RunDir) -> Iterator[Tracking | None]:
    """The trackers of a run within the block; of several processes, the first alone has any."""
    from nervecode.lab.machine.tracking import Tracking
    from nervecode.lab.ranks.job import current

    if not names or not current().leads:
        yield None
        return
    tracking = Tracking(names, run.root, warn=say)
    try:
        yield tracking
    finally:
        tracking.close()
