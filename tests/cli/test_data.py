"""`nervecode data`: the list, fetching, and what a command says where data are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.data.catalogue import CATALOGUE
from tests.lab.data.archives import arrays, own_root, shrink, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data folder."""
    return own_root(monkeypatch, tmp_path / "data")


def test_every_set_is_listed_with_its_state(cli: Any, root: Path) -> None:
    found = cli("data")
    assert found.status == 0, found.err
    lines = {line.split()[0]: line for line in found.out.splitlines() if line.split()}
    assert set(CATALOGUE) <= set(lines)
    assert "present" in lines["digits"]
    assert "comes with the package" in lines["digits"]
    assert "absent" in lines["kmnist"]
    assert "nervecode data fetch kmnist" in lines["kmnist"]
    assert str(root) in found.out
    assert "NERVECODE_DATA" in found.out
    absent = next(name for name in CATALOGUE if "data fetch" in lines[name])
    assert f"Next: nervecode data fetch {absent}\n" in found.err
    assert not root.exists()


def test_the_list_as_json_is_one_document(cli: Any, root: Path) -> None:
    document = json.loads(cli("data", "--json").out)
    assert document["schema_version"] == 1
    assert document["folder"] == str(root)
    assert [one["name"] for one in document["sets"]] == list(CATALOGUE)
    kmnist = next(one for one in document["sets"] if one["name"] == "kmnist")
    assert kmnist == {
        "name": "kmnist",
        "present": False,
        "where": f"{root}/kmnist, {root}/KMNIST/raw",
        "command": "nervecode data fetch kmnist",
    }


def test_the_list_loads_no_torch(root: Path) -> None:
    code = (
        "import sys; from nervecode.cli.main import run; assert run(['data']) == 0; "
        "assert not {'torch', 'torchvision', 'sklearn', 'skimage'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_files_of_a_folder_become_a_set(
    cli: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source", arrays(shrink(monkeypatch, "kmnist")), gzipped=True)
    found = cli("data", "fetch", "kmnist", "--from", source)
    assert found.status == 0, found.err
    assert found.out == f"kmnist: {root / 'kmnist'}\n"
    assert "Next: nervecode data" in found.err
    line = next(line for line in cli("data").out.splitlines() if line.split()[:1] == ["kmnist"])
    assert "present" in line
    again = cli("data", "fetch", "kmnist", "digits")
    assert again.status == 0
    assert again.out == f"kmnist: {root / 'kmnist'}\ndigits: comes with the package\n"


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("fetch kmnits", 2, "data: unknown set 'kmnits'; did you mean 'kmnist'?"),
        ("fetch digits kmnits", 2, "did you mean 'kmnist'?"),
        ("fetch", 2, "Missing argument 'NAME...'"),
        ("fetch mnist kmnist --from .", 2, "--from: found 2 sets, allowed: one"),
        ("fetch kmnist --from nowhere", 2, "--from nowhere: no such folder"),
        ("fetch kmnist --from .", 2, ".: holds no train-images-idx3-ubyte, train-labels"),
    ],
)
def test_bad_usage_is_told_and_fetches_nothing(
    command: str, status: int, words: str, cli: Any, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = cli("data", *command.split())
    assert found.status == status
    assert words in " ".join(found.err.split())
    assert found.out == ""
    assert not root.exists()


def test_no_network_is_a_failure_and_leaves_nothing(
    cli: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import KMNIST

    monkeypatch.setattr(KMNIST, "mirrors", [f"{(tmp_path / 'nowhere').as_uri()}/"])
    found = cli("data", "fetch", "kmnist")
    assert found.status == 1
    assert "nervecode data fetch kmnist --from DIR" in found.err
    assert found.out == ""
    assert list(root.iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_told(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    own_root(monkeypatch, tmp_path / "file")
    source = write(tmp_path / "source", arrays(shrink(monkeypatch, "kmnist")), gzipped=True)
    found = cli("data", "fetch", "kmnist", "--from", source)
    assert found.status == 1
    assert "cannot be written" in found.err
    assert "Traceback" not in found.err


def test_a_config_of_absent_data_is_refused_before_anything_else(
    cli: Any, root: Path, tiny_file: Path, tmp_path: Path
) -> None:
    sets = "data.far=[kmnist, mnist, uniform_noise]"
    outdir = ("--outdir", tmp_path / "runs")
    for command in (("bench", *outdir), ("train", *outdir), ("train", "--dry-run")):
        found = cli(*command, "--config", tiny_file, "-o", sets)
        assert found.status == 2
        for name in ("kmnist", "mnist"):
            assert f"data: {name} is absent from {root}/{name}, " in found.err
            assert f"get it: nervecode data fetch {name}" in found.err
    assert not (tmp_path / "runs").exists()


def test_optional_sets_that_are_absent_are_told(
    cli: Any, root: Path, tiny_file: Path, tmp_path: Path
) -> None:
    sets = "data.far=['kmnist?', uniform_noise]"
    found = cli(
        "train", "--config", tiny_file, "--dry-run", "-o", "data.limit_train=99", "-o", sets
    )
    assert found.status == 0, found.err
    assert "left out, absent here: kmnist (get it: nervecode data fetch kmnist)" in found.err
    assert "ood_uniform_noise" in found.out
    assert "kmnist" not in found.out


def test_an_absent_set_to_score_names_its_command(cli: Any, finished: Path, root: Path) -> None:
    found = cli("score", finished, "--input", "kmnist")
    assert found.status == 2
    assert "get it: nervecode data fetch kmnist" in found.err
