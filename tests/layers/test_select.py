"""Selection by shortcut, name, glob and predicate."""

from pathlib import Path
from typing import Any

import pytest
import torchvision
from torch import nn

from nervecode.errors import InputError
from nervecode.layers import load, select_layers, wrap
from tests.layers.zoo import ZOO, mlp


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=10)


def test_blocks_of_a_resnet(resnet: nn.Module) -> None:
    names = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert list(select_layers(resnet, "all_blocks")) == names
    assert list(select_layers(resnet, "last_two_blocks")) == names[-2:]
    assert list(select_layers(resnet, "last_block")) == names[-1:]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit", ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"]),
        ("transformer", ["layers.0", "layers.1"]),
        ("mlp", ["1", "3"]),  # no blocks: the activations
        ("lstm", ["head"]),  # no activations either: linear layers and convolutions
    ],
)
def test_blocks_of_other_models(name: str, expected: list[str]) -> None:
    assert list(select_layers(ZOO[name].build(), "all_blocks")) == expected


def test_types(resnet: nn.Module) -> None:
    convolutions = select_layers(resnet, "all_conv")
    assert len(convolutions) == 20
    assert all(isinstance(m, nn.Conv2d) for m in convolutions.values())
    assert list(select_layers(mlp(), "all_linear")) == ["0", "2", "4"]
    assert list(select_layers(mlp(), "first_linear")) == ["0"]


def test_names_globs_and_predicates(resnet: nn.Module) -> None:
    assert list(select_layers(resnet, "layer2.1.conv2")) == ["layer2.1.conv2"]
    assert list(select_layers(resnet, "layer?.1")) == [f"layer{i}.1" for i in (1, 2, 3, 4)]
    assert "layer2.0.downsample.1" in select_layers(resnet, "layer*.1")  # a star crosses dots
    # In the model's order, once each, whatever the order of the selectors.
    assert list(select_layers(resnet, ["fc", "conv1", "con*1"])) == ["conv1", "fc"]
    found = select_layers(resnet, lambda name, m: isinstance(m, nn.BatchNorm2d) and "0" in name)
    assert set(map(type, found.values())) == {nn.BatchNorm2d}


def test_a_shared_module_is_one_place() -> None:
    layer = nn.Linear(6, 6)
    assert list(select_layers(nn.Sequential(layer, nn.ReLU(), layer), "all_linear")) == ["0"]


@pytest.mark.parametrize("layers", ["all_blocks", "all_linear", "weight"])
def test_a_model_without_parts_is_told_as_such(layers: str) -> None:
    with pytest.raises(InputError) as caught:
        select_layers(nn.Linear(3, 3), layers)
    assert str(caught.value) == (
        f"layers: '{layers}' matches no module of Linear, which has no parts; "
        "wrap nn.Sequential(model) instead"
    )


def test_a_shortcut_is_not_the_nearest_match_of_itself() -> None:
    with pytest.raises(InputError) as caught:
        select_layers(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "all_conv")
    text = "layers: 'all_conv' matches no module of Sequential; Allowed: 0, 1"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ("layer1.o", "'layer1.o' matches no module of ResNet; did you mean 'layer1.[01]'"),
        ("all_bloks", "did you mean 'all_blocks'"),
        (["fc", "nothing*"], "'nothing\\*' matches no module"),
        ([], "found an empty list"),
        (lambda name, module: False, "the predicate matches no module"),
        (7, "layers: found 7, allowed: the name of a module, a glob, one of all_blocks, last_two_"),
        (None, "layers: found NoneType, allowed: the name of a module"),
        (["fc", 0.5], r"layers: found 0\.5, allowed: .* or a predicate on \(name, module\)$"),
        (nn.ReLU(), "layers: found ReLU, allowed"),
        ([nn.ReLU()], "layers: found ReLU, allowed"),
        (nn.ReLU, "layers: found the class ReLU, allowed"),
    ],
)
def test_what_matches_nothing_is_named(resnet: nn.Module, layers, text: str) -> None:
    with pytest.raises(InputError, match=text):
        select_layers(resnet, layers)


@pytest.mark.parametrize(
    ("model", "found"),
    [(None, "NoneType"), (abs, "builtin_function_or_method"), (nn.Linear, "the class Linear"),
     ([nn.Linear(2, 2)], "list"), ("resnet18", "'resnet18'")],
)  # fmt: skip
def test_what_is_no_model_is_told(model: Any, found: str, tmp_path: Path) -> None:
    for use in (wrap, lambda m: load(tmp_path / "x.safetensors", m)):
        with pytest.raises(InputError) as told:
            use(model)
        assert str(told.value) == f"model: found {found}, allowed: a torch.nn.Module"
