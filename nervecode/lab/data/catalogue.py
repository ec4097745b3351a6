"""The catalogue: every data set by name, where it comes from, and whether it is here.

It imports neither torch nor NumPy, so that sets are listed at once. `docs/data.md` shows it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from nervecode.errors import InputError, MissingExtraError, NervecodeError

VARIABLE = "NERVECODE_DATA"
EXTRA = "pip install 'nervecode[data]'"


@dataclass(frozen=True)
class Files:
    """IDX files that somebody else publishes.

    Attributes:
        torchvision: the class of torchvision that downloads them, and the folder it makes.
        shapes: name of each file -> its shape; the images of the training part come first.
        options: further arguments of that class.
        system: folders in which a distribution installs them.
        sha256: file name -> hash of its content, unpacked, where it is known.
    """

    torchvision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str] = field(default_factory=dict)
    system: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
        about: what it shows.
        source: who made it, under which licence.
        pictures: files that the wheel of scikit-image carries, an extra of this package.
        files: what has to be fetched.
    """

    about: str
    source: str
    pictures: tuple[str, ...] = ()
    files: Files | None = None


@dataclass(frozen=True)
class State:
    """Whether a set can be used: where it is, or the command that gets it and what was tried."""

    name: str
    present: bool
    where: str
    command: str = ""


def _idx(
    torchvision: str,
    train: int,
    test: int,
    *,
    prefix: str = "",
    test_name: str = "t10k",
    options: Mapping[str, str] | None = None,
    system: tuple[str, ...] = (),
    sha256: tuple[str, ...] = (),
) -> Files:
    """Two parts of 28x28 images with labels, named as the publisher of MNIST named them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, count in ((f"{prefix}train", train), (f"{prefix}{test_name}", test)):
        shapes[f"{part}-images-idx3-ubyte"] = (count, 28, 28)
        shapes[f"{part}-labels-idx1-ubyte"] = (count,)
    known = dict(zip(shapes, sha256, strict=True)) if sha256 else {}
    return Files(torchvision, shapes, options or {}, system, known)


CATALOGUE: dict[str, Entry] = {
    "digits": Entry(
        "1,797 handwritten digits, 8x8 grey",
        "scikit-learn; UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    ),
    "wine": Entry("178 wines of three growers, 13 features", "scikit-learn; UCI Wine, CC BY 4.0"),
    "breast_cancer": Entry(
        "569 tumours, benign or malignant, 30 features",
        "scikit-learn; UCI Breast Cancer Wisconsin (Diagnostic), CC BY 4.0",
    ),
    "fashion_mnist": Entry(
        "70,000 pieces of clothing, 28x28 grey",
        "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747, MIT",
        # Debian's package dataset-fashion-mnist installs the published files there.
        files=_idx(
            "FashionMNIST",
            60_000,
            10_000,
            system=("/usr/share/datasets/fashion-mnist",),
            sha256=(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    ),
    "mnist": Entry(
        "70,000 handwritten digits, 28x28 grey",
        "LeCun, Cortes, Burges 1998, CC BY-SA 3.0",
        files=_idx("MNIST", 60_000, 10_000),
    ),
    "kmnist": Entry(
        "70,000 cursive Japanese characters, 28x28 grey",
        "Clanuwat et al. 2018, arXiv:1812.01718, CC BY-SA 4.0",
        files=_idx("KMNIST", 60_000, 10_000),
    ),
    "emnist_letters": Entry(
        "145,600 handwritten letters, 28x28 grey, classes 1 to 26",
        "Cohen et al. 2017, arXiv:1702.05373; NIST Special Database 19, public domain",
        files=_idx(
            "EMNIST",
            124_800,
            20_800,
            prefix="emnist-letters-",
            test_name="test",
            options={"split": "letters"},
        ),
    ),
    "photo_patches": Entry(
        "random 64x64 patches of two photographs",
        "scikit-learn; china.jpg and flower.jpg, CC BY 2.0",
    ),
    "textures": Entry(
        "random 64x64 patches of brick, grass and gravel",
        "scikit-image; CC0",
        pictures=("brick.png", "grass.png", "gravel.png"),
    ),
    "faces": Entry(
        "100 faces, 25x25 grey",
        "scikit-image; subset of Labeled Faces in the Wild, Huang et al. 2007",
        pictures=("lfw_subset.npy",),
    ),
    "uniform_noise": Entry("uniform over the range of the inputs", "computed"),
    "gaussian_noise": Entry("normal around the middle of that range", "computed"),
}


def data_root() -> Path:
    """The folder of fetched data: `$NERVECODE_DATA`, or `~/.cache/nervecode/data`."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache/nervecode/data"


def places(name: str) -> list[Path]:
    """Where the files of a set are looked for, the first one first."""
    files = CATALOGUE[name].files
    assert files is not None
    root = data_root()
    return [root / name, raw_folder(root, files), *map(Path, files.system)]


def raw_folder(root: Path, files: Files) -> Path:
    """Where torchvision puts the files of a set below a root of its own."""
    return root / files.torchvision / "raw"


def find_file(folder: Path, name: str) -> Path | None:
    """A file of a folder, plain or gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def pictures_folder() -> Path | None:
    """Where the wheel of scikit-image carries its pictures; it is not imported."""
    spec = find_spec("skimage")
    return Path(spec.origin).parent / "data" if spec and spec.origin else None


def state(name: str) -> State:
    """Whether a set can be used here; a name beyond the catalogue is taken as present."""
    entry = CATALOGUE.get(name)
    if entry and entry.pictures:
        folder = pictures_folder()
        if folder and all((folder / one).is_file() for one in entry.pictures):
            return State(name, True, "comes with scikit-image")
        return State(name, False, str(folder or "scikit-image, which is not installed"), EXTRA)
    if entry and entry.files:
        for place in places(name):
            if all(find_file(place, one) for one in entry.files.shapes):
                return State(name, True, str(place))
        looked = ", ".join(map(str, places(name)))
        return State(name, False, looked, f"nervecode data fetch {name}")
    return State(name, True, "comes with the package")


def states() -> list[State]:
    """The state of every set of the catalogue."""
    return [state(name) for name in CATALOGUE]


def require(names: Iterable[str]) -> None:
    """Make sure that sets are here.

    Raises:
        InputError: every set that is absent, where it was looked for, and what gets it.
        MissingExtraError: the same, where all that is missing is scikit-image.
    """
    absent = [one for one in map(state, dict.fromkeys(names)) if not one.present]
    if not absent:
        return
    lines = [f"data: {one.name} is absent from {one.where}; get it: {one.command}"
             for one in absent]  # fmt: skip
    extra = all(one.command == EXTRA for one in absent)
    error: type[NervecodeError] = MissingExtraError if extra else InputError
    raise error("\n".join(lines))
