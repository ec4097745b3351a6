"""Collapsed codebooks are named."""

from __future__ import annotations

from pathlib import Path

from nervecode.lab.config.resolve import resolve
from nervecode.lab.results.codebooks import collapsed
from nervecode.lab.results.tables import set_table
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import stage_record
from nervecode.viz.claim import reasons

HEADER = "epoch,layer,utilisation,entropy,code_length,distance\n"


def run_with(folder: Path, *shares: tuple[float, float]) -> RunDir:
    """A run whose seeds ended with these shares of codes in use at two layers."""
    config = resolve(preset="digits", overrides=["seeds=[0,1]"]).config
    run = RunDir.create(config, folder, command="x")
    stages = {}
    for seed, layers in enumerate(shares):
        path = run.paths.diagnostics(seed)
        path.parent.mkdir(exist_ok=True)
        rows = [
            (1, "a", 0.0625),
            (1, "b", 0.0625),
            *[(2, n, s) for n, s in zip("ab", layers, strict=True)],
        ]
        lines = [f"{epoch},nervecode_v0_1_1:{layer},{share},0,0,0" for epoch, layer, share in rows]
        path.write_text(HEADER + "\n".join(lines) + "\n")
        stages[f"train/seed_{seed}"] = stage_record(run.root, None, [path])
    with run.claimed():
        run.update(stages=stages)
    return run


def test_what_is_left_of_a_codebook_is_said(tmp_path: Path) -> None:
    run = run_with(tmp_path, (0.5, 0.125), (0.0625, 0.75))
    words = "1 of 16 codes in use at a, seed 1; an eighth or fewer in 2 of 4 codebooks"
    assert collapsed(run, [0, 1]) == {"nervecode_v0_1_1": words}
    assert collapsed(run, [0])["nervecode_v0_1_1"].startswith("2 of 16 codes in use at b, seed 0")


def test_only_the_last_epoch_counts(tmp_path: Path) -> None:
    assert collapsed(run_with(tmp_path, (0.5, 0.19), (0.9, 0.75)), [0, 1]) == {}


def test_a_run_that_learned_none_has_none(tmp_path: Path) -> None:
    assert collapsed(run_with(tmp_path), [0, 1]) == {}


def test_tables_and_report_say_it() -> None:
    gate = {"required": 0.5, "passed": True, "accuracy": {"0": 0.9}}
    meta = {"name": "x", "seeds": [0], "gate": gate, "collapsed": {"nervecode_v0_1_1": "1 of 16"}}
    assert "Codebooks of nervecode_v0_1_1 collapsed: 1 of 16." in set_table(meta, []).caption
    told = [r for r in reasons(meta, None, withheld=True) if r.title == "Collapsed codebooks"]  # type: ignore[arg-type]
    assert len(told) == 1 and not told[0].good
    assert told[0].text.startswith("nervecode_v0_1_1: 1 of 16. ") and "revive: true" in told[0].text
