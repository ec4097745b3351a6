"""Every promise of docs/reliability.md links to a test that exists, and says if it is slow."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")
NOTED = re.compile(LINK.pattern + r" \(([^)]*)\)")


def test_every_promise_has_its_test() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    links = LINK.findall(text)
    assert len(links) > 40
    for name, path in links:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (name, path)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "--- |" not in line]
    promises = rows[: next(i for i, row in enumerate(rows) if row.startswith("| what |"))]
    untested = [row for row in promises if "tests/" not in row and not row.startswith("| promise")]
    assert untested == []


def test_the_page_says_which_tests_are_slow() -> None:
    """Those that `scripts/test` alone does not run."""
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    told = {(name, path) for name, path, note in NOTED.findall(text) if "*slow*" in note}
    for name, path in set(LINK.findall(text)):
        source = (ROOT / path).read_text(encoding="utf-8")
        above = source.partition(f"def {name}(")[0].rpartition("\n\n\n")[2]
        if "@pytest.mark.slow\n" in above:
            assert (name, path) in told, (name, path)
