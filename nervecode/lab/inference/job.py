"""Job: new inputs scored by a finished run or its graph, whole or a shard, into a file."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nervecode import __version__
from nervecode.errors import InputError
from nervecode.lab.inference.distinct import distinct
from nervecode.lab.inference.open import open_inputs, open_scorer
from nervecode.lab.inference.output import check_output, write_scored
from nervecode.lab.inference.scored import Scored, Summary, some
from nervecode.lab.inference.scorer import Scorer, check_alpha, score_source
from nervecode.lab.inference.selection import check_rate, selected
from nervecode.lab.inference.shards import Shard, read_chunks
from nervecode.lab.inference.source import Source
from nervecode.lab.machine.progress import Progress
from nervecode.scoring.false_alarms import promise

ALPHA = 0.05  # the rate of false alarms where none is asked for


@dataclass(frozen=True)
class ScoringJob:
    """Which inputs are scored, by which model, and where the scores go.

    Attributes:
        model: a calibrated run, or a graph in ONNX that was exported of one.
        input: as `open_inputs` takes it.
        output: a `.csv`, `.jsonl` or `.npz` file; None only counts.
        shard: the part of the inputs, which has a file of its own; None for all of them.
        alpha: p-values up to here are flagged; None is `ALPHA`, or no flags where the run has too
            few calibration inputs for it.
        fdr: instead of alpha: select from all inputs with control of this false-discovery rate.
        seed: whose model; None takes the run's first.
        device: None takes the config's.
        workers: threads that decode images; None is one a core.
        skip_bad: leave unreadable images, and rows with NaN or infinity, out.
        force: replace a file that exists.
    """

    model: Path
    input: str
    output: Path | None = None
    shard: Shard | None = None
    alpha: float | None = None
    fdr: float | None = None
    seed: int | None = None
    device: str | None = None
    workers: int | None = None
    skip_bad: bool = False
    force: bool = False

    @property
    def rate(self) -> float:
        """The alpha that was asked for, or `ALPHA`."""
        return ALPHA if self.alpha is None else self.alpha

    @property
    def path(self) -> Path | None:
        """The file that is written.

        Raises:
            InputError: a shard without an output, or with one that is no `.npz`.
        """
        if self.shard is None:
            return self.output
        if self.output is None:
            raise InputError("--shard: needs --output FILE.npz")
        return self.shard.path(self.output)

    def work(self, progress: Progress) -> Summary | None:
        """Score, in memory that does not grow with the number of inputs.

        Returns:
            What was scored; None where the shard was done before.

        Raises:
            InputError: an output that cannot or must not be written, or inputs that cannot be read.
            ArtifactError: the run is not calibrated, or a file is missing or damaged.
        """
        check_alpha(self.rate)
        self._check_fdr()
        path = self.path
        if path is not None:
            check_output(path, force=self.force or self.shard is not None)
        scorer = open_scorer(self.model, self.seed, device=self.device)
        alpha = self._alpha(scorer, progress)
        workers = self.workers or os.cpu_count() or 1
        source = open_inputs(
            self.input,
            scorer.shape,
            encoder=scorer.encoder,
            skip_bad=self.skip_bad,
            workers=workers,
            resize=scorer.resize,
        )
        scorer.check(source)
        for remark in source.remarks:
            progress.tell(remark)
        settings = self._settings(scorer, source)
        part = replace(self.shard or Shard(1, 1), units=source.units, settings=settings)
        if self._is_done(part):
            return None
        return self._score(scorer, source, part, alpha, progress)

    def _alpha(self, scorer: Scorer, progress: Progress) -> float | None:
        """The rate at which inputs are flagged; None with a remark where that is too small.

        Raises:
            InputError: it is too small, and was asked for.
        """
        n, smallest = scorer.num_samples, scorer.smallest_alpha
        if self.fdr is not None:
            return None
        if self.rate >= smallest:
            return self.rate
        few = f"the {n} calibration inputs give no p-value below 1/{n + 1} = {smallest:.2g}"
        if self.alpha is not None:
            raise InputError(f"--alpha: found {self.alpha}, allowed: {smallest:.2g} or more; {few}")
        progress.tell(f"no input is flagged at alpha {ALPHA}: {few}")
        return None

    def _check_fdr(self) -> None:
        """Refuse a false-discovery rate that cannot be controlled here."""
        if self.fdr is None:
            return
        check_rate(self.fdr)
        if self.alpha is not None:
            raise InputError("--alpha and --fdr: found both, allowed: one rule for the flags")
        if self.shard is not None:
            raise InputError(
                "--fdr and --shard: found both, allowed: `nervecode merge --fdr`, since the "
                "selection takes the p-values of all shards"
            )

    def _settings(self, scorer: Scorer, source: Source) -> dict[str, Any]:
        """What every score depends on: shards with other settings are of another scoring."""
        return {
            **scorer.identity,
            "alpha": self.rate,
            "input": source.identity,
            "nervecode": __version__,
        }

    def _is_done(self, part: Shard) -> bool:
        """Whether the file is there, and holds this very shard.

        Raises:
            InputError: it holds something else.
        """
        path = self.path
        if self.shard is None or self.force or path is None or not path.exists():
            return False
        if not part.is_done(path):
            raise InputError(
                f"--output {path}: exists, and is another or damaged; --force replaces it"
            )
        return True

    def _score(
        self,
        scorer: Scorer,
        source: Source,
        part: Shard,
        alpha: float | None,
        progress: Progress,
    ) -> Summary:
        summary, began = Summary(), time.monotonic()
        scored = score_source(scorer, source, part.range, alpha=alpha, progress=progress)
        rows = scored if self.shard else some(scored, self.input)
        extra = part.header() if self.shard else None
        if self.fdr is None:
            self._write(summary.watching(rows), extra)
            if alpha is not None:
                progress.tell(promise(scorer.num_samples, alpha))
        else:
            self._write_selected(rows, part, self.fdr, summary)
            if not summary.flagged:
                progress.tell(_too_few(scorer.num_samples, summary.count, self.fdr))
        summary.seconds = time.monotonic() - began
        return summary

    def _write(self, chunks: Iterable[Scored], extra: dict[str, np.ndarray] | None = None) -> None:
        path = self.path
        if path is None:
            deque(chunks, maxlen=0)
        else:
            write_scored(distinct(chunks, path.parent), path, extra=extra, force=self.force)

    def _write_selected(
        self, rows: Iterable[Scored], part: Shard, rate: float, summary: Summary
    ) -> None:
        """Keep the rows on disk until all p-values are known, then write them with their flags."""
        folder = None if self.path is None else self.path.parent
        with TemporaryDirectory(dir=folder, prefix=".nervecode-") as kept:
            whole = Path(kept) / "whole.npz"
            write_scored(rows, whole, extra=part.header())
            self._write(summary.watching(selected(lambda: read_chunks(whole), rate)))


def _too_few(n: int, number: int, rate: float) -> str:
    needed = math.ceil(number / (rate * (n + 1)))
    return (
        f"no input is selected: with {n} calibration inputs, {needed} of {number} or more must "
        "have the smallest p-value"
    )
