"""Registries: names without modules, and that either has what the other says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from nervecode.errors import InputError
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS, OUTLIERS, SHIFTS
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.models.registry import LIBRARIES, MODELS
from nervecode.lab.registry import Registry, functions
from tests.architecture.test_imports import loaded

FUNCTIONS = {**DATASETS, **IMAGE_SETS, **OUTLIERS, **SHIFTS, **MODELS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_stands_for_the_function_of_that_name(name: str) -> None:
    function: Any = FUNCTIONS[name]
    assert name in (function.load().__name__, *function.arguments)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_takes_the_options_that_are_said_of_it(name: str) -> None:
    parameters = inspect.signature(DETECTORS[name].function).parameters.values()
    options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(options) == set(DETECTORS[name].options)
    for option, default in DETECTORS[name].options.items():
        assert options[option].annotation == type(default).__name__
        assert options[option].default is inspect.Parameter.empty  # it stands in the registry alone


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_lists_its_models(library: str) -> None:
    pytest.importorskip(library)
    assert "resnet18" in LIBRARIES[library].names()


def test_an_unknown_name_shows_the_nearest() -> None:
    registry = Registry("colour", {"red": 1, "green": 2})
    assert registry["red"] == 1
    with pytest.raises(InputError, match="unknown colour 'gren'; did you mean 'green'"):
        registry["gren"]


def test_a_function_is_loaded_when_it_is_called() -> None:
    table = functions("nowhere", room="f g")
    assert list(table) == ["f", "g"]
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        table["f"]()


def test_names_and_options_are_known_without_what_they_stand_for() -> None:
    modules = loaded("from nervecode.lab.config.names import unknown_names")
    assert "nervecode" in modules
    assert modules.isdisjoint({"torch", "torchvision", "numpy", "pytorch_ood", "sklearn", "timm"})
