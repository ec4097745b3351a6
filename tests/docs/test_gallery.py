"""The gallery: a section and a picture for each kind of plot, and a script that draws them all."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from nervecode.viz import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "scripts/gallery"
PICTURES = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", PAGE)


def test_every_kind_has_a_section_and_a_picture() -> None:
    headings = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert set(headings) == set(KINDS)
    assert {path for _, path in PICTURES} == {f"images/{k}.png" for k in [*KINDS, "report"]}


@pytest.mark.parametrize(("words", "path"), PICTURES, ids=[path for _, path in PICTURES])
def test_pictures_are_there_and_told_in_words(words: str, path: str) -> None:
    with Image.open(ROOT / "docs" / path) as picture:
        assert min(picture.size) > 400
    assert len(words.split()) >= 5
    assert (ROOT / "docs" / path).stat().st_size < 300_000


def test_the_script_draws_every_kind() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    found = re.search(r"for kind in ([\w ]+); do", text)
    assert found is not None
    assert set(found[1].split()) == set(KINDS)
    assert SCRIPT.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0


@pytest.mark.parametrize("page", ["docs/gallery.md", "docs/report.md", "runs/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8"))
    assert links
    assert all((file.parent / link).exists() for link in links)
