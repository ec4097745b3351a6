"""Fresh coders of recipe `v0_1_1`, one for each watched layer of a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nervecode.core import Reducer, SoftAssignment
from nervecode.layers.coder import Coder
from nervecode.layers.layout import Layout, output_layouts, widths_before
from nervecode.layers.learned_coder import LearnedCoder
from nervecode.layers.select import Selector, select_layers


def fresh_coders(
    model: nn.Module,
    layers: Selector,
    *,
    num_codes: int = 16,
    coding_dim: int = 8,
    assignment: SoftAssignment | None = None,
    detach: bool = False,
) -> dict[str, Coder]:
    """Layer -> its coder, drawn one after another from PyTorch's global random numbers.

    Arguments and errors are those of `nervecode.wrap`.
    """
    modules, picks = select_layers(model, layers), _picks(model, layers)
    widths = widths_before(model)
    with torch.inference_mode(False):  # whose tensors could not be used outside of it
        return {
            name: LearnedCoder(
                layout.width,
                num_codes=num_codes,
                coding_dim=coding_dim,
                assignment=assignment,
                reducer=_reducer(layout, widths[modules[name]], picks.get(name)),
                detach=detach,
                guess=widths[modules[name]],
            )
            for name, layout in output_layouts(model, modules, picks).items()
        }


def _reducer(layout: Layout, before: int | None, pick: str | int | None) -> Reducer:
    """Finds channels by the width of what came `before` where a layer, as an activation, has none.

    Maps of one dimension, (B, C, T), would be taken for tokens, (B, T, C), without it.
    """
    if layout.width is None and layout.channel_dim is None:
        layout = layout._replace(width=before)
    return Reducer("mean", **layout._asdict(), pick=pick)


def _picks(model: nn.Module, layers: Selector) -> dict[str, str | int]:
    """Layer -> the part of its output that is watched, where `layers` is a mapping."""
    if not isinstance(layers, Mapping):
        return {}
    return {
        name: part for selector, part in layers.items() for name in select_layers(model, selector)
    }
