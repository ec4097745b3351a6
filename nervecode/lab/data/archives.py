"""Archives: sets of pictures that their publishers offer as files to download and unpack.

Addresses and MD5 sums are torchvision's, and a test holds them equal; Tiny ImageNet, which
torchvision does not know, has those of its course page. It imports neither torch nor NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """One file.

    Attributes:
        url: where it is; its last part is the name of the file.
        md5: of the file.
        into: the folder, below that of the set, in which it is unpacked or put.
    """

    url: str
    md5: str
    into: str = "."

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def packed(self) -> bool:
        """Whether it has to be unpacked."""
        return self.name.endswith((".tar", ".tar.gz", ".zip"))


@dataclass(frozen=True)
class Archives:
    """What a set is made of.

    Attributes:
        downloads: its files.
        holds: paths below the folder of the set that are there once it is unpacked.
        megabytes: the room that fetching takes, download and unpacked files together.
    """

    downloads: tuple[Download, ...]
    holds: tuple[str, ...]
    megabytes: int

    def places(self, name: str, root: Path | None) -> list[Path]:
        """As fetched, or as torchvision and others unpack them."""
        return [] if root is None else [root / name, root]

    def is_in(self, folder: Path) -> bool:
        """Whether all that they hold is."""
        return all((folder / path).exists() for path in self.holds)

    def command(self, name: str, root: Path | None) -> str:
        """What gets them."""
        return f"nervecode data fetch {name}"


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


ARCHIVES: dict[str, Archives] = {
    "cifar10": Archives(
        (
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
        _below(
            "cifar-10-batches-py",
            *[f"data_batch_{number}" for number in range(1, 6)],
            "test_batch",
            "batches.meta",
        ),
        360,
    ),
    "cifar100": Archives(
        (
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        _below("cifar-100-python", "train", "test", "meta"),
        360,
    ),
    "svhn": Archives(
        (
            Download(
                "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
                "e26dedcc434d2e4c54c9b2d4a06d8373",
            ),
            Download(
                "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
                "eb5a983be6a315427106f1b164d9cef3",
            ),
        ),
        ("train_32x32.mat", "test_32x32.mat"),
        250,
    ),
    "stl10": Archives(
        (
            Download(
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "91f7769df0f17e558f3565bffb0c7dfb",
            ),
        ),
        _below("stl10_binary", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        5_900,
    ),
    "dtd": Archives(
        (
            Download(
                "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                "fff73e5086ae6bdbea199a49dfb8a4c1",
                "dtd",
            ),
        ),
        _below("dtd/dtd", "images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt"),
        1_300,
    ),
    "places365": Archives(
        (
            Download(
                "http://data.csail.mit.edu/places/places365/val_256.tar",
                "e27b17d8d44f4af9a78502beb927f808",
            ),
        ),
        ("val_256",),
        1_100,
    ),
    "tiny_imagenet": Archives(
        (
            Download(
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
        _below("tiny-imagenet-200", "train", "val/images", "val/val_annotations.txt"),
        900,
    ),
}
