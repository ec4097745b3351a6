"""Commands in messages can be copied: quoted, and with the trust that they need."""

from __future__ import annotations

import shlex

import pytest

from nervecode.lab.models.user_code import trusting
from nervecode.lab.run.commands import command


def test_a_shell_takes_a_command_apart_again() -> None:
    words = ["bench", "my runs/it's $HOME", "--repair"]
    assert shlex.split(command(*words)) == ["nervecode", *words]


@pytest.mark.parametrize(("name", "needs"), [("bench", True), ("score", True), ("plot", False)])
def test_trust_is_passed_on_to_what_needs_it(name: str, needs: bool) -> None:
    plain, told = f"nervecode {name} r", f"nervecode {name} r --trust-code"
    assert command(name, "r") == plain
    assert command(name, "r", trust=True) == (told if needs else plain)
    with trusting():
        assert command(name, "r") == (told if needs else plain)
