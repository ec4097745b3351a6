"""Job: new inputs scored by a finished run or its graph, whole or a shard, into a file."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nervecode import __version__
from nervecode.errors import InputError
from nervecode.files import check_apart
from nervecode.lab.inference.distinct import distinct
from nervecode.lab.inference.flags import FlagRule, none_selected
from nervecode.lab.inference.open import open_inputs, open_scorer, without_kind
from nervecode.lab.inference.output import check_output, write_scored
from nervecode.lab.inference.scored import Scored, Summary, some
from nervecode.lab.inference.scorer import Scorer, score_source
from nervecode.lab.inference.selection import selected, unpooled
from nervecode.lab.inference.shards import Shard, read_chunks
from nervecode.lab.inference.source import Source
from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.paths import check_outside_runs


@dataclass(frozen=True)
class ScoringJob:
    """Which inputs are scored, by which model, and where the scores go.

    Attributes:
        model: a calibrated run, or a graph in ONNX that was exported of one.
        input: as `open_inputs` takes it.
        output: a `.csv`, `.jsonl` or `.npz` file; None only counts.
        shard: the part of the inputs, which has a file of its own; None for all of them.
        rule: which of them are flagged.
        seed: whose model; None takes the run's first.
        device: None takes the config's.
        workers: threads that decode images; None is one per core.
        skip_bad: leave out images and rows that cannot be read, or hold NaN or infinity.
        force: replace a file that exists.
    """

    model: Path
    input: str
    output: Path | None = None
    shard: Shard | None = None
    rule: FlagRule = field(default_factory=FlagRule)
    seed: int | None = None
    device: str | None = None
    workers: int | None = None
    skip_bad: bool = False
    force: bool = False

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
        self.rule.check(sharded=self.shard is not None)
        path = self.path
        if path is not None:
            check_output(path, force=self.force or self.shard is not None)
            check_outside_runs(path)
            check_apart(path, Path(without_kind(self.input)).expanduser(), what="--output")
        scorer = open_scorer(self.model, self.seed, device=self.device)
        if self.rule.by_class:
            scorer.group_by_class()
        self.rule.alpha_for(scorer)  # what cannot be promised is refused before the work
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
        if scorer.gate_passed is False:
            progress.tell("the run did not pass its accuracy gate, and its figures are withheld")
        for remark in (*scorer.remarks, *source.remarks):
            progress.tell(remark)
        if scorer.classes:
            named = ", ".join(f"{number} {name}" for number, name in enumerate(scorer.classes))
            progress.tell(f"classes: {named}")
        settings = self._settings(scorer, source)
        part = replace(self.shard or Shard(1, 1), units=source.units, settings=settings)
        if self._is_done(part):
            return None
        return self._score(scorer, source, part, progress)

    def _settings(self, scorer: Scorer, source: Source) -> dict[str, Any]:
        """What every score depends on: shards with other settings are of another scoring."""
        return {
            **scorer.identity,
            "alpha": self.rule.rate,
            "confidence": self.rule.confidence,
            "by_class": self.rule.by_class,
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

    def _score(self, scorer: Scorer, source: Source, part: Shard, progress: Progress) -> Summary:
        summary, began = Summary(), time.monotonic()
        scored = score_source(scorer, source, part.range, progress=progress)
        scored = self.rule.flagged(scored, scorer)
        rows = scored if self.shard else some(scored, self.input)
        extra = part.header() if self.shard else None
        if self.rule.fdr is None:
            self._write(summary.watching(rows), extra)
            for promise in self.rule.promises(scorer):
                progress.tell(promise)
        else:
            self._write_selected(unpooled(rows), part, self.rule.fdr, summary)
            if not summary.flagged:
                progress.tell(none_selected(scorer.num_samples, summary.count, self.rule.fdr))
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
