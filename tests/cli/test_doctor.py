"""`nervecode doctor`: what the machine is, in one block."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nervecode
from nervecode.lab import doctor
from nervecode.lab.data.locate import locations


def test_the_block_tells_versions_device_data_and_disk(cli: Any, tmp_path: Path) -> None:
    found = cli("doctor", tmp_path)
    assert found.status == 0, found.err
    text = re.sub(r"\n {4,}", " ", found.out)  # what was wrapped
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line[:1] == " "]
    facts = {line[0]: line[1] for line in lines}
    assert facts["nervecode"] == nervecode.__version__
    assert facts["python"] == platform.python_version()
    assert facts["numpy"] == np.__version__
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["present"].split() == [place.name for place in locations() if place.present]
    assert facts["runs"].endswith(facts["data"].split()[-1]) or "GB free of" in facts["runs"]
    assert "Next: nervecode data" in found.err


def test_it_fits_80_columns(cli: Any, tmp_path: Path) -> None:
    assert max(map(len, cli("doctor", tmp_path).out.splitlines())) <= 80
    parts = {"data": {"present": " ".join(["some_set"] * 40), "none": ""}}
    lines = doctor.as_text(parts).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).split().count("some_set") == 40
    assert lines[-1] == "  none"


def test_json_says_the_same(cli: Any, tmp_path: Path) -> None:
    document = json.loads(cli("doctor", tmp_path, "--json").out)
    assert document.pop("schema_version") == 1
    assert list(document) == ["versions", "machine", "torch", "data", "disk"]
    assert document["versions"]["nervecode"] == nervecode.__version__


def test_a_broken_part_says_why_and_the_others_stand(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, str]:
        raise ImportError("libcudart.so: no such file")

    monkeypatch.setattr(doctor, "_torch", broken)
    found = cli("doctor", tmp_path)
    assert found.status == 0
    assert "failed  ImportError: libcudart.so: no such file" in found.out
    assert "torch: ImportError" in found.err
    assert "present" in found.out


def test_the_disk_of_a_folder_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    found = doctor.examine(tmp_path / "not" / "yet")["disk"]
    assert "GB free of" in found["runs"]


def test_a_home_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert doctor._without_home(tmp_path / "data") == "~/data"
    assert doctor._without_home(Path("/elsewhere")) == "/elsewhere"
