"""Watching the layers of a model."""

from nervecode.layers.coder import Coder
from nervecode.layers.coding import CodingConv2d, CodingLinear
from nervecode.layers.fitted_coder import FittedCoder
from nervecode.layers.fitter import CodeFitter
from nervecode.layers.learned_coder import LearnedCoder
from nervecode.layers.select import select_layers
from nervecode.layers.wrap import WrappedModel, load, wrap

__all__ = [
    "CodeFitter",
    "Coder",
    "CodingConv2d",
    "CodingLinear",
    "FittedCoder",
    "LearnedCoder",
    "WrappedModel",
    "load",
    "select_layers",
    "wrap",
]
