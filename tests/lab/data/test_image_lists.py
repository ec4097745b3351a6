"""Lists of pictures: where they lie, what a line may say, and a benchmark made of lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from nervecode.errors import InputError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.by_path.image_lists import read_list
from nervecode.lab.data.load import load_id
from nervecode.lab.data.splits import build_splits
from nervecode.lab.schema import DataConfig


def listed(folder: Path, text: str, *pictures: str) -> Path:
    """A list in the place where OpenOOD has its lists, and empty files as pictures."""
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / "benchmark_imglist" / "cifar10" / "test.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "root", ["images_classic", ".", "benchmark_imglist", "benchmark_imglist/cifar10/own"]
)
def test_pictures_are_found_from_the_list(root: str, tmp_path: Path) -> None:
    path = listed(tmp_path, "tin/a b.png 3\n\ntin/c.png -1\n", f"{root}/tin/a b.png")
    files = read_list(path)
    assert files.labels == (3, -1)
    assert files.paths[0].samefile(tmp_path / root / "tin/a b.png")
    assert files.paths[1].parent.samefile(files.paths[0].parent)


def test_the_nearest_folder_comes_first(tmp_path: Path) -> None:
    path = listed(tmp_path, "a.png 0\n", "benchmark_imglist/cifar10/a.png", "images/a.png")
    assert read_list(path).paths == (path.parent / "a.png",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png\n", "line 1: found 'a.png', allowed: a path, a space and a class"),
        ("a.png 0\na.png cat\n", "line 2: found 'a.png cat'"),
        ("a.png -2\n", "line 1: found 'a.png -2'"),
        ("a.png 0.5\n", "line 1: found 'a.png 0.5'"),
        ("/etc/a.png 0\n", "line 1: found '/etc/a.png', allowed: a path below a folder"),
        ("../a.png 0\n", "found '../a.png', allowed: a path below a folder"),
        ("\n \n", "names no picture; allowed: lines of a path and a class"),
        ("b.png 0\n", "its first picture 'b.png' lies in none of"),
    ],
)
def test_what_a_list_may_say(text: str, words: str, tmp_path: Path) -> None:
    path = listed(tmp_path, text, "images/a.png")
    with pytest.raises(InputError) as caught:
        read_list(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe a.png 0")
    with pytest.raises(InputError, match=r"a\.txt: cannot be read"):
        read_list(path)


def test_a_picture_without_a_class_is_no_id_data(tmp_path: Path) -> None:
    path = listed(tmp_path, "a.png 0\nb.png -1\n", "images/a.png")
    with pytest.raises(InputError, match=r"test\.txt: 'b\.png' has no class, allowed as ID data"):
        load_id(DataConfig(id=f"list:{path}"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{id: digits, test: a.txt}", "test is for data.id folder:PATH or list:PATH or array:PATH"),
        (
            "{id: 'list:a.txt', calibration: b.txt}",
            "calibration is for data.id folder:PATH or list:PATH with a",
        ),
        ("{id: 'list:a.txt', split: x}", "split is for data.id array:PATH"),
        ("{id: 'list:'}", "the set 'list' needs a path, as in list:PATH"),
        ("{id: digits, image_size: 8, resize: 7}", "resize: found 7, allowed: image_size or more"),
    ],
)
def test_what_a_config_may_say_of_lists(data: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\ndata: {data}\nmodel: {{name: mlp}}\n")
    with pytest.raises(InputError) as caught:
        resolve(file=file)
    assert words in str(caught.value)


def test_a_list_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list:.*a\.txt is absent; allowed: the path of a file"):
        build_splits(DataConfig(id=f"list:{tmp_path / 'a.txt'}"))
    of_openood = f"list:{tmp_path}/benchmark_imglist/cifar10/test_tin.txt"
    with pytest.raises(InputError, match=r"of a file; OpenOOD's download\.py gets it, see docs/"):
        build_splits(DataConfig(id=of_openood))


def test_a_list_that_is_absent_is_told_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.png 0\n")
    told = r"trian\.txt: no such file; did you mean 'train\.txt'\?"
    with pytest.raises(InputError, match=told):
        read_list(tmp_path / "trian.txt")
