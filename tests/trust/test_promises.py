"""Every promise of docs/reliability.md links to a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


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
