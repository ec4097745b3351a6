"""Tails of errors about unknown names, and errors of others in one line."""

from __future__ import annotations

from nervecode.errors import MOST, did_you_mean, first_line, one_line


def test_of_many_names_those_most_alike_are_listed() -> None:
    few = [f"layer{i}" for i in range(MOST)]
    assert (
        did_you_mean("layer7", few) == f"did you mean 'layer7'? Allowed: {', '.join(sorted(few))}"
    )
    many = [*(f"other.{i}" for i in range(200)), "head.weight", "head.bias"]
    told = did_you_mean("head.wieght", many)
    assert told.startswith("did you mean 'head.weight'? Allowed: ")
    assert told.endswith(f" and {202 - MOST} more")
    names = told.partition("Allowed: ")[2].removesuffix(f" and {202 - MOST} more").split(", ")
    assert len(names) == MOST
    assert {"head.weight", "head.bias"} <= set(names) <= set(many)
    assert did_you_mean("x", []) == "Allowed: (none)"


def test_an_error_in_one_line_is_never_empty() -> None:
    assert first_line(OSError("\n \n  first \r\nsecond")) == "first"
    assert one_line(OSError("\n first \r\n\tsecond ")) == "first second"
    for silent in (RuntimeError(), RuntimeError(""), RuntimeError(" \n\n")):
        assert first_line(silent) == one_line(silent) == "RuntimeError"
