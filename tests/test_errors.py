"""Tails of errors about unknown names."""

from __future__ import annotations

from nervecode.errors import MOST, did_you_mean


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
