"""The registry of detectors: what is known of each before it is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from nervecode.errors import InputError
from nervecode.lab.registry import Function, Registry

if TYPE_CHECKING:
    from torch import Tensor

    from nervecode.lab.models.classifier import Classifier
    from nervecode.lab.models.features import Features

Score = Callable[["Features"], "Tensor"]
Option = bool | int | float
Reads = Literal["logits", "features", "blocks", "inputs"]


@dataclass(frozen=True)
class Detector:
    """A baseline, called with what the network said of ID train, and the network.

    Attributes:
        name: its own, and of its function: (features of ID train, classifier, *, options) ->
            scorer of the features of a split. The function of NAME++ is NAME_pp.
        module: which holds the function.
        reads: the part of a split that it scores. Detectors that read `inputs` run the network
            again, those that read anything else never do.
        paper: where its authors describe it.
        options: its hyperparameters that a config may set, with their defaults.
        offered: the function itself, of an installed package; None looks it up in `module`.
    """

    name: str
    module: str
    reads: Reads
    paper: str
    options: Mapping[str, Option] = field(default_factory=dict)
    offered: Callable[..., Score] | None = None

    def __call__(self, train: Features, model: Classifier, **options: Option) -> Score:
        """Fit on ID train; returns a scorer: features of a split -> (N,) scores."""
        score: Score = self.function(train, model, **{**self.options, **options})
        return score

    @property
    def function(self) -> Callable[..., Score]:
        """What fits it."""
        if self.offered is not None:
            return self.offered
        name = self.name.replace("++", "_pp")
        function: Callable[..., Score] = Function(f"{__package__}.{self.module}", name).load()
        return function

    @property
    def summary(self) -> str:
        """One line on what it measures."""
        return inspect.getdoc(self.function).splitlines()[0]  # type: ignore[union-attr]

    @property
    def slow(self) -> bool:
        """Whether it costs further passes over every split, instead of reading cached tensors."""
        return self.reads == "inputs"


_DETECTORS = (
    Detector("msp", "logits", "logits", "https://arxiv.org/abs/1610.02136"),
    Detector("maxlogit", "logits", "logits", "https://arxiv.org/abs/1911.11132"),
    Detector("energy", "logits", "logits", "https://arxiv.org/abs/2010.03759"),
    Detector("entropy", "logits", "logits", "https://arxiv.org/abs/2012.06575"),
    Detector(
        "gen",
        "logits",
        "logits",
        "https://github.com/XixiLiu95/GEN",
        {"gamma": 0.1, "classes": 100},
    ),
    Detector(
        "mahalanobis",
        "distances",
        "features",
        "https://arxiv.org/abs/1807.03888",
        {"shrinkage": 0.0},
    ),
    Detector(
        "mahalanobis++",
        "distances",
        "features",
        "https://arxiv.org/abs/2505.18032",
        {"shrinkage": 0.0},
    ),
    Detector("multi_mahalanobis", "distances", "blocks", "https://arxiv.org/abs/1807.03888"),
    Detector("multi_mahalanobis++", "distances", "blocks", "https://arxiv.org/abs/2505.18032"),
    Detector("rmd", "distances", "features", "https://arxiv.org/abs/2106.09022"),
    Detector("rmd++", "distances", "features", "https://arxiv.org/abs/2505.18032"),
    Detector(
        "knn",
        "distances",
        "features",
        "https://arxiv.org/abs/2204.06507",
        {"k": 0, "normalise": True},
    ),
    Detector("gmm", "distances", "features", "https://pytorch-ood.readthedocs.io"),
    Detector("gmm++", "distances", "features", "https://arxiv.org/abs/2505.18032"),
    Detector("pnml", "distances", "features", "https://arxiv.org/abs/2110.09246"),
    Detector("vim", "distances", "features", "https://arxiv.org/abs/2203.10807"),
    Detector("residual", "distances", "features", "https://arxiv.org/abs/2203.10807", {"axes": 0}),
    Detector(
        "react",
        "head",
        "features",
        "https://arxiv.org/abs/2111.12797",
        {"percentile": 90.0},
    ),
    Detector(
        "ash",
        "head",
        "features",
        "https://arxiv.org/abs/2209.09858",
        {"percentile": 0.0},
    ),
    Detector(
        "scale",
        "head",
        "features",
        "https://arxiv.org/abs/2310.00227",
        {"percentile": 0.0},
    ),
    Detector("she", "head", "features", "https://openreview.net/forum?id=KkazG4lgKL"),
    Detector(
        "nci",
        "head",
        "features",
        "https://arxiv.org/abs/2311.01479",
        {"alpha": 1e-4},
    ),
    Detector("fdbd", "head", "features", "https://arxiv.org/abs/2312.11536"),
    Detector("nnguide", "head", "features", "https://arxiv.org/abs/2309.14888"),
    Detector("nac", "nac", "features", "https://arxiv.org/abs/2306.02879"),
    Detector(
        "weiper_kld",
        "weiper",
        "features",
        "https://arxiv.org/abs/2405.17164",
        {
            "distance": 1.8,
            "lambda_1": 2.5,
            "lambda_2": 0.1,
            "smoothing": 4,
            "smoothing_logits": 15,
        },
    ),
    Detector(
        "odin",
        "rerun",
        "inputs",
        "https://arxiv.org/abs/1706.02690",
        {"temperature": 1000.0, "step": 0.0014},
    ),
    Detector("adascale", "adascale", "inputs", "https://arxiv.org/abs/2503.08023", {"p_max": 85.0}),
    Detector("gram", "rerun", "inputs", "https://arxiv.org/abs/1912.12510"),
)


def _offered(name: str, function: Callable[..., Score]) -> Detector:
    """A detector of an installed package; its attribute `reads` is `features` without one.

    Raises:
        InputError: `reads` is no part of a split, or an option has no default.
    """
    reads: Any = getattr(function, "reads", "features")
    parts = get_args(Reads)
    if reads not in parts:
        raise InputError(f"detector {name!r}: reads {reads!r}, allowed: {', '.join(parts)}")
    parameters = inspect.signature(function).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for option, default in options.items():
        if not isinstance(default, (bool, int, float)):
            raise InputError(f"detector {name!r}: option {option} has no number as its default")
    return Detector(name, function.__module__, reads, "", options, function)


DETECTORS: Registry[Detector] = Registry(
    "detector",
    {detector.name: detector for detector in _DETECTORS},
    group="nervecode.detectors",
    adapt=_offered,
)
"""Name -> baseline."""
