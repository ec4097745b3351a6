"""The docs as a site: pages from beside docs/, links that lead somewhere, and what is no page."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.config.yaml import read_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> Any:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts/docs_site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("[a](data.md#x)", "docs/quickstart.md", "[a](data.md#x)"),
        ("[a](../SECURITY.md)", "docs/reliability.md", "[a](security.md)"),
        ("[a](../runs/README.md#b)", "docs/report.md", "[a](runs.md#b)"),
        ("[`t`](../tests/trust/test_verify.py)", "docs/reliability.md", "`t`"),
        ("![p](docs/images/x.png)", "README.md", "![p](images/x.png)"),
        ("![two\nlines](docs/images/x.png)", "README.md", "![two\nlines](images/x.png)"),
        ("[`e.py`](examples/e.py) [d](docs/data.md)", "README.md", "`e.py` [d](data.md)"),
        ("[h](../docs/report.md#t)", "runs/README.md", "[h](report.md#t)"),
        ("[s](#below) [w](https://a.b/c)", "README.md", "[s](#below) [w](https://a.b/c)"),
    ],
)
def test_links_lead_to_where_pages_stand(site: Any, text: str, source: str, expected: str) -> None:
    assert site.with_site_links(text, source) == expected


def test_where_the_repository_has_an_address_source_code_is_linked(site: Any) -> None:
    text = site.with_site_links("[t](../tests/x.py)", "docs/a.md", "https://host/owner/name/")
    assert text == "[t](https://host/owner/name/blob/main/tests/x.py)"


def pages(entries: Any) -> list[str]:
    """Every page of the navigation."""
    if isinstance(entries, str):
        return [entries]
    values = entries.values() if isinstance(entries, dict) else entries
    return [page for value in values for page in pages(value)]


def test_every_page_is_in_the_navigation(site: Any) -> None:
    listed = pages(read_yaml(ROOT / "mkdocs.yml")["nav"])
    there = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*there, *site.PAGES.values()])
