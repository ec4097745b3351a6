"""Pictures below a folder: what is hidden, linked, or only named like one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nervecode.errors import InputError
from nervecode.lab.data.image_files import image_names, images_below
from nervecode.lab.data.image_sets import folder
from nervecode.lab.inference.images import ImageInputs


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 128).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("cat/0.png", "cat/1.PNG", "cat/old.png/2.jpg", "dog/0.png"):
        picture(tmp_path / "t" / name)
    return tmp_path / "t"


NAMES = ["cat/0.png", "cat/1.PNG", "cat/old.png/2.jpg", "dog/0.png"]


def test_a_folder_may_be_named_like_a_picture(tree: Path) -> None:
    assert image_names(tree) == NAMES
    assert images_below(tree) == [tree / name for name in NAMES]
    assert len(folder(str(tree)).train) == 4


def test_hidden_files_and_folders_are_passed_over(tree: Path) -> None:
    picture(tree / "cat/.ipynb_checkpoints/0-checkpoint.png")
    picture(tree / ".git/0.png")
    (tree / "dog/._0.png").write_bytes(b"\0\5\26\7")
    assert image_names(tree) == NAMES
    assert ImageInputs(tree, (1, 8, 8), skip_bad=False, workers=1).names == NAMES
    assert len(folder(str(tree)).train) == 4


def test_linked_folders_are_followed_and_circles_are_not(tree: Path) -> None:
    (tree / "bird").mkdir()
    (tree / "bird/more").symlink_to(tree / "cat")
    (tree / "cat/up").symlink_to(tree)
    (tree / "cat/over").symlink_to(tree / "dog")
    (tree / "dog/back").symlink_to(tree / "cat")
    names = image_names(tree)
    assert len(names) == len(set(names))
    assert {"bird/more/0.png", "cat/over/0.png", "dog/back/0.png", "cat/0.png"} <= set(names)
    assert not any(name.count("up") or "back/over" in name for name in names)


def test_names_are_in_the_order_of_their_parts(tmp_path: Path) -> None:
    for name in ("a.png", "a/b.png", "a-b/c.png", "B.png"):
        picture(tmp_path / name)
    paths = [Path(name) for name in image_names(tmp_path)]
    assert paths == sorted(paths)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: cannot be read"):
        image_names(tmp_path / "none")
