"""Watching the layers of a model."""

from nervecode.layers.coder import Coder
from nervecode.layers.coders.fitted import FittedCoder
from nervecode.layers.coders.learned import LearnedCoder
from nervecode.layers.coding import CodingConv2d, CodingLinear
from nervecode.layers.fitter import CodeFitter
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
