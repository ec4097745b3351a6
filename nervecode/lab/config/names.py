"""Names: those in a config against the registries, which alone know them.

It reads plain values, whose types nobody has checked yet, so that unknown names are told together
with all other problems of a config. A name that is no text is left to the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nervecode.errors import did_you_mean, nearest
from nervecode.files import suffix_of
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS, OUTLIERS, SHIFTS
from nervecode.lab.detectors.registry import DETECTORS, Detector, Option
from nervecode.lab.models.registry import LIBRARIES, MODELS
from nervecode.lab.models.user_code import SYNTAX, fault, is_user_code
from nervecode.lab.registry import Registry
from nervecode.lab.schema import NO_LOSS, PATHS, Problem
from nervecode.lab.trainer.registry import CODING_LOSSES, LOSSES, RANGES, Loss

FILES = {".csv": "table", ".tsv": "table", ".parquet": "table", ".npz": "array", ".npy": "array",
         ".ts": "series"}  # fmt: skip
"""Suffix of a file -> the kind of set that such files mostly are."""
REGISTRIES: tuple[Registry[Any], ...] = (MODELS, DATASETS, DETECTORS)
"""Those that installed packages add to."""


def unknown_names(values: Mapping[str, Any]) -> list[Problem]:
    """Every name in a config that no registry knows, as (dotted key, what is allowed).

    Raises:
        MissingExtraError: a model of a library that is not installed.
    """
    data, model, train, bench = (
        _mapping(values.get(key)) for key in ("data", "model", "train", "bench")
    )
    return [*_sets(data), *_model(model.get("name")), *_losses(train), *_detectors(bench)]


def hidden_names(values: Mapping[str, Any]) -> list[str]:
    """What is to be told of the names in a config that somebody else offers too."""
    used = offered_names(values)
    return [registry.hidden[name] for registry, name in used if name in registry.hidden]


def offered_names(values: Mapping[str, Any]) -> list[tuple[Registry[Any], str]]:
    """Every name in a config that an installed package may offer, and the registry that has it."""
    data, model, bench = (_mapping(values.get(key)) for key in ("data", "model", "bench"))
    sets = _texts([data.get("id"), *_texts(data.get("near")), *_texts(data.get("far"))])
    return [
        *((MODELS, name) for name in _texts([model.get("name")])),
        *((DATASETS, spec.partition(":")[0]) for spec in sets),
        *((DETECTORS, name) for name in _texts(bench.get("detectors"))),
    ]


def _sets(data: Mapping[str, Any]) -> Iterator[Problem]:
    for spec in _texts([data.get("id")]):
        # A labelled set has no argument; what is given by path has one.
        kind = spec.partition(":")[0]
        name = kind if kind in PATHS else spec
        yield from _unknown("data.id", "dataset", name, [*DATASETS, *IMAGE_SETS, *PATHS])
    outside = ["held_out", *DATASETS, *IMAGE_SETS, *PATHS, *OUTLIERS]
    for key, kind, allowed in (
        ("near", "dataset", outside), ("far", "dataset", outside), ("shift", "shift", SHIFTS)
    ):  # fmt: skip
        for spec in _texts(data.get(key)):
            yield from _unknown(f"data.{key}", kind, spec.partition(":")[0], allowed)


def _model(name: Any) -> Iterator[Problem]:
    library, colon, theirs = name.partition(":") if isinstance(name, str) else ("", "", "")
    if isinstance(name, str) and is_user_code(name):
        if wrong := fault(name):
            yield "model.name", wrong
    elif colon and library in LIBRARIES:
        names = LIBRARIES[library].names()
        if theirs not in names:
            near = get_close_matches(theirs, names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            allowed = f"Allowed: what `{LIBRARIES[library].lister}()` lists"
            yield "model.name", f"unknown {library} model {theirs!r}; {hint}{allowed}"
    elif isinstance(name, str):
        allowed_names = [*MODELS, *(f"{library}:NAME" for library in LIBRARIES), SYNTAX]
        yield from _unknown("model.name", "model", name, allowed_names)


def _losses(train: Mapping[str, Any]) -> Iterator[Problem]:
    loss, coding = train.get("loss", "cross_entropy"), train.get("coding_loss", NO_LOSS)
    if isinstance(coding, str):
        yield from _unknown("train.coding_loss", "loss in bits", coding, [NO_LOSS, *CODING_LOSSES])
        entry = CODING_LOSSES.get(coding)
        if entry is not None and entry.reads == "logits" and "coding_layers" in train:
            what = f"found {train['coding_layers']!r}, allowed: none, since {coding} prices logits"
            yield "train.coding_layers", what
    if isinstance(loss, str):
        yield from _unknown("train.loss", "loss", loss, LOSSES)
    if isinstance(loss, str) and loss in LOSSES:
        given = _mapping(train.get("loss_options"))
        wrong = list(_options("train.loss_options", loss, given, LOSSES[loss]))
        yield from wrong or _out_of_range(given)


def _out_of_range(options: Mapping[Any, Any]) -> Iterator[Problem]:
    for option, value in options.items():
        holds, allowed = RANGES[option]
        if not holds(value):
            yield f"train.loss_options.{option}", f"found {value!r}, allowed: {allowed}"


def _detectors(bench: Mapping[str, Any]) -> Iterator[Problem]:
    for name in _texts(bench.get("detectors")):
        yield from _unknown("bench.detectors", "detector", name, DETECTORS)
    for name, options in _mapping(bench.get("options")).items():
        key = f"bench.options.{name}"
        if name not in DETECTORS:
            yield from _unknown(key, "detector", name, DETECTORS)
            continue
        yield from _options(key, name, options, DETECTORS[name])


def _options(key: str, name: str, options: Any, owner: Detector | Loss) -> Iterator[Problem]:
    defaults = owner.options
    for option, value in _mapping(options).items():
        where = f"{key}.{option}"
        if option not in defaults:
            yield from _unknown(where, f"option of {name}", option, defaults)
        elif not _alike(value, defaults[option]):
            yield where, f"found {value!r}, allowed: as {defaults[option]!r}"


def _alike(value: Any, default: Option) -> bool:
    """Whether an option has the type of its default; a whole number is a number, a truth is not."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _unknown(key: str, kind: str, name: Any, allowed: Iterable[str]) -> Iterator[Problem]:
    allowed = list(dict.fromkeys(allowed))
    if name not in allowed and kind == "dataset" and (spec := _spelled(name)):
        yield key, f"unknown {kind} {name!r}; did you mean {spec!r}?"
    elif name not in allowed:
        yield key, f"unknown {kind} {name!r}; {did_you_mean(name, allowed)}"


def _spelled(name: str) -> str | None:
    """A file in the place of a set's name, or behind a kind that is none, as it is spelled."""
    kind, colon, path = name.partition(":")
    known = (nearest(kind, PATHS) if colon else None) or FILES.get(suffix_of(Path(name)))
    return known and f"{known}:{path if colon else name}"


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    """The texts of a list, each once."""
    several = value if isinstance(value, (list, tuple)) else ()
    return list(dict.fromkeys(text for text in several if isinstance(text, str)))
