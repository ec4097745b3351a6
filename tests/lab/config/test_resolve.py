"""Configs: what wins, what is refused, and what a message says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from nervecode.errors import InputError
from nervecode.lab.config.presets import preset_info, preset_path, presets
from nervecode.lab.config.resolve import resolve
from nervecode.lab.config.stored import config_hash, dump_config, load_config
from nervecode.lab.config.yaml import read_yaml

ROOT = Path(__file__).parents[3]
MINIMAL = "name: mine\ndata: {id: digits}\nmodel: {name: mlp}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def complaint(file: Path, text: str, *overrides: str) -> str:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        resolve(file=file, overrides=overrides)
    return str(caught.value)


# Which setting wins


def test_command_line_beats_file_beats_preset_beats_default(file: Path) -> None:
    file.write_text("extends: digits\nname: mine\ntrain: {epochs: 7, batch_size: 33}\n")
    found = resolve(file=file, overrides=["train.batch_size=12"], settings={"seeds": [5]})
    preset = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    assert found.config.train.batch_size == 12
    assert found.config.seeds == (5,)
    assert found.config.train.epochs == 7
    assert found.config.name == "mine"
    assert found.config.train.learning_rate == preset["train"]["learning_rate"]
    assert found.config.model.width == preset["model"]["width"]
    assert found.config.train.momentum == 0.9
    assert found.origins["train.batch_size"] == "command line"
    assert found.origins["train.epochs"] == str(file)
    assert found.origins["train.learning_rate"] == "preset digits"
    assert "train.momentum" not in found.origins


def test_lists_replace_and_mappings_merge(file: Path) -> None:
    file.write_text("extends: digits\ndata: {far: [uniform_noise]}\n")
    config = resolve(file=file).config
    assert config.data.far == ("uniform_noise",)
    assert config.data.hold_out == (8, 9)
    assert set(config.signals) == {"nervecode", "nervecode_v0_1_1"}


def test_merging_changes_no_preset(file: Path) -> None:
    before = resolve(preset="digits").config
    file.write_text("extends: digits\nsignals: {nervecode: {reduce: max}}\n")
    assert resolve(file=file).config.signals["nervecode"].reduce == "max"
    assert resolve(preset="digits").config == before


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("2.5e-2", 0.025), ("1e+0", 1.0), (".5", 0.5), ("3", 3.0)],
)
def test_numbers_with_an_exponent_are_numbers(file: Path, text: str, value: float) -> None:
    file.write_text(f"{MINIMAL}train: {{learning_rate: {text}}}\n")
    assert resolve(file=file).config.train.learning_rate == value
    file.write_text(MINIMAL)
    given = resolve(file=file, overrides=[f"train.learning_rate={text}"])
    assert given.config.train.learning_rate == value


def test_a_name_that_looks_like_an_exponent_stays_text(file: Path) -> None:
    file.write_text(MINIMAL.replace("mine", "e3") + "description: 1e3x\n")
    config = resolve(file=file).config
    assert (config.name, config.description) == ("e3", "1e3x")


# What is refused


def test_a_key_given_twice_is_refused_with_its_lines(file: Path) -> None:
    text = complaint(file, "name: a\nmodel:\n  name: mlp\n  name: small_cnn\n")
    assert str(file) in text
    assert "key 'name' is given twice, on lines 3 and 4" in text


def test_all_problems_are_told_at_once_each_with_its_place(file: Path) -> None:
    text = complaint(
        file,
        "extends: digits\ntrain: {epochs: -1, learning_rte: 0.1}\nmodel: {name: smal_cnn}\n",
        "bench.accuracy_gate=2",
        "data.far=[digitz]",
    )
    lines = text.splitlines()
    assert len(lines) == 5
    assert f"{file}: train.epochs: found -1, allowed: greater than or equal to 1" in lines
    (unknown_key,) = [line for line in lines if "learning_rte" in line]
    assert unknown_key.startswith(f"{file}: train.learning_rte: unknown key; ")
    assert "did you mean 'learning_rate'?" in unknown_key
    assert "weight_decay" in unknown_key
    (unknown_model,) = [line for line in lines if "smal_cnn" in line]
    assert unknown_model.startswith(f"{file}: model.name: unknown model 'smal_cnn'; ")
    assert "did you mean 'small_cnn'? Allowed: conv1d, embedding, mlp, " in unknown_model
    (gate,) = [line for line in lines if "accuracy_gate" in line]
    assert gate == "command line: bench.accuracy_gate: found 2, allowed: less than or equal to 1"
    (far,) = [line for line in lines if "digitz" in line]
    assert far.startswith("command line: data.far: unknown dataset 'digitz'; did you mean 'digits'")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trian.epochs=3", "trian: unknown key; did you mean 'train'?"),
        ("train=3", "train: found 3, allowed: a mapping"),
        ("train.epochs=two", "train.epochs: found 'two', allowed: a valid integer"),
        ("train.epochs=true", "train.epochs: found True, allowed: a valid integer"),
        ("train.learning_rate=.inf", "train.learning_rate: found inf"),
        ("train.optimizer=adam", "found 'adam', allowed: 'sgd' or 'adamw'"),
        ("signals.nervecode.temprature=1", "did you mean 'temperature'?"),
        ("signals.nervecode.layers=5", "layers: found 5, allowed: a selector of layers, or a list"),
        ("signals.nervecode.layers=[]", "layers: found [], allowed: a selector of layers"),
        ("signals.nervecode.layers=[1]", "layers: found [1], allowed: a selector of layers"),
        ("signals.nervecode.beta_length=.nan", "beta_length: found nan, allowed: a finite number"),
        ("signals.nervecode.beta_length='1'", "beta_length: found '1', allowed: a valid number"),
        (
            "signals={nervecode: {}, other: {}}",
            "signal names begin with 'nervecode', found 'other'",
        ),
        ("seeds=3", "seeds: found 3, allowed: a list"),
        ("seeds=[4, 4]", "seeds: seed 4 is given twice"),
        ("seeds=[]", "seeds: found [], allowed: at least one seed"),
        ("seeds=[-1]", "seeds.0: found -1"),
        ("schema_version=2", "schema_version: found 2, allowed: 1"),
        ("name=a/b", "name: found 'a/b'"),
        ("bench.detectors=[msp, msp]", "bench.detectors: a detector is given twice"),
        ("bench.detectors=[mps]", "unknown detector 'mps'; did you mean 'msp'?"),
        ("data.shift=[hflp]", "unknown shift 'hflp'; did you mean 'hflip'?"),
        ("data.near=[held_out]", "the set 'held_out' needs classes under hold_out"),
        ("data.far=[digits]", "the OOD set 'digits' is the ID set itself"),
        ("data.far=[uniform_noise, uniform_noise]", "the set 'uniform_noise' is given twice"),
        ("data.test_fraction=0.8", "calibration_fraction + test_fraction must stay below 1"),
        ("train.epochs", "-o train.epochs: found no key, allowed: key=value"),
        ("=3", "-o =3: found no key, allowed: key=value"),
        ("train.epochs=[", "not valid YAML"),
    ],
)
def test_a_bad_override_is_one_clear_line(file: Path, override: str, words: str) -> None:
    text = complaint(file, MINIMAL, override)
    assert words in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("data.image_size", 1024), ("data.limit_train", 2**31 - 1), ("model.width", 4096),
        ("model.depth", 1000), ("train.epochs", 100_000), ("train.batch_size", 1 << 20),
        ("signals.nervecode.rank", 1 << 16), ("signals.nervecode.codes_per_class", 4096),
        ("signals.nervecode.num_codes", 1 << 16), ("signals.nervecode.coding_dim", 4096),
        ("bench.limit_eval", 2**31 - 1), ("threads", 1024),
    ],
)  # fmt: skip
def test_every_size_has_an_end(file: Path, key: str, most: int) -> None:
    learned = "num_codes" in key or "coding_dim" in key
    file.write_text(MINIMAL + "signals: {nervecode: {recipe: v0_1_1}}\n" * learned)
    resolve(file=file, overrides=[f"{key}={most}"])
    for far in (most + 1, 10**9 + most, 2**64):
        text = complaint(file, MINIMAL, f"{key}={far}")
        assert text.startswith(f"command line: {key}: found {far}, allowed: less than")


def test_seeds_are_not_without_number(file: Path) -> None:
    text = complaint(file, MINIMAL, f"seeds={list(range(1001))}")
    assert text == "command line: seeds: found 1,001 seeds, allowed: at most 1,000"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{knn: {k: 1000000000}}", "knn.k: found 1000000000, allowed: at most 1,000,000"),
        ("{mahalanobis: {shrinkage: .nan}}", "mahalanobis.shrinkage: found nan, allowed: at most"),
        ("{odin: {temperature: .inf}}", "odin.temperature: found inf, allowed: at most"),
    ],
)
def test_options_of_detectors_have_an_end(file: Path, options: str, words: str) -> None:
    assert words in complaint(file, MINIMAL, f"bench.options={options}")


def test_v0_1_1_has_no_code_length(file: Path) -> None:
    text = complaint(
        file, MINIMAL + "signals: {nervecode: {recipe: v0_1_1, aggregation: code_length}}\n"
    )
    assert "signals.nervecode: aggregation 'code_length' needs recipe 'bits'" in text


def test_a_signal_must_be_the_primary_one(file: Path) -> None:
    text = complaint(file, MINIMAL + "signals: {nervecode_b: {}}\n")
    assert "signals: one signal must be named 'nervecode'" in text


def test_what_is_missing_names_the_file(file: Path) -> None:
    text = complaint(file, "data: {hold_out: [1]}\n")
    for key in ("name", "data.id", "model"):
        assert f"{file}: {key}: is missing, and it has no default" in text


def test_an_override_below_a_value_is_refused(file: Path) -> None:
    text = complaint(file, MINIMAL, "train=3", "train.epochs=2")
    assert "train.epochs: train has already been given a value" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1\n", "found list, allowed: a mapping of settings"),
        (b"", "found NoneType, allowed: a mapping of settings"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: !!python/object:os.system {}\n", "not valid YAML"),
        (b"? [1, 2]\n: 3\n", "not valid YAML"),
        (
            b"extends: digts\n",
            "mine.yaml: extends: found 'digts', allowed: the name of a preset; "
            "did you mean 'digits'?",
        ),
        (b"extends: mine.yaml\n", "mine.yaml: extends: found 'mine.yaml', allowed: the name of a"),
    ],
)
def test_a_file_that_is_no_config_is_refused(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        resolve(file=file)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.yaml: no such file"):
        read_yaml(file)
    with pytest.raises(InputError, match="is a folder, allowed: a YAML file"):
        read_yaml(file.parent)


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_of_preset_and_file(file: Path, both: bool) -> None:
    with pytest.raises(InputError, match="exactly one of --preset NAME and --config FILE"):
        resolve(preset="digits" if both else None, file=file if both else None)


def test_a_config_is_frozen() -> None:
    config = resolve(preset="digits").config
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


# Presets


CONFIGS = ROOT / "configs"
PLANS = set((CONFIGS / "study").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted(PLANS), ids=lambda p: p.stem)
def test_the_plan_of_a_study_opens_with_its_command_and_is_no_preset(path: Path) -> None:
    assert path.read_text().splitlines()[0] == "# python scripts/study.py"
    assert path not in presets().values()


@pytest.mark.parametrize("path", sorted(set(CONFIGS.rglob("*.yaml")) - PLANS), ids=lambda p: p.stem)
def test_every_file_opens_with_the_command_that_runs_it_and_resolves(path: Path) -> None:
    name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    first = path.read_text().splitlines()[0]
    assert first.startswith(f"# nervecode bench --preset {name}")
    assert presets()[name] == preset_path(name) == path
    if "timm:" in path.read_text():
        pytest.importorskip("timm", reason="the extra `pretrained` brings it")
    overrides = [part.split()[0] for part in first.split(" -o ")[1:]]
    config = resolve(preset=name, overrides=overrides).config
    assert config.description
    assert config.cost.minutes != "?"
    assert config.cost.memory != "?"


def test_the_list_of_presets_tells_data_and_cost() -> None:
    infos = {info.name: info for info in preset_info()}
    assert set(infos) == set(presets())
    raw = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    assert infos["digits"].description == raw["description"]
    assert infos["digits"].data == "digits"
    assert infos["digits"].minutes == raw["cost"]["minutes"]
    assert infos["digits"].memory == raw["cost"]["memory"]


def test_a_signal_that_is_null_is_left_out() -> None:
    config = resolve(preset="digits", overrides=["signals.nervecode_v0_1_1=null"]).config
    assert list(config.signals) == ["nervecode"]
    with pytest.raises(InputError, match="one signal must be named 'nervecode'"):
        resolve(preset="digits", overrides=["signals.nervecode=null"])


def test_an_unknown_preset_shows_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown 'digt'; did you mean 'digits'"):
        preset_path("digt")


# Identity


def test_a_resolved_config_reads_back_the_same(file: Path) -> None:
    config = resolve(preset="digits").config
    file.write_text(dump_config(config, header="nervecode bench --config x"))
    assert file.read_text().startswith("# nervecode bench --config x\n")
    assert load_config(file) == config


def test_the_hash_is_that_of_what_results_depend_on() -> None:
    config = resolve(preset="digits").config
    aside = ["seeds=[7]", "device=cpu", "threads=2", "description=other", "cost.minutes='99'"]
    assert config_hash(resolve(preset="digits", overrides=aside).config) == config_hash(config)
    names = {one.partition("=")[0].partition(".")[0] for one in aside}
    values = {k: v for k, v in json.loads(config.model_dump_json()).items() if k not in names}
    text = json.dumps([values, 3], sort_keys=True)
    assert config_hash(config, 3) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "override",
    ["train.epochs=31", "data.split_seed=1", "model.width=33", "signals.nervecode.reduce=max",
     "bench.limit_eval=5", "bench.detectors=[msp]"],
)  # fmt: skip
def test_the_hash_changes_with_what_results_depend_on(override: str) -> None:
    config = resolve(preset="digits").config
    assert config_hash(resolve(preset="digits", overrides=[override]).config) != config_hash(config)


def test_cells_of_one_config_differ_by_their_seed() -> None:
    config = resolve(preset="digits").config
    assert len({config_hash(config, seed) for seed in (None, 0, 1, 2)}) == 4


@pytest.mark.parametrize(
    ("overrides", "key", "reader"),
    [
        (["signals.nervecode.num_codes=4"], "signals.nervecode.num_codes", "recipe v0_1_1"),
        (
            ["signals.nervecode.recipe=v0_1_1", "signals.nervecode.rank=4"],
            "signals.nervecode.rank",
            "recipe bits",
        ),
        (["train.optimizer=adamw", "train.momentum=0.5"], "train.momentum", "train.optimizer sgd"),
        (["train.coding_layers=all_blocks"], "train.coding_layers", "with a train.coding_loss"),
        (
            ["signals.nervecode_v0_1_1=null", "train.coding_weight=1.0"],
            "train.coding_weight",
            "a signal of recipe v0_1_1",
        ),
        (["model.name=python:mine:build", "model.width=9"], "model.width", "networks of this pack"),
        (["model.name=timm:resnet10t", "model.depth=9"], "model.depth", "this one has its own"),
        (
            ["data.id=table:my.csv", "data.target=kind", "data.resize=64"],
            "data.resize",
            "a data.id that is of pictures",
        ),
        (["model.name=resnet18", "model.depth=3"], "model.depth", "with conv1d, embedding, mlp"),
        (
            ["bench.detectors=[msp]", "bench.options.knn.k=3"],
            "bench.options.knn.k",
            "with knn among bench.detectors",
        ),
    ],
)
def test_what_cannot_act_is_refused_on_the_command_line(
    overrides: list[str], key: str, reader: str
) -> None:
    with pytest.raises(InputError) as caught:
        resolve(preset="digits", overrides=overrides)
    assert f"command line: {key}: has no effect here, allowed: " in str(caught.value)
    assert reader in str(caught.value)
    assert resolve(preset="digits", overrides=overrides[:-1]).config  # a preset may have it


def test_a_setting_with_an_option_of_its_own_is_given_once() -> None:
    with pytest.raises(InputError, match="command line: seeds: found as -o and by its own option"):
        resolve(preset="digits", overrides=["seeds=[1]"], settings={"seeds": (0,)})
    with pytest.raises(InputError, match="-o extends: is of a config file, allowed: --preset"):
        resolve(preset="digits", overrides=["extends=toy"])
    twice = resolve(preset="digits", overrides=["train.epochs=1", "train.epochs=2"])
    assert twice.config.train.epochs == 2  # the last holds, as of most commands
