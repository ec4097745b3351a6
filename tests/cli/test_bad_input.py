"""Bad input: one clear message, the right exit status, no traceback, and nothing touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.lab.config.resolve import resolve
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import sealed
from nervecode.lab.sweep.cells import Cell, write_sweep
from tests.command_line import stamps


@pytest.fixture(scope="module")
def world(finished: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the rows below name."""
    root = tmp_path_factory.mktemp("world")
    write_runs(root, finished)
    write_configs(root, tiny)
    write_inputs(root)
    write_sweeps(root, tiny)
    write_weights(root)
    return root


def write_runs(root: Path, finished: Path) -> None:
    shutil.copytree(finished, root / "run")
    for name in ("no_meta", "bad_meta", "no_config", "no_checkpoint", "bad_checkpoint",
                 "no_calibration", "bad_scores", "bad_layers"):  # fmt: skip
        shutil.copytree(finished, root / name)
    (root / "no_meta/meta.json").unlink()
    (root / "bad_meta/meta.json").write_text('{"schema_ver')
    (root / "no_config/config.yaml").unlink()
    (root / "no_checkpoint/checkpoints/seed_0.safetensors").unlink()
    (root / "bad_checkpoint/checkpoints/seed_0.safetensors").write_bytes(b"junk")
    (root / "no_calibration/calibration/seed_0.safetensors").unlink()
    (root / "bad_scores/scores/seed_1/ood_rotate_45.npz").write_bytes(b"junk")
    (root / "bad_layers/layerwise/seed_0/id_test.npz").unlink()
    shutil.copytree(root / "no_meta", root / "trained")
    meta = json.loads((finished / "meta.json").read_text())
    stages = {key: stage for key, stage in meta["stages"].items() if key.startswith("train/")}
    (root / "trained/meta.json").write_text(json.dumps(sealed(meta | {"stages": stages})))
    shutil.copytree(root / "no_meta", root / "started")
    (root / "started/meta.json").write_text(json.dumps(sealed(meta | {"stages": {}})))


