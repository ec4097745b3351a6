"""Same data: a trained run goes on with the rows that it was trained on, or not at all."""

from __future__ import annotations

import json

from nervecode.errors import InputError
from nervecode.lab.data.own import is_own
from nervecode.lab.data.splits import Splits
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import Config
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
    if not is_own(config.data.id):
        return
    stages = run.meta["stages"]
    settings, now = config.training_inputs()["data"], splits.train.fingerprint()
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
