"""The registries of data sets, outliers and shifts. They load a set's module with the set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nervecode.lab.registry import Function, Registry, by_name, functions

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from nervecode.lab.data.dataset import Dataset, ImageDataset
    from nervecode.lab.data.samples import Shape

LoadDataset = Callable[[], "Dataset"]
ListImages = Callable[[str], "ImageDataset"]
MakeOutliers = Callable[["Shape", "Generator"], "Tensor"]
MakeShift = Callable[["Tensor", "float | None", "Generator"], "Tensor"]

HERE = "nervecode.lab.data"


def _offered(name: str, load: Callable[[], Any]) -> LoadDataset:
    """A set of an installed package."""
    return lambda: AS_DATASET(name, load())


AS_DATASET = Function(f"{HERE}.entry_points", "as_dataset")
DATASETS: Registry[LoadDataset] = Registry(
    "dataset",
    {
        **by_name(f"{HERE}.array_sets", "load_arrays", "cifar10 cifar100 svhn stl10"),
        **functions(HERE, bundled="digits wine breast_cancer blobs", fortunes="fortunes"),
        **by_name(f"{HERE}.idx_sets", "idx_set", "fashion_mnist mnist kmnist emnist_letters"),
        **by_name(
            f"{HERE}.aeon_sets",
            "aeon_set",
            "japanese_vowels basic_motions osu_leaf acsf1 arrow_head pickup_gesture",
        ),
        **by_name(f"{HERE}.mlbench_sets", "mlbench_set", "letter satellite shuttle vehicle vowel"),
    },
    group="nervecode.datasets",
    adapt=_offered,
)
"""Labelled sets: () -> Dataset."""
IMAGE_SETS: Registry[ListImages] = Registry(
    "dataset",
    functions(HERE, clipart="openclipart", image_sets="dtd places365 tiny_imagenet folder"),
)
"""Pictures in files, of any size: what follows `NAME:` -> ImageDataset."""
OUTLIERS: Registry[MakeOutliers] = Registry(
    "dataset",
    functions(
        HERE, bundled="photo_patches uniform_noise gaussian_noise", pictures="textures faces"
    ),
)
"""Unlabelled outliers: (shape of one ID input, generator) -> (N, *shape) inputs."""
SHIFTS: Registry[MakeShift] = Registry(
    "shift", functions(HERE, shifts="noise hflip vflip rotate blur contrast")
)
"""Shifts of ID inputs: (inputs, strength or None for the default, generator) -> inputs."""