def write_configs(root: Path, tiny: dict[str, Any]) -> None:
    def put(name: str, text: str) -> None:
        (root / name).write_text(text)

    put("good.yaml", json.dumps(tiny))
    put("twice.yaml", "name: a\nname: b\n")
    put("broken.yaml", "name: [a\n")
    put("list.yaml", "- digits\n")
    put("empty.yaml", "")
    put("typo.yaml", json.dumps(tiny | {"trian": {"epochs": 1}}))
    put("three.yaml", json.dumps(tiny | {"train": {"epochs": -1, "lr": 1}, "model": {"name": "x"}}))
    put("base.yaml", "extends: digts\n")
    put("later.yaml", json.dumps(tiny | {"schema_version": 2}))
    put("bits.yaml", json.dumps(tiny | {"signals": {"nervecode": {"recipe": "bits"}}}))
    (root / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")


def write_inputs(root: Path) -> None:
    good = np.zeros((2, 1, 8, 8), dtype=np.float32)
    np.save(root / "shape.npy", np.zeros((2, 3, 9, 9)))
    np.save(root / "nan.npy", np.full_like(good, np.nan))
    np.save(root / "infinite.npy", np.full_like(good, np.inf))
    np.save(root / "none.npy", good[:0])
    np.save(root / "words.npy", good.astype(str))
    np.save(root / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(root / "several.npz", a=good, b=good)
    (root / "text.npy").write_text("hello")
    (root / "no_images").mkdir()
    (root / "no_images/readme.txt").write_text("nothing")
    for name in ("some_bad", "all_bad"):
        (root / name).mkdir()
        (root / name / "bad.png").write_bytes(b"no image")
    Image.new("L", (8, 8)).save(root / "some_bad/good.png")
    (root / "one_class/only").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "one_class/only/x.png")
    (root / "text.tar").write_text("hello")
    header = {"format": "nervecode-shard-1", "index": 1, "count": 1, "units": 2, "settings": {}}
    np.savez(root / "headless.npz", shard=np.array(json.dumps(header)))
    (root / "file").write_text("a file in the place of a folder")


def write_sweeps(root: Path, tiny: dict[str, Any]) -> None:
    cells = [Cell.of(resolve(file=root / "good.yaml").config, seed, {}) for seed in (0, 1)]
    write_sweep(root / "swept", cells)
    whole = (root / "swept/sweep.json").read_text()
    for name, text in (
        ("bad_sweep", whole[:-9]),
        ("forged", whole.replace('"width": 8', '"width": 9')),
    ):
        (root / name).mkdir()
        (root / name / "sweep.json").write_text(text)


def write_weights(root: Path) -> None:
    torch.save({"weight": torch.ones(3)}, root / "other.pt")  # noqa: TID251
    torch.save({"state_dict": {}, "args": root}, root / "object.pt")  # noqa: TID251


@dataclass(frozen=True)
class Row:
    """A command line, its exit status, and words that its message must hold."""

    command: str
    status: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.command.replace("/", ":")


def bad(command: str, *words: str, status: int = 2) -> Row:
    return Row(command, status, words)


GOOD = "--config good.yaml"
ROWS = [
    # Usage
    bad("benhc", "No such command 'benhc'"),
    bad("bench --presett digits", "No such option: --presett"),
    bad("bench", "give one of --preset NAME, --config FILE and RUN"),
    bad("train", "give one of --preset NAME, --config FILE and RUN"),
    bad(f"bench --preset digits {GOOD}", "exactly one of --preset NAME and --config FILE"),
    bad("bench run --preset digits", "give RUN alone"),
    bad("score run", "Missing option '--input'"),
    bad("calibrate", "Missing argument"),
    # Names
    bad("bench --preset digts", "preset: unknown 'digts'", "did you mean 'digits'?"),
    bad("presets show digts", "did you mean 'digits'?"),
    bad("presets copy digts new.yaml", "did you mean 'digits'?"),
    bad(f"bench {GOOD} -o data.id=my.csv", "data.id: unknown", "did you mean 'table:my.csv'?"),
    bad(f"bench {GOOD} -o data.id=tabel:my.csv", "did you mean 'table:my.csv'?"),
    bad(f"bench {GOOD} -o data.id=csv:my.csv", "did you mean 'table:my.csv'?"),
    bad(f"bench {GOOD} -o data.id=foldr:pics", "did you mean 'folder:pics'?"),
    bad(f"bench {GOOD} -o data.id=array:",
        "data.id: found 'array:', allowed: a text that goes on behind the colon"),
    bad(f"bench {GOOD} -o model.name=python:nets:",
        "model.name: found 'python:nets:', allowed: a text that goes on behind the colon"),
    bad(f"bench {GOOD} -o data.id=[digits]", "data.id: found ['digits'], allowed: a text"),
    bad(f"bench {GOOD} -o data.id=digitz", "data.id: unknown dataset 'digitz'", "'digits'?"),
    bad(f"bench {GOOD} -o data.far=[unifrm_noise]", "data.far:", "mean 'uniform_noise'?"),
    bad(f"bench {GOOD} -o data.shift=[rotat:3]", "data.shift:", "did you mean 'rotate'?"),
    bad(f"bench {GOOD} -o model.name=smal_cnn", "model.name:", "did you mean 'small_cnn'?"),
    bad(f"bench {GOOD} -o bench.detectors=[mahalanobs]", "bench.detectors:", "'mahalanobis'?"),
    bad(f"bench {GOOD} -o signals.nervecode.layers=blocks.9", "signals.nervecode.layers",
        "'blocks.9' matches no module of SmallCNN", "did you mean 'blocks."),
    bad(f"train {GOOD} -o signals.nervecode.layers=al_blocks", "did you mean 'all_blocks'?"),
    bad(f"train {GOOD} --device cdua", "device: found 'cdua', allowed: 'auto', 'cpu' or 'cuda'"),
    bad("score run --input uniform_noise --device cdua", "device: unknown 'cdua'", "'cuda'?"),
    bad("score run --input digts", "neither a path nor a data set", "did you mean 'digits'?"),
    bad("plot run --kind layrwise", "--kind: unknown 'layrwise'", "did you mean 'layerwise'?"),
    # Keys and values
    bad(f"bench {GOOD} -o train.epochz=3", "train.epochz: unknown key", "did you mean 'epochs'?"),
    bad("bench --config typo.yaml", "typo.yaml: trian: unknown key", "did you mean 'train'?"),
    bad("bench --config three.yaml", "three.yaml: train.epochs: found -1",
        "three.yaml: train.lr: unknown key", "three.yaml: model.name: unknown model 'x'"),
    bad(f"bench {GOOD} -o train.epochs=-1", "train.epochs: found -1, allowed: greater than"),
    bad(f"bench {GOOD} -o train.epochs=1.5", "train.epochs: found 1.5, allowed: a valid integer"),
    bad(f"bench {GOOD} -o train.learning_rate=fast", "found 'fast', allowed: a valid number"),
    bad(f"bench {GOOD} -o data.near=held_out", "data.near: found 'held_out', allowed: a list"),
    bad(f"bench {GOOD} -o train.epochs", "found no key, allowed: key=value"),
    bad(f"bench {GOOD} --seeds 1,2,1", "seeds: seed 1 is given twice"),
    bad(f"bench {GOOD} --seeds one", "--seeds: found 'one', allowed: whole numbers"),
    bad(f"bench {GOOD} --seeds -3", "seeds.0: found -3"),
    bad(f"bench {GOOD} --accuracy-gate 1.1", "bench.accuracy_gate: found 1.1", "equal to 1"),
    bad(f"bench {GOOD} --accuracy-gate high", "--accuracy-gate"),
    bad(f"bench {GOOD} --limit-eval 0", "bench.limit_eval: found 0"),
    bad(f"bench {GOOD} -o data.hold_out=[12]", "data.hold_out: digits has no class 12"),
    bad(f"bench {GOOD} -o data.far=[digits:77]", "the set 'digits:77' is empty"),
    bad(f"bench {GOOD} -o data.near=[held_out:3]", "the set 'held_out:3'", "no argument"),
    bad(f"bench {GOOD} -o data.shift=[blur:-1]", "'blur': found -1, allowed for", "above 0"),
    bad(f"bench {GOOD} -o model.width=1000000000", "model.width: found 1000000000", "to 4096"),
    bad(f"train {GOOD} -o model.width=4096", "model.width: found 4096", "parameters; allowed"),
    bad(f"bench {GOOD} -o train.epochs=1000000000", "train.epochs: found 1000000000"),
    bad(f"bench {GOOD} -o train.epochs={'9' * 30}", "the number on line 1 is too large"),
    bad(f"bench {GOOD} -o data.shift=[blur:1e6]", "'blur': found 1e+06", "below 2.67"),
    bad(f"bench {GOOD} -o name=café", "name: found 'café', allowed: at most 64 letters"),
    bad("verify run --expect zz", "--expect: found 'zz', allowed: 64 hexadecimal digits"),
    bad("bench run --accuracy-gate 1.1", "bench.accuracy_gate: found 1.1"),
    bad("bench run -o train.epochz=3", "did you mean 'epochs'?"),
    bad("bench run -o data.hold_out=[12]", "digits has no class 12"),
    # Config files
    bad("bench --config nowhere.yaml", "nowhere.yaml: no such file"),
    bad("bench --config broken.yaml", "broken.yaml: not valid YAML"),
    bad("bench --config twice.yaml", "key 'name' is given twice, on lines 1 and 2"),
    bad("bench --config list.yaml", "list.yaml: found list, allowed: a mapping"),
    bad("bench --config empty.yaml", "empty.yaml: found NoneType, allowed: a mapping"),
    bad("bench --config binary.yaml", "binary.yaml: cannot be read"),
    bad("bench --config base.yaml", "base.yaml: extends: found 'digts'", "did you mean 'digits'?"),
    bad("bench --config no_images", "no_images: is a folder, allowed: a YAML file"),
    bad("bench --config later.yaml", "later.yaml: schema_version: found 2, allowed: 1"),
    # Run directories
    bad("bench rum", "rum: no such run directory", "did you mean 'run'?"),
    bad("calibrate rum", "rum: no such run directory"),
    bad("score rum --input digits", "rum: no such run directory"),
    bad("plot rum", "rum: no such run directory"),
    bad("bench no_images", "meta.json: is missing", status=4),
    bad("bench no_meta", "meta.json: is missing", status=4),
    bad("bench bad_meta", "meta.json: is damaged", status=4),
    bad("score bad_meta --input digits", "meta.json: is damaged", status=4),
    bad("bench no_config", "config.yaml: is missing or damaged", status=4),
    bad("calibrate started", "stage 'train' is not done for seed 0", "nervecode bench", status=4),
    bad("score started --input digits", "stage 'calibrate' is not done", status=4),
    bad("score trained --input digits", "stage 'calibrate' is not done", status=4),
    bad("score no_checkpoint --input digits", "seed_0.safetensors: is missing", "--repair",
        status=4),
    bad("score bad_checkpoint --input digits", "seed_0.safetensors: is damaged", status=4),
    bad("score no_calibration --input digits", "calibration/seed_0.safetensors: is missing",
        status=4),
    bad("bench no_checkpoint", "checkpoints/seed_0.safetensors: is missing", "--repair", status=4),
    bad("bench bad_scores", "ood_rotate_45.npz: is damaged", "--repair", status=4),
    bad("calibrate bad_checkpoint", "seed_0.safetensors: is damaged", status=4),
    bad("plot bad_layers --kind layerwise --output p.png", "id_test.npz", status=4),
    # Inputs to score
    bad("score run --input nowhere.npy", "nowhere.npy: no such file"),
    bad("score run --input shape.npy", "shape.npy: found shape (2, 3, 9, 9)", "(N, 1, 8, 8)"),
    bad("score run --input nan.npy", "nan.npy: row 0, column (0, 0, 0): found nan, allowed"),
    bad("score run --input infinite.npy", "infinite.npy: row 0, column (0, 0, 0): found inf"),
    bad("score run --input none.npy", "none.npy: found shape (0, 1, 8, 8)"),
    bad("score run --input words.npy", "words.npy: found <U"),
    bad("score run --input pickled.npy", "pickled.npy: found an object array"),
    bad("score run --input text.npy", "text.npy: not a readable array file"),
    bad("score run --input several.npz", "several.npz: found arrays a, b"),
    bad("score run --input no_images", "no_images: holds no image"),
    bad("score run --input some_bad", "bad.png: not a readable image", "--skip-bad leaves it out"),
    bad("score run --input all_bad --skip-bad", "none of the inputs is readable"),
    bad("score run --input digits --shard 5/4 --output x.npz", "found shard 5 of 4",
        "allowed: 1/4 to 4/4"),
    bad("score run --input digits --shard 1/4", "--shard: needs --output FILE.npz"),
    bad("score run --input digits --output run/scores.csv", "run/scores.csv: lies in the run run"),
    bad("score run --input digits --output run/results.csv --force", "lies in the run run, whose"),
    bad("score run --input x-{0..1}.tar", "x-0.tar: no such file (and 1 more)"),
    bad("merge text.npy --output x.csv", "text.npy: is damaged or no shard", status=4),
    bad("merge nowhere.npz --output x.csv", "nowhere.npz: is missing", status=4),
    # Graphs
    bad("export run", "Missing option '--output'"),
    bad("export run --output model.onx", "unknown suffix '.onx'; did you mean '.onnx'?"),
    bad("export run --output nowhere/model.pt2", "no such folder nowhere"),
    bad("export run --output run/model.pt2", "run/model.pt2: lies in the run run, whose files"),
    bad("export run --output model.pt2 --seed 7", "--seed: found 7, allowed: 0, 1"),
    bad("export rum --output model.pt2", "rum: no such run directory", "did you mean 'run'?"),
    bad("export trained --output model.pt2", "stage 'calibrate' is not done", status=4),
    bad("export no_calibration --output model.pt2", "seed_0.safetensors: is missing", status=4),
    bad("score model.pt2 --input digits", "model.pt2: allowed: a run or an .onnx file"),
    bad("score run --input file", "--input file: found '', allowed: .npy"),
    bad("score run --input digits --alpha 1.5", "--alpha: found 1.5, allowed: between 0 and 1"),
    bad("score run --input digits --alpha nan", "--alpha: found nan"),
    bad("score run --input digits --seed 7", "--seed: found 7, allowed: 0, 1"),
    bad("score run --input digits --shard x/4 --output x.npz", "--shard: found 'x/4'", "3/10"),
    bad("score run --input digits --shard 1/4 --output x.csv", "allowed for a shard: '.npz'"),
    bad("score run --input text.tar", "text.tar: not a readable tar file"),
    bad("score run --input http://localhost/x.tar", "x.tar: no such file"),
    bad("merge headless.npz --output x.csv", "headless.npz: is damaged or no shard", status=4),
    bad("merge several.npz --output x.csv", "several.npz: is damaged or no shard", status=4),
    bad("merge several.npz --output x.xlsx", "unknown suffix '.xlsx'"),
    bad("merge several.npz --output good.yaml", "unknown suffix '.yaml'"),
    bad("merge", "Missing argument 'SHARD"),
    # Data
    bad(f"bench {GOOD} -o data.far=[digits]", "the OOD set 'digits' is the ID set itself"),
    bad(f"bench {GOOD} -o data.near=[] -o data.far=[digits:3]", "holds class 3 of the ID set"),
    bad(f"train {GOOD} -o data.id=folder:one_class", "one_class: found 1 class sub-folders",
        "two or more"),
    bad(f"train {GOOD} -o data.id=folder:nowhere", "nowhere is absent; allowed: the path of"),
    bad("data fetch kmnits", "unknown set 'kmnits'", "did you mean 'kmnist'?"),
    bad("data fetch cifar10 svhn --from nowhere", "--from nowhere: no such folder"),
    # Weights from elsewhere
    bad("import-checkpoint nowhere.pt", "give one of --preset NAME, --config FILE and RUN"),
    bad("import-checkpoint nowhere.pt --config bits.yaml", "nowhere.pt: no such file"),
    bad("import-checkpoint text.npy --config bits.yaml", "text.npy: neither .safetensors nor"),
    bad("import-checkpoint other.pt --config bits.yaml", "other.pt: lacks 'head.weight' of shape"),
    bad("import-checkpoint object.pt --config bits.yaml", "object.pt: holds a whole module"),
    bad("import-checkpoint other.pt --config bits.yaml --sha256 zz", "SHA-256: found 'zz'"),
    bad(f"import-checkpoint other.pt --config bits.yaml --sha256 {'0' * 64}",
        "other.pt: found SHA-256 ", f"allowed: {'0' * 64}"),
    bad(f"import-checkpoint other.pt {GOOD}", "nervecode_v0_1_1: is learned with the classifier"),
    bad("import-checkpoint other.pt run", "nervecode_v0_1_1: is learned with the classifier"),
    bad(f"bench {GOOD} --checkpoint-sha256 zz", "SHA-256: found 'zz'"),
    # Sweeps
    bad("sweep digts", "preset: unknown 'digts'", "did you mean 'digits'?"),
    bad("sweep good.yaml typo.yaml", "typo.yaml: trian: unknown key"),
    bad("sweep nowhere.yaml", "nowhere.yaml: no such file"),
    bad("sweep good.yaml --grid train.epochz=1,2", "train.epochz: unknown key", "'epochs'?"),
    bad("sweep good.yaml --grid train.epochs=1,-2", "train.epochs: found -2"),
    bad("sweep good.yaml --grid train.epochs", "--grid train.epochs: allowed: key=value,value"),
    bad("sweep good.yaml --grid train.epochs=[", "--grid train.epochs: not valid YAML"),
    bad("sweep good.yaml --grid seeds=1 --grid seeds=2", "--grid: seeds is given twice"),
    bad("sweep good.yaml --seeds one", "--seeds: found 'one'"),
    bad("sweep good.yaml --jobs 0", "Invalid value for '--jobs'"),
    bad("sweep good.yaml --launcher lokal", "--launcher: unknown 'lokal'", "mean 'local'?"),
    bad("sweep good.yaml --launcher-option x", "--launcher-option x: allowed: key=value"),
    bad("sweep good.yaml --launcher-option gpus=1 --outdir x", "unknown 'gpus' of launcher local"),
    bad("sweep good.yaml --outdir file", "file: cannot be made"),
    bad("sweep good.yaml --grid train.epochs=7 --outdir swept", "swept: holds another sweep",
        "only here: tiny train.epochs=7 seed 0"),
    bad("sweep --outdir nowhere", "sweep.json: no such file", "nervecode sweep CONFIG"),
    bad("sweep --seeds 1 --outdir swept", "without a config to apply them to"),
    bad("sweep --outdir bad_sweep", "bad_sweep/sweep.json: is damaged", status=4),
    bad("sweep --outdir forged", "forged/sweep.json: is damaged", "has another config", status=4),
    bad("run-cell swept zzz", "swept: found 0 cells 'zzz'"),
    bad("run-cell nowhere abc", "nowhere/sweep.json: no such file"),
    bad("run-cell bad_sweep abc", "bad_sweep/sweep.json: is damaged", status=4),
    # Several processes, and who watches
    bad(f"bench {GOOD} --nproc 0", "--nproc: found 0, allowed: at least 1"),
    bad(f"bench {GOOD} --nnodes 2", "--nnodes: found 2 without --rdzv HOST:PORT"),
    bad(f"train {GOOD} --nnodes 2 --rdzv here", "--rdzv: found 'here', allowed: HOST:PORT"),
    bad(f"train {GOOD} --rdzv here:1", "--rdzv: is for several machines; give --nnodes too"),
    bad(f"bench {GOOD} --track tensorbord", "--track: unknown", "did you mean 'tensorboard'?"),
    # Readers of runs
    bad("verify rum", "rum: no such run directory", "did you mean 'run'?"),
    bad("verify bad_meta", "meta.json: is damaged", status=4),
    bad("verify run --tolerance -1", "Invalid value for '--tolerance'"),
    bad("archive rum", "rum: no such run directory"),
    bad("archive run --output x.zip", "unknown suffix '.zip'; Allowed: .tar.gz"),
    bad("archive run --output run/x.tar.gz", "run/x.tar.gz: lies in the run run, whose files"),
    bad("archive bad_scores --output x.tar.gz", "ood_rotate_45.npz: changed", status=4),
    bad("report rum", "rum: no such run directory"),
    bad("report run --output x.pdf", "unknown suffix '.pdf'; Allowed: .html"),
    bad("report bad_layers --output x.html", "id_test.npz: is missing", status=4),
    bad("compare run", "compare: found 1 run, allowed: two or more"),
    bad("bench digits", "digits: no such run directory; `nervecode bench --preset digits` takes"),
    bad(f"bench {GOOD} -o epochs=1", "epochs: unknown key; did you mean 'train.epochs'?"),
    bad("runs run", "run is itself a run; `nervecode report run` makes its page"),
    bad("compare run run", "the run run is given twice"),
    bad("compare run bad_scores --metric aurok", "--metric: unknown 'aurok'", "mean 'auroc'?"),
    bad("compare run bad_scores --method knnn", "--method: unknown 'knnn'", "mean 'knn'?"),
    bad("plot run --seed 7 --output p.png", "seed: found 7, allowed: 0, 1"),
    bad("plot run --ood nowhere --output p.png", "OOD set: run has no 'nowhere'"),
    bad("config show --preset digts", "did you mean 'digits'?"),
    # Outputs
    bad("score run --input digits --output x.xlsx", "unknown suffix '.xlsx'",
        "Allowed: .csv, .jsonl, .npz"),
    bad("score run --input digits --output x", "unknown suffix ''"),
    bad("score run --input digits --output nowhere/x.csv", "no such folder nowhere"),
    bad("score run --input digits --output file/x.csv", "no such folder file"),
    bad(f"bench {GOOD} --outdir file", "cannot be made"),
    bad(f"train {GOOD} --outdir file/deeper", "cannot be made"),
    bad("plot run --output p.xlsx", "p.xlsx", ".png"),
    bad("presets copy digits good.yaml", "good.yaml: exists; --force replaces it"),
    bad("presets copy digits file/new.yaml", "FILE file/new.yaml: no such folder file"),
]  # fmt: skip

# A claimed run notes in its metadata and its log that it failed, and why.
NOTED = ("meta.json", "log.jsonl", "run.log")


def test_there_are_enough_rows_and_none_twice() -> None:
    assert len({row.command for row in ROWS}) == len(ROWS) >= 170


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input_is_told_and_touches_nothing(
    row: Row,
    world: Path,
    cli: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if ".tar" in row.command and row.command.startswith("score"):
        pytest.importorskip("webdataset")
    monkeypatch.chdir(world)
    before = stamps(world)
    found = cli(*row.command.split())
    assert found.status == row.status, found.err
    message = " ".join(found.err.split())
    for words in row.words:
        assert words in message
    assert "Error: " in found.err
    assert "Traceback" not in found.err
    assert "unexpected" not in found.err
    assert found.out == ""
    after = stamps(world)
    command, _, rest = row.command.partition(" ")
    if row.status == 4 and command in ("bench", "calibrate"):
        noted = {f"{rest.split()[0]}/{name}" for name in NOTED}
        before, after = (
            {path: stamp for path, stamp in one.items() if path not in noted}
            for one in (before, after)
        )
    assert after == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"bench {GOOD} --outdir locked", "cannot be made (Permission denied)"),
        ("score run --input digits --output locked/x.csv", "cannot be written"),
    ],
)
def test_without_permission_nothing_is_written(
    command: str, words: str, world: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    (world / "locked").mkdir(exist_ok=True, mode=0o500)
    found = cli(*command.split())
    assert found.status == 2
    assert words in found.err
    assert list((world / "locked").iterdir()) == []


def test_a_message_of_many_problems_has_a_line_for_each(
    world: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    found = cli("bench", "--config", "three.yaml", "--accuracy-gate", "2", "--seeds", "1,1")
    assert found.status == 2
    lines = found.err.strip().splitlines()
    assert len(lines) == 5
    places = sorted(line.removeprefix("Error: ").split(": ")[:2] for line in lines)
    assert places == [
        ["command line", "bench.accuracy_gate"], ["command line", "seeds"],
        ["three.yaml", "model.name"], ["three.yaml", "train.epochs"], ["three.yaml", "train.lr"],
    ]  # fmt: skip


@pytest.mark.slow
def test_a_damaged_config_is_the_runs_fault_without_assertions_too(
    tiny_file: Path, tmp_path: Path
) -> None:
    run = RunDir.create(resolve(file=tiny_file).config, tmp_path, command="test")
    (run.root / "config.yaml").unlink()
    command = [sys.executable, "-O", "-m", "nervecode", "bench", str(run.root)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 4
    assert "config.yaml: is missing or damaged" in found.stderr
