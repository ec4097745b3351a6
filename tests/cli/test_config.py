"""`nervecode config show`: the settings, and where each came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.stored import load_config


def origins(cli: Any, *arguments: object) -> dict[str, tuple[Any, str]]:
    found = cli("config", "show", *arguments, "--json")
    assert found.status == 0, found.err
    settings = json.loads(found.out)["settings"]
    return {key: (one["value"], one["origin"]) for key, one in settings.items()}


def test_each_setting_names_its_origin(cli: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: digits_mlp\ntrain: {momentum: 0.5}\n")
    found = origins(cli, "--config", mine, "-o", "train.epochs=3", "--seeds", "4")
    assert found["train.epochs"] == (3, "command line")
    assert found["seeds"] == ([4], "command line")
    assert found["train.momentum"] == (0.5, str(mine))
    assert found["model.name"] == ("mlp", "preset digits_mlp")
    assert found["data.id"] == ("digits", "preset digits")
    assert found["train.optimizer"] == ("sgd", "default")  # its section came from a preset
    assert found["signals.nervecode_v0_1_1.detach"] == (True, "preset digits")


def test_the_settings_are_those_of_the_command(cli: Any) -> None:
    config = resolve(preset="digits", overrides=["train.epochs=3"]).config
    found = origins(cli, "--preset", "digits", "-o", "train.epochs=3")
    dumped = config.model_dump(mode="json")
    for key, (value, _) in found.items():
        node: Any = dumped
        for part in key.split("."):
            node = node[part]
        assert node == value
    leaves = sum(_leaves(value) for value in dumped.values())
    assert len(found) == leaves


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if isinstance(value, dict) and value else 1


def test_the_table_and_the_yaml(cli: Any, tmp_path: Path) -> None:
    table = cli("config", "show", "--preset", "digits", "--origin")
    line = next(line for line in table.out.splitlines() if "train.epochs" in line)
    assert line.split() == ["train.epochs", "30", "preset", "digits"]
    assert "Next: nervecode bench --preset digits" in table.err
    plain = cli("config", "show", "--preset", "digits")
    file = tmp_path / "copy.yaml"
    file.write_text(plain.out)
    assert load_config(file) == resolve(preset="digits").config


def test_a_run_shows_what_it_has(cli: Any, finished: Path) -> None:
    found = origins(cli, finished)
    assert found["name"] == ("tiny", str(finished / "config.yaml"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "exactly one of --preset NAME and --config FILE"),
        (["nothing"], "nothing: no such run directory"),
        (["digits"], "`nervecode config show --preset digits` takes the preset"),
        ([".", "--preset", "digits"], "give RUN alone"),
        (["--preset", "digts"], "did you mean 'digits'?"),
        (["--preset", "digits", "-o", "train.epoch=3"], "command line: train.epoch"),
    ],
)
def test_bad_input(cli: Any, arguments: list[str], words: str) -> None:
    found = cli("config", "show", *arguments)
    assert (found.status, found.out) == (2, "")
    assert words in found.err
