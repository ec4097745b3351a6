"""The registry of models. It loads a model's module with the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nervecode.lab.registry import Function, Registry, functions

if TYPE_CHECKING:
    from nervecode.lab.data.samples import Shape
    from nervecode.lab.models.classifier import Classifier
    from nervecode.lab.schema import ModelConfig

HERE = "nervecode.lab.models"

BuildModel = Callable[["ModelConfig", "Shape", int], "Classifier"]


def _offered(name: str, factory: Callable[[Shape, int], Any]) -> BuildModel:
    """A network of an installed package, as `python:MODULE:FUNCTION` would have it."""
    return lambda config, shape, num_classes: OWN(factory, config, shape, num_classes)


OWN = Function(f"{HERE}.own", "own")
MODELS: Registry[BuildModel] = Registry(
    "model",
    functions(
        HERE,
        conv1d="conv1d",
        embedding="embedding",
        mlp="mlp",
        resnet="resnet18 resnet34 resnet50 wide_resnet28_10",
        small_cnn="small_cnn",
        vit="vit",
    ),
    group="nervecode.models",
    adapt=_offered,
)
"""Name -> (config, shape of one input, number of classes) -> an untrained Classifier."""


class Library(NamedTuple):
    """Where other people's models come from; `lister` is the function that a user would call."""

    lister: str
    names: Callable[[], list[str]]


LIBRARIES = {
    "torchvision": Library(
        "torchvision.models.list_models", Function(f"{HERE}.borrowed", "torchvision_names")
    ),
    "timm": Library("timm.list_models", Function(f"{HERE}.borrowed", "timm_names")),
}
"""The same for names with a colon, by what stands before it."""

DEEP = ("conv1d", "embedding", "mlp", "vit", "wide_resnet28_10")


def unread_sizes(name: str) -> dict[str, str]:
    """Which of `width` and `depth` of its config a model does not read, and which models do."""
    if ":" in name or name in MODELS.offered:
        here = "networks of this package; this one has its own"
        return {"width": here, "depth": here}
    return {} if name in DEEP else {"depth": ", ".join(DEEP)}
