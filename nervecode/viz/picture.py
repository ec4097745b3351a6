"""Picture: what every kind of plot shares, from its arguments to its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nervecode.viz.saved import Saved
from nervecode.viz.style import finish, save, styled

Plot = Callable[..., Path]
POOLED = ("matrix", "training")  # kinds of all seeds; the others are of one


@dataclass(frozen=True)
class Picture:
    """A figure, and what is said above and below it.

    `seeds` says of which it is; None is the one seed that was asked for.
    """

    figure: Figure
    title: str
    caption: str
    seeds: str | None = None


def plot(kind: str) -> Callable[[Callable[..., Picture]], Plot]:
    """Make a function of saved files a plot of a run, in the house style and stamped.

    The plot takes the run's path and, by name,
        seed: None takes the first.
        ood: OOD sets; None takes all of the run.
        output: `.png`, `.svg` or `.pdf`; None writes into the run's `plots/`.
        force: replace an output that exists.
    and what the function has of its own; it returns the path of the picture. It raises an
    InputError for an unknown seed, OOD set or suffix and for an output that exists, and an
    ArtifactError for a file of the run that is missing or damaged.
    """

    def decorate(draw: Callable[..., Picture]) -> Plot:
        @wraps(draw)
        def drawn(
            run: Path,
            *,
            seed: int | None = None,
            ood: Sequence[str] | None = None,
            output: Path | None = None,
            force: bool = False,
            **options: Any,
        ) -> Path:
            saved = Saved(run, seed=seed, ood=ood)
            path = saved.output(kind, output, force=force)
            with styled():
                picture = draw(saved, **options)
                which = picture.seeds or f"seed {saved.seed}"
                title = f"{saved.meta['name']}: {picture.title} ({which})"
                finish(picture.figure, title=title, caption=picture.caption, stamp=saved.stamp)
                return save(picture.figure, path)

        return drawn

    return decorate
