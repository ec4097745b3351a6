"""The registry of losses: names and options, known before any of them is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from nervecode.lab.registry import Registry

Option = bool | int | float


@dataclass(frozen=True)
class Loss:
    """A loss by its class, which is loaded when it is called.

    Attributes:
        module: which holds the class.
        name: of the class.
        paper: where its authors describe it.
        options: its hyperparameters that a config may set, with their defaults.
        reads: of a loss in bits, what it prices: `layers` or `logits`.
    """

    module: str
    name: str
    paper: str
    options: Mapping[str, Option] = field(default_factory=dict)
    reads: str = "layers"

    def __call__(self, *args: Any, **options: Option) -> Any:
        """The loss, with its defaults where an option is not given."""
        return getattr(import_module(self.module), self.name)(*args, **{**self.options, **options})


# Option -> whether a value is one, and what is allowed.
RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "smoothing": (lambda value: 0 <= value < 1, "0 or more, below 1"),
    "temperature": (lambda value: 0 < value < math.inf, "more than 0, finite"),
    "momentum": (lambda value: 0 <= value < 1, "0 or more, below 1"),
    "weight": (lambda value: 0 <= value < math.inf, "0 or more, finite"),
}

_HERE = "nervecode.lab.trainer.losses"

LOSSES: Registry[Loss] = Registry(
    "loss",
    {
        "cross_entropy": Loss(_HERE, "CrossEntropy", ""),
        "label_smoothing": Loss(
            _HERE, "CrossEntropy", "https://arxiv.org/abs/1512.00567", {"smoothing": 0.1}
        ),
        "logit_norm": Loss(
            _HERE, "LogitNorm", "https://arxiv.org/abs/2205.09310", {"temperature": 0.04}
        ),
        "t2f_norm": Loss(
            _HERE, "T2FNorm", "https://arxiv.org/abs/2305.17797", {"temperature": 0.1}
        ),
        "cider": Loss(
            _HERE,
            "Cider",
            "https://arxiv.org/abs/2203.04450",
            {"temperature": 0.1, "momentum": 0.95, "weight": 2.0},
        ),
    },
)

_BITS = "nervecode.training.bits"

CODING_LOSSES: Registry[Loss] = Registry(
    "loss in bits",
    {
        "rate": Loss(_BITS, "CodeRate", "https://arxiv.org/abs/2006.08558"),
        "code_price": Loss(_BITS, "CodePrice", "https://papers.nips.cc/paper/2566"),
        "mixture_price": Loss(
            _BITS, "MixturePrice", "https://arxiv.org/abs/1806.05236", reads="logits"
        ),
        "batch_price": Loss(_BITS, "BatchPrice", "https://arxiv.org/abs/2004.11362"),
    },
)
