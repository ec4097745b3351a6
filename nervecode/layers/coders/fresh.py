"""Fresh coders of recipe `v0_1_1`, one for each watched layer of a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nervecode.core import Reducer, SoftAssignment
from nervecode.layers.coder import Coder
from nervecode.layers.coders.learned import LearnedCoder
from nervecode.layers.layout import Layout, layouts_before, output_layouts
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
    before = layouts_before(model)
    with torch.inference_mode(False):  # whose tensors could not be used outside of it
        return {
            name: LearnedCoder(
                layout.width,
                num_codes=num_codes,
                coding_dim=coding_dim,
                assignment=assignment,
                reducer=_reducer(layout, before[modules[name]], picks.get(name)),
                detach=detach,
                guess=before[modules[name]].width,
            )
            for name, layout in output_layouts(model, modules, picks).items()
        }


def _reducer(layout: Layout, before: Layout, pick: str | int | None) -> Reducer:
    """Of a layer that says nothing itself, as an activation, behind a convolution over time.

    Maps (B, C, T) would be taken for tokens (B, T, C): C is known from the convolution. What else
    an activation follows is no help: one that serves a whole network is registered once, and its
    maps may be as wide as what came before it has channels.
    """
    unknown = layout.width is None and layout.channel_dim is None
    if unknown and before.channel_dim == 1 and before.ndim == 3:
        layout = layout._replace(width=before.width)
    return Reducer("mean", **layout._asdict(), pick=pick)


def _picks(model: nn.Module, layers: Selector) -> dict[str, str | int]:
    """Layer -> the part of its output that is watched, where `layers` is a mapping."""
    if not isinstance(layers, Mapping):
        return {}
    return {
        name: part for selector, part in layers.items() for name in select_layers(model, selector)
    }
