"""FlagRule: which inputs are flagged by their p-values, and what that promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.scorer import Scorer
from nervecode.rates import check_rate
from nervecode.scoring.false_alarms import CONFIDENCE, alpha_within, promise, rounded_up

ALPHA = 0.05  # the rate of false alarms where none is asked for


@dataclass(frozen=True)
class FlagRule:
    """How inputs are flagged.

    Attributes:
        alpha: p-values up to here are flagged; None is `ALPHA`, or no flags where there are too few
            calibration inputs for it.
        confidence: flag at most a fraction alpha for this share of the calibration sets, such as
            0.95; None promises the average over them alone.
        fdr: instead of alpha: select from all inputs with control of this false-discovery rate.
        by_class: p-values are those within the predicted class.
    """

    alpha: float | None = None
    confidence: float | None = None
    fdr: float | None = None
    by_class: bool = False

    @property
    def rate(self) -> float:
        """The alpha that was asked for, or `ALPHA`."""
        return ALPHA if self.alpha is None else self.alpha

    def __str__(self) -> str:
        within = " within classes" if self.by_class else ""
        if self.fdr is not None:
            return f"a false-discovery rate of {self.fdr:g}{within}"
        sure = "" if self.confidence is None else f" with {100 * self.confidence:g} % confidence"
        return f"alpha {self.rate:g}{sure}{within}"

    def check(self, *, sharded: bool) -> None:
        """Refuse what cannot be, before any work is done.

        Raises:
            InputError: a rate outside (0, 1), or rules that exclude one another.
        """
        rates = {"--alpha": self.rate, "--confidence": self.confidence, "--fdr": self.fdr}
        for option, rate in rates.items():
            if rate is not None:
                check_rate(option, rate)
        if self.fdr is None:
            return
        for option, other in (("--alpha", self.alpha), ("--confidence", self.confidence)):
            if other is not None:
                raise InputError(f"{option} and --fdr: found both, allowed: one rule for the flags")
        if sharded:
            raise InputError(
                "--fdr and --shard: found both, allowed: `nervecode merge --fdr`, since the "
                "selection takes the p-values of all shards"
            )

    def alpha_for(self, scorer: Scorer) -> float | None:
        """What is flagged at; None where single p-values decide nothing, or `ALPHA` is too small.

        Raises:
            InputError: an alpha or a confidence that so few calibration inputs cannot serve.
        """
        if self.fdr is not None:
            return None
        if self.confidence is not None:
            try:
                alpha_within(min(scorer.sizes), self.rate, confidence=self.confidence)
            except InputError as error:
                raise InputError(str(error).replace("flag alpha", "--alpha", 1)) from None
            return self.rate
        if self.rate >= scorer.smallest_alpha:
            return self.rate
        if self.alpha is not None:
            raise InputError(
                f"--alpha: found {self.alpha}, allowed: {rounded_up(scorer.smallest_alpha)} or "
                f"more; {_too_few(scorer)}"
            )
        return None

    def flagged(self, chunks: Iterable[Scored], scorer: Scorer) -> Iterator[Scored]:
        """The same rows with flags, where single p-values decide; what is not valid is flagged too.

        Raises:
            InputError: as `alpha_for`.
        """
        alpha = self.alpha_for(scorer)
        for chunk in chunks:
            if alpha is None:
                yield chunk
            else:
                yield replace(chunk, flag=~(chunk.p_value > self._thresholds(chunk, scorer)))

    def _thresholds(self, chunk: Scored, scorer: Scorer) -> float | np.ndarray:
        """() or (N,) what p-values are flagged up to: of each class by its own number of inputs."""
        if self.confidence is None:
            return self.rate
        alphas = {n: alpha_within(n, self.rate, confidence=self.confidence) for n in scorer.sizes}
        behind = [scorer.class_sizes.get(c, scorer.num_samples) for c in chunk.prediction.tolist()]
        return np.array([alphas[n] for n in behind])

    def promises(self, scorer: Scorer) -> list[str]:
        """What flags at `alpha_for` promise, in words."""
        if self.fdr is not None:
            return []
        if self.alpha_for(scorer) is None:
            return [f"no input is flagged at alpha {ALPHA}: {_too_few(scorer)}"]
        n, alpha = min(scorer.sizes), self.rate
        if self.confidence is not None:
            alpha = alpha_within(n, self.rate, confidence=self.confidence)
        told = promise(n, alpha, confidence=self.confidence or CONFIDENCE)
        return [f"within each class by itself: {told}" if scorer.class_sizes else told]


def none_selected(n: int, number: int, rate: float) -> str:
    """Why of a number of inputs none may have been selected, in words."""
    needed = math.ceil(number / (rate * (n + 1)))
    return (
        f"no input is selected: with {n} calibration inputs, {needed} of {number} or more must "
        "have the smallest p-value"
    )


def _too_few(scorer: Scorer) -> str:
    n = min(scorer.sizes)
    return f"the {n} calibration inputs give no p-value below 1/{n + 1} = {1 / (n + 1):.2g}"
