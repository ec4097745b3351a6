"""Sets from archives: what is read, what is fetched, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.datasets import utils
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.data import locate as locating
from nervecode.lab.data import unpack
from nervecode.lab.data.archives import ARCHIVES
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.fetch import fetch
from nervecode.lab.data.load import load_dataset
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.registry import DATASETS, IMAGE_SETS
from nervecode.lab.data.splits import build_splits
from nervecode.lab.schema import DataConfig
from tests.lab.data.archives import own_root
from tests.rehearsal import WRITERS, crops, make, trust

TRAIN, TEST = 60, 24
ARRAYS = ("cifar10", "cifar100", "svhn", "stl10")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The archives of every set, small, and their sums."""
    folder = tmp_path_factory.mktemp("archives")
    return folder, make(folder, list(WRITERS), train=TRAIN, test=TEST)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return own_root(monkeypatch, tmp_path / "data")


@pytest.fixture
def source(made: tuple[Path, dict[str, str]], root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the archives, taken for the published ones."""
    folder, sums = made
    trust(sums, monkeypatch)
    return folder


@pytest.fixture
def fetched(source: Path) -> Callable[..., None]:
    return lambda *names: [fetch(name, source=source) for name in names] and None


def config(**values: object) -> DataConfig:
    return DataConfig.model_validate({"id": "cifar10", "calibration_fraction": 0.25} | values)


# The catalogue


def test_addresses_and_sums_are_torchvisions() -> None:
    for name, one in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100),
                      ("stl10", datasets.STL10)):  # fmt: skip
        (download,) = ARCHIVES[name].downloads
        assert (download.url, download.md5, download.name) == (one.url, one.tgz_md5, one.filename)
        held = {Path(path).name for path in ARCHIVES[name].holds}
        assert held <= {file for file, _ in one.train_list + one.test_list} | {
            "batches.meta", "meta",
        }  # fmt: skip
    for download, part in zip(ARCHIVES["svhn"].downloads, ("train", "test"), strict=True):
        assert [download.url, download.name, download.md5] == datasets.SVHN.split_list[part]
    (download,) = ARCHIVES["dtd"].downloads
    assert (download.url, download.md5) == (datasets.DTD._URL, datasets.DTD._MD5)
    (download,) = ARCHIVES["places365"].downloads
    assert download.url.startswith(datasets.Places365._BASE_URL)
    assert (download.name, download.md5) == datasets.Places365._IMAGES_META["val", True]


def test_the_documentation_lists_every_set() -> None:
    text = (Path(__file__).parents[3] / "docs/data.md").read_text()
    for name in CATALOGUE:
        assert f"| `{name}`" in text or f"| `{name}:" in text


def test_every_missing_set_is_told_with_its_command(root: Path) -> None:
    wanted = config(near=["cifar100", "tiny_imagenet"], far=["svhn", "folder:/no/such/place"])
    with pytest.raises(InputError) as caught:
        build_splits(wanted)
    assert str(caught.value).splitlines() == [
        f"data: {name} is absent from {root}/{name}, {root}; get it: nervecode data fetch {name}"
        for name in ("cifar10", "cifar100", "tiny_imagenet", "svhn")
    ] + ["data: folder:/no/such/place is absent; allowed: the path of a folder of images"]


# What is read


def test_cifar_is_what_was_written(fetched: Callable[..., None]) -> None:
    fetched("cifar10", "cifar100")
    for name, options, seeds in (("cifar10", {"classes": 10}, (0, 1)),
                                 ("cifar100", {"classes": 100, "first": 10}, (2, 3))):  # fmt: skip
        source = DATASETS[name]()
        assert source.test is not None
        for part, count, seed in zip((source.train, source.test), (TRAIN, TEST), seeds,
                                     strict=True):  # fmt: skip
            images, labels = crops(count, seed=seed, **options)
            np.testing.assert_array_equal(part.inputs.permute(0, 2, 3, 1), images)
            np.testing.assert_array_equal(part.labels, labels)
            assert part.inputs.dtype == torch.uint8


def test_svhn_and_stl10_are_what_was_written(fetched: Callable[..., None]) -> None:
    fetched("svhn", "stl10")
    for name, options in (("svhn", {"first": 40, "seed": 5}), ("stl10", {"side": 96, "seed": 7})):
        source = DATASETS[name]()
        assert source.test is not None
        images, labels = crops(TEST, classes=10, **options)
        np.testing.assert_array_equal(source.test.inputs.permute(0, 2, 3, 1), images)
        np.testing.assert_array_equal(source.test.labels, labels)


OPENOOD = Compose([Resize(32), CenterCrop(32), PILToTensor()])


def test_textures_are_all_three_parts_by_the_rule_of_openood(
    fetched: Callable[..., None], root: Path
) -> None:
    fetched("dtd")
    found = load_dataset("dtd")
    assert found.test is None
    expected = {}
    for part in ("train", "val", "test"):
        oracle = datasets.DTD(root / "dtd", split=part, transform=OPENOOD)
        for path, (image, label) in zip(oracle._image_files, oracle, strict=True):
            expected[path] = (image, oracle.classes[label])
    order = sorted(expected)
    assert len(order) == 3 * TEST
    assert torch.equal(found.train.inputs, torch.stack([expected[path][0] for path in order]))
    names = sorted({name for _, name in expected.values()})
    assert [names[label] for label in found.train.labels] == [expected[path][1] for path in order]


def test_tiny_imagenet_is_that_of_image_folder(fetched: Callable[..., None], root: Path) -> None:
    fetched("tiny_imagenet")
    home = root / "tiny_imagenet/tiny-imagenet-200"
    found = load_dataset("tiny_imagenet", side=20)
    oracle = datasets.ImageFolder(
        home / "train", Compose([Resize(20), CenterCrop(20), PILToTensor()])
    )
    assert torch.equal(found.train.inputs, torch.stack([image for image, _ in oracle]))
    assert found.train.labels.tolist() == oracle.targets
    files = IMAGE_SETS["tiny_imagenet"]("").test
    assert files is not None
    lines = (home / "val/val_annotations.txt").read_text().splitlines()
    classes = {line.split("\t")[0]: oracle.class_to_idx[line.split("\t")[1]] for line in lines}
    assert [classes[path.name] for path in files.paths] == list(files.labels)
    assert len(files) == TEST


def test_a_colour_benchmark_stays_in_bytes(fetched: Callable[..., None]) -> None:
    fetched("cifar10", "cifar100", "svhn", "dtd", "stl10", "places365", "tiny_imagenet")
    splits = build_splits(
        config(near=["cifar100", "tiny_imagenet", "dtd:1,2"], far=["svhn", "stl10", "places365",
               "dtd", "digits", "photo_patches"], shift=["hflip", "blur:1"])
    )  # fmt: skip
    for name, samples in splits.evaluated().items():
        assert samples.inputs.shape[1:] == (3, 32, 32), name
        computed = name in ("ood_digits", "ood_photo_patches", "ood_hflip", "ood_blur_1")
        assert (samples.inputs.dtype == torch.uint8) != computed, name
        assert all(x.dtype == torch.float32 and x.max() <= 1 for x, _ in samples.batches(50))
    sizes = {one.name: len(one.samples) for one in splits.ood}
    assert sizes["dtd"] == 3 * TEST
    assert sizes["dtd_1_2"] == TEST
    assert sizes["tiny_imagenet"] == sizes["cifar100"] == TEST


def test_a_limit_takes_pictures_of_all_classes(fetched: Callable[..., None]) -> None:
    fetched("cifar10", "dtd")
    limited = build_splits(config(far=["dtd"]), limit_eval=12)
    everything = build_splits(config(far=["dtd"])).ood[0].samples.inputs
    found = limited.ood[0].samples.inputs
    rows = [int((everything == one).flatten(1).all(1).nonzero()[0]) for one in found]
    assert len(set(rows)) == 12
    assert rows == sorted(rows) != list(range(12))
    again = build_splits(config(far=["dtd"]), limit_eval=12)
    assert torch.equal(again.ood[0].samples.inputs, found)


def test_the_size_of_images_can_be_chosen(fetched: Callable[..., None]) -> None:
    fetched("stl10", "dtd", "cifar10")
    splits = build_splits(config(id="stl10", image_size=48, far=["dtd", "cifar10"]))
    assert {samples.inputs.shape[1:] for samples in splits.evaluated().values()} == {(3, 48, 48)}
    assert splits.train.inputs.shape[1:] == (3, 48, 48)
    assert build_splits(config(id="stl10")).train.inputs.shape[1:] == (3, 96, 96)


# The published test part as the source of ID calibration


def test_calibration_can_come_from_the_published_test_part(fetched: Callable[..., None]) -> None:
    fetched("cifar10")
    splits = build_splits(config(calibration_from="test"))
    source = DATASETS["cifar10"]()
    assert source.test is not None

    def keys(*parts: torch.Tensor) -> list[bytes]:
        return sorted(x.numpy().tobytes() for part in parts for x in part)

    assert [len(s) for s in (splits.train, splits.calibration, splits.test)] == [60, 6, 18]
    assert keys(splits.train.inputs) == keys(source.train.inputs)
    assert keys(splits.calibration.inputs, splits.test.inputs) == keys(source.test.inputs)
    limited = build_splits(config(calibration_from="test"), limit_eval=5)
    assert torch.equal(limited.calibration.inputs, splits.calibration.inputs)
    assert len(limited.test) == 5


def test_without_a_published_test_part_there_is_none_to_take_from() -> None:
    with pytest.raises(InputError, match=r"data.calibration_from: found 'test', but 'digits' has"):
        build_splits(config(id="digits", calibration_from="test"))


# Fetching


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_is_unpacked_serves_as_well(name: str, source: Path, root: Path) -> None:
    where = Path(fetch(name, source=source))
    assert where == root / name
    assert tree(root)[0] == name
    assert locate(name).present
    before = tree(where)
    shutil.move(where, root.parent / "unpacked")
    assert fetch(name, source=root.parent / "unpacked") == str(where)
    assert tree(where) == before
    assert fetch(name) == str(where)  # it is here: nothing is downloaded
    assert [path.name for path in root.iterdir()] == [name]


def test_a_root_of_torchvision_serves_as_it_is(source: Path, root: Path) -> None:
    utils.extract_archive(source / "cifar-10-python.tar.gz", root)
    assert locate("cifar10").where == str(root)
    assert len(DATASETS["cifar10"]().train) == TRAIN


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar-10-python.tar.gz"), ("svhn", "test_32x32.mat"),
     ("dtd", "dtd-r1.0.1.tar.gz"), ("tiny_imagenet", "tiny-imagenet-200.zip")],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "changed", "absent"])
def test_a_bad_archive_is_refused_and_leaves_nothing(
    name: str, file: str, damage: str, source: Path, root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(source, tmp_path / "bad")
    content = (folder / file).read_bytes()
    if damage == "absent":
        (folder / file).unlink()
    else:
        changed = content[:-100] if damage == "cut" else content[:-1] + b"?"
        (folder / file).write_bytes(changed)
    words = "holds no" if damage == "absent" else "is cut short or not the published file"
    with pytest.raises(InputError, match=words) as caught:
        fetch(name, source=folder)
    assert file in str(caught.value)
    assert not root.exists()


@pytest.mark.parametrize("name", ARRAYS)
def test_a_damaged_set_is_told_and_fetched_again(name: str, source: Path, root: Path) -> None:
    fetch(name, source=source)
    held = root / name / ARCHIVES[name].holds[0]
    held.write_bytes(held.read_bytes()[:-3])
    with pytest.raises(InputError, match=f"{name} is damaged .*nervecode data fetch {name}$"):
        DATASETS[name]()
    with pytest.raises(
        InputError, match=r"is damaged|is cut short"
    ):  # not from a copy of the damage either
        fetch(name, source=root / name)
    fetch(name, source=source)
    assert len(DATASETS[name]().train) == TRAIN
    assert [path.name for path in root.iterdir()] == [name]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """torchvision hangs up on the answer that tells it of redirections."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], None]]:
    """Let the files of a set come from a folder, by a server of this machine."""
    monkeypatch.setenv("no_proxy", "*")
    with ExitStack() as stack:

        def start(name: str, folder: Path) -> None:
            handler = partial(Quiet, directory=str(folder))
            server = stack.enter_context(Server(("127.0.0.1", 0), handler))
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            stack.callback(server.shutdown)
            entry = CATALOGUE[name]
            assert entry.archives is not None
            downloads = tuple(
                replace(one, url=f"http://127.0.0.1:{server.server_port}/{one.name}")
                for one in entry.archives.downloads
            )
            archives = replace(entry.archives, downloads=downloads)
            monkeypatch.setitem(CATALOGUE, name, replace(entry, archives=archives))

        yield start


@pytest.mark.parametrize("name", ["cifar10", "svhn", "dtd", "tiny_imagenet"])
def test_a_download_is_checked_and_leaves_only_the_set(
    name: str, source: Path, root: Path, serve: Callable[[str, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    serve(name, source)
    assert fetch(name) == str(root / name)
    assert [path.name for path in root.iterdir()] == [name]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100" in captured.err
    require([name])


def test_a_download_with_another_sum_is_refused(
    source: Path, root: Path, tmp_path: Path, serve: Callable[[str, Path], None]
) -> None:
    folder = shutil.copytree(source, tmp_path / "mirror")
    (folder / "cifar-10-python.tar.gz").write_bytes(b"an error page")
    serve("cifar10", folder)
    with pytest.raises(NervecodeError, match=r"could not be downloaded from .*corrupted") as caught:
        fetch("cifar10")
    assert caught.value.exit_status == 1
    assert str(caught.value).endswith("nervecode data fetch cifar10 --from DIR")
    assert list(root.iterdir()) == []


def test_no_space_is_told_before_anything_is_fetched(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(NervecodeError, match=r"no space for svhn in .*: 0 MB free, 1 MB needed"):
        fetch("svhn", source=source)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "words"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
     (KeyboardInterrupt(), None)],
)  # fmt: skip
def test_what_fails_on_the_way_leaves_what_was_there(
    failure: BaseException,
    words: str | None,
    source: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetch("cifar10", source=source)
    before = tree(root)

    def fail(path: Path, folder: Path) -> None:
        (folder / "half").write_text("written")
        raise failure

    monkeypatch.setattr(unpack, "_unpack", fail)
    expected = NervecodeError if words else KeyboardInterrupt
    with pytest.raises(expected, match=words):
        fetch("cifar10", source=source)
    assert tree(root) == before


def tar_of(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "../../outside"
        tar.addfile(member)


def zip_of(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")


@pytest.mark.parametrize(
    ("set_name", "write", "member"),
    [("cifar10", tar_of, "../escaped"), ("cifar10", tar_of, "a/../../escaped"),
     ("cifar10", tar_of, "/tmp/escaped"), ("tiny_imagenet", zip_of, "../escaped"),
     ("cifar10", lambda path, name: tar_of(path, name, tarfile.SYMTYPE), "link"),
     ("cifar10", lambda path, name: tar_of(path, name, tarfile.LNKTYPE), "link"),
     ("cifar10", lambda path, name: tar_of(path, name, tarfile.FIFOTYPE), "pipe")],
)  # fmt: skip
def test_an_archive_is_unpacked_within_its_folder(
    set_name: str, write: Callable[[Path, str], None], member: str, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Even one whose sum is the expected one."""
    source = tmp_path / "source"
    source.mkdir()
    path = source / ARCHIVES[set_name].downloads[0].name
    write(path, member)
    trust({path.name: hashlib.md5(path.read_bytes()).hexdigest()}, monkeypatch)
    with pytest.raises(InputError, match=r"found the member .*, allowed: files inside its folder"):
        fetch(set_name, source=source)
    assert list(root.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


def test_a_tar_file_that_ends_too_early_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "val_256.tar"
    path.write_bytes(b"hello")
    trust({path.name: hashlib.md5(b"hello").hexdigest()}, monkeypatch)
    with pytest.raises(InputError, match=r"val_256\.tar: cannot be unpacked"):
        fetch("places365", source=tmp_path)
    assert list(root.iterdir()) == []


def test_a_data_folder_that_is_a_file_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(locating.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(NervecodeError, match="data: svhn cannot be written to"):
        fetch("svhn", source=source)


def test_id_test_under_another_name_is_refused(
    fetched: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched("cifar10", "cifar100")
    monkeypatch.setitem(DATASETS, "cifar100", DATASETS["cifar10"])
    with pytest.raises(InputError, match="the OOD set 'cifar100' holds the ID test split itself"):
        build_splits(config(near=["cifar100"]))
