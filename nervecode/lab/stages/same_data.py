"""Same data: what a run trained on and scored is noticed where it changed under its name."""

from __future__ import annotations

import json

from nervecode.errors import InputError
from nervecode.lab.data.names import set_names
from nervecode.lab.data.own import may_change
from nervecode.lab.data.splits import Splits
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import Config, DataConfig
from nervecode.lab.stages.columns import STAGE as COLUMNS


def refuse_other_data(run: RunDir, config: Config, splits: Splits) -> None:
    """Refuse a set by path whose file changed since a seed of a run was trained on it.

    Otherwise the split would be another, and calibrate on rows that were trained on. A config that
    asks for other data than the run was trained on is trained anew, and not refused.

    Args:
        run: that has been made, and may have been trained; one without a record of its data passes.
        config: what it is to go on with.
        splits: the data of `config`, as they are now.

    Raises:
        InputError: ID train, or what is fitted to its columns, is not what the seed was trained on.
    """
    if not may_change(config.data.id):
        return
    stages = run.meta["stages"]
    settings, now = config.training_inputs()["data"], splits.train.fingerprint
    columns = None if splits.encoder is None else json.loads(json.dumps(splits.encoder.to_json()))
    same_columns = COLUMNS not in stages or stages[COLUMNS]["inputs"] == columns
    for key, stage in stages.items():
        name, _, seed = key.partition("/seed_")
        inputs = stage["inputs"] if name == "train" else {}
        if inputs.get("data") != settings or "id_train" not in inputs:
            continue
        if inputs["id_train"] != now or not same_columns:
            raise InputError(
                f"{run.root}: seed {seed} was trained on other rows than data.id, "
                f"{config.data.id}, gives now; put the file back as it was, or begin a new run"
            )


def sets_by_path(config: DataConfig, splits: Splits) -> dict[str, str]:
    """Evaluated split -> fingerprint, of the splits whose files may change under their name.

    Where that holds for ID data it holds for all splits: shifts are made from ID test, and held-out
    classes are in the same file.
    """
    names = {f"ood_{name}" for spec, name in set_names(config).items() if may_change(spec)}
    return {
        name: samples.fingerprint
        for name, samples in splits.evaluated().items()
        if may_change(config.id) or name in names
    }
