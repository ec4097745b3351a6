"""The schema of a config: types and ranges, as frozen pydantic models. It knows no name.

`nervecode.lab.config.names` asks the registries for names.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from nervecode.errors import did_you_mean

Fraction = Annotated[float, Field(strict=True, gt=0, lt=1)]
# Sizes end where a typing error would otherwise fill the memory, or never come to an end.
Count = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
Size = Annotated[int, Field(strict=True, ge=1, le=4096)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]

Aggregation = Literal["code_length", "mean", "max", "total", "fisher", "simes", "harmonic"]

PRIMARY = "nervecode"
NO_LOSS = "none"  # in bits
MAX_SEEDS = 1000
PATHS = (
    "folder",
    "list",
    "array",
    "table",
    "series",
)  # sets that are given by a path, as in table:PATH
MAX_OPTION = 1_000_000  # of a detector: neighbours, axes, components, temperatures

Problem = tuple[str, str]
"""A dotted key, and what was found there and what is allowed."""

# What the reader of a YAML file calls pydantic's types, and the one pattern of this schema.
YAML_TYPES = {
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_pattern_mismatch": "at most 64 letters (a to z), digits, '.', '_' and '-'",
}


def _option(value: Any) -> Any:
    # Here and not by the type, whose union would name each of its branches as a key.
    if not isinstance(value, (bool, int, float)):
        raise ValueError(f"found {value!r}, allowed: a number, true or false")
    if not abs(value) <= MAX_OPTION:  # nor NaN
        raise ValueError(f"found {value!r}, allowed: at most {MAX_OPTION:,}")
    return value


Option = Annotated[bool | int | float, BeforeValidator(_option)]


def _freeze(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value != "backbone" and not whole:
        raise ValueError(f"found {value!r}, allowed: a number of epochs, or backbone")
    return value


Freeze = Annotated[int | Literal["backbone"], BeforeValidator(_freeze)]


def _selectors(layers: Any) -> Any:
    # Here and not by the type, whose union would name each of its branches as a key.
    several = isinstance(layers, (list, tuple)) and all(isinstance(n, str) for n in layers)
    if not layers or not (isinstance(layers, str) or several):
        raise ValueError(f"found {layers!r}, allowed: a selector of layers, or a list of them")
    return layers


Selectors = Annotated[str | tuple[str, ...], BeforeValidator(_selectors)]


def _class_name(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"found {value!r}, allowed: names in quotes, or numbers of classes")
    return value


def _column_name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ColumnName = Annotated[str, BeforeValidator(_column_name)]
ClassName = Annotated[int | str, BeforeValidator(_class_name)]


class Section(BaseModel):
    """What every part of a config shares: frozen, and no unknown key.

    Keys in `LATER` came after the first release: while they have their default they are left out
    of what is stored and hashed, so that older configs keep their hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        unused = {key for key in self.LATER if getattr(self, key) == fields[key].default}
        return {key: value for key, value in values.items() if key not in unused}


class DataConfig(Section):
    """Which data the classifier knows (ID), and which sets it meets afterwards.

    A set is `NAME` or `NAME:ARGUMENT`: `held_out` are the ID set's own held-out classes,
    `digits:8,9` are classes of a data set, `rotate:45` is a shift of the ID test split,
    `folder:PATH`, `list:PATH`, `array:PATH`, `table:PATH` and `series:PATH` are your own. In a
    file, `mnist?` is `mnist` where that set is on the machine, and nothing elsewhere.
    """

    LATER = frozenset(
        {"target", "split", "test", "calibration", "group", "categories", "drop", "resize"}
    )

    id: str
    # Classes by their names, or by their numbers in the order of the names.
    hold_out: tuple[ClassName, ...] = ()
    # Of a set by path, columns of a table or arrays beside the inputs: the class of each row (`y`
    # beside arrays), its part (train, calibration or test), and its group, which is never split.
    target: ColumnName | None = None
    split: ColumnName | None = None
    group: ColumnName | None = None
    # The paths of a test part of its own, and of folders and lists of a calibration part.
    test: str | None = None
    calibration: str | None = None
    # Of a table: columns of numbers that stand for categories, and columns that are left out.
    categories: tuple[ColumnName, ...] = ()
    drop: tuple[ColumnName, ...] = ()
    # Height and width of the images; None keeps those of the set (32 for pictures of many sizes).
    image_size: Annotated[int, Field(strict=True, ge=4, le=1024)] | None = None
    # Of pictures in files, the shorter side before the centre is cropped; None: no more than that.
    resize: Annotated[int, Field(strict=True, ge=4, le=2048)] | None = None
    # The published part that ID calibration is taken from. `test` is OpenOOD's choice; what is
    # taken is then no part of ID test.
    calibration_from: Literal["train", "test"] = "train"
    calibration_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    split_seed: Annotated[int, Field(strict=True, ge=0)] = 0
    limit_train: Count | None = None
    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    shift: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _absolute_id(cls, spec: str) -> str:
        return _absolute(spec)

    @field_validator("near", "far")
    @classmethod
    def _absolute_sets(cls, specs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_absolute, specs))

    @field_validator("test", "calibration")
    @classmethod
    def _absolute_part(cls, path: str | None) -> str | None:
        return None if path is None else _whole(path)

    @model_validator(mode="after")
    def _columns(self) -> DataConfig:
        kind = self.id.partition(":")[0]
        of_paths = ("target", "split", "test", "group")
        for key in (*of_paths, "categories", "drop"):
            kinds = ("array", "table", "series") if key in of_paths else ("table",)
            kinds = ("folder", "list", *kinds) if key == "test" else kinds
            if getattr(self, key) and kind not in kinds:
                allowed = " or ".join(f"{name}:PATH" for name in kinds)
                raise ValueError(f"{key} is for data.id {allowed}, found {self.id!r}")
        if kind == "table" and not self.target:
            raise ValueError(
                "target is missing: the column of a table that holds the classes; "
                "-o data.target=COLUMN names it"
            )
        if self.split and self.test:
            raise ValueError("found split and test, allowed: one of them")
        if self.calibration and not (kind in ("folder", "list") and self.test):
            raise ValueError("calibration is for data.id folder:PATH or list:PATH with a test part")
        folders = [self.id, *(f"folder:{path}" for path in (self.test, self.calibration) if path)]
        for first, second in combinations(folders, 2):
            if _nested(first, second):
                raise ValueError(f"{first} and {second} share pictures, allowed: folders apart")
        if self.resize and self.resize < (self.image_size or self.resize):
            raise ValueError(f"resize: found {self.resize}, allowed: image_size or more")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        specs = [*self.near, *self.far, *self.shift]
        twice = sorted({spec for spec in specs if specs.count(spec) > 1})
        if twice:
            raise ValueError(f"the set {twice[0]!r} is given twice")
        for spec in (*self.near, *self.far):
            if spec == self.id or _nested(spec, self.id):
                raise ValueError(f"the OOD set {spec!r} is the ID set itself")
        if "held_out" in specs and not self.hold_out:
            raise ValueError("the set 'held_out' needs classes under hold_out")
        if self.calibration_fraction + self.test_fraction >= 1:
            raise ValueError("calibration_fraction + test_fraction must stay below 1")
        return self


class ModelConfig(Section):
    """A model of the registry, by name, with its own arguments.

    `torchvision:NAME` and `timm:NAME` are those libraries' models, `python:MODULE:FUNCTION` makes
    one of the user's own; they have neither width nor depth.
    """

    LATER = frozenset({"head", "weights", "mean", "std"})

    name: str
    width: Size = 32
    depth: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    # The linear layer that gives the logits, by its name in a model from elsewhere; None: the last.
    head: str | None = None
    # Where training begins: a file of weights, or package:NAME, which carries one.
    weights: str | None = None
    # What inputs are normalised by, per channel or one for all; None: the statistics of ID train.
    mean: tuple[Finite, ...] | None = None
    std: tuple[Positive, ...] | None = None

    @field_validator("weights")
    @classmethod
    def _absolute_weights(cls, source: str | None) -> str | None:
        if source is None or source.startswith("package:"):
            return source
        return str(Path(source).expanduser().resolve())

    @model_validator(mode="after")
    def _both_or_neither(self) -> ModelConfig:
        if len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std must have as many numbers as each other")
        return self


class TrainConfig(Section):
    """How the classifier is trained."""

    LATER = frozenset({"freeze", "loss", "loss_options", "coding_loss", "coding_layers"})

    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: Literal["none", "crop", "crop_flip"] = "none"
    # The task's loss by name, and its hyperparameters, where they are not to be the authors'.
    loss: str = "cross_entropy"
    loss_options: dict[str, Option] = {}
    # A loss in bits of the vectors of some layers, by name; `features` are the input of the head.
    coding_loss: str = NO_LOSS
    coding_layers: Selectors = "features"
    # Of that loss, and of the surprise of learned codes.
    coding_weight: NotNegative = 0.1
    # `auto`: bfloat16 autocast where the device multiplies it natively, else float32.
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    # So many epochs train the head alone, on a network that stays as it is; `backbone`: all do.
    freeze: Freeze = 0


class SignalConfig(Section):
    """One codebook signal. Recipe `bits` is fitted after training, `v0_1_1` is learned with it."""

    recipe: Literal["bits", "v0_1_1"] = "bits"
    layers: Selectors = "all_blocks"
    aggregation: Aggregation | None = None
    # Recipe bits.
    reduce: Literal["mean", "max", "mean_std", "tokens"] = "mean_std"
    length_power: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    rank: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 128
    codes_per_class: Size = 8
    label_code: bool = True
    # Recipe v0_1_1. Detached, the network trains as if no code were there.
    num_codes: Annotated[int, Field(strict=True, ge=1, le=1 << 16)] = 16
    coding_dim: Size = 8
    temperature: Positive = 1.0
    beta_length: Finite = 1.0
    beta_entropy: Finite = 1.0
    beta_distance: Finite = 1.0
    detach: bool = False
    # After each epoch, codes that no input was nearest to are put on inputs.
    revive: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SignalConfig:
        if self.recipe == "v0_1_1" and self.aggregation == "code_length":
            raise ValueError("aggregation 'code_length' needs recipe 'bits'")
        if self.recipe == "bits" and self.revive:
            raise ValueError("revive needs recipe 'v0_1_1': codes of recipe 'bits' are fitted")
        return self

    def in_training(self) -> dict[str, Any]:
        """The settings that a training depends on, if it learns these codes."""
        after = {"aggregation", "reduce", "length_power", "rank", "codes_per_class", "label_code"}
        # A key that came later repeats no training that is without it.
        return self.model_dump(exclude=after if self.revive else {*after, "revive"})


class BenchConfig(Section):
    """What is compared, and under which rules."""

    detectors: tuple[str, ...] = ()
    # Detector -> its hyperparameters, where they are not to be the authors'.
    options: dict[str, dict[str, Option]] = {}
    accuracy_gate: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    limit_eval: Count | None = None
    keep_features: bool = False

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a detector is given twice")
        return names


class CostConfig(Section):
    """What a run takes on two CPU cores, for the reader; nothing depends on it."""

    minutes: str = "?"
    memory: str = "?"


class Config(Section):
    """Everything that a run depends on."""

    LATER = frozenset({"transfer"})

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    description: str = ""
    cost: CostConfig = CostConfig()
    demo: bool = False
    # Its inputs or its network come from a training elsewhere, which may have met any of the sets.
    transfer: bool = False
    seeds: tuple[Seed, ...] = (0,)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # CPU threads; None leaves PyTorch its own. A small network is fastest on one, by far where
    # cores are shared: OpenMP's threads spin while they wait for each other.
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    # PyTorch's deterministic algorithms alone; on a CPU, results repeat without.
    deterministic: bool = False
    data: DataConfig
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    signals: dict[str, SignalConfig] = Field(default={PRIMARY: SignalConfig()})
    bench: BenchConfig = BenchConfig()

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("found [], allowed: at least one seed")
        if len(seeds) > MAX_SEEDS:
            raise ValueError(f"found {len(seeds):,} seeds, allowed: at most {MAX_SEEDS:,}")
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seed {twice[0]} is given twice")
        return seeds

    @field_validator("signals")
    @classmethod
    def _has_primary(cls, signals: dict[str, SignalConfig]) -> dict[str, SignalConfig]:
        if PRIMARY not in signals:
            raise ValueError(f"one signal must be named {PRIMARY!r}")
        for name in signals:
            if not name.startswith(PRIMARY) or not name.isidentifier():
                raise ValueError(f"signal names begin with {PRIMARY!r}, found {name!r}")
        return signals

    @property
    def transferred(self) -> bool:
        """Whether figures are to be read as those of a transfer."""
        return self.transfer or self.model.weights is not None

    def training_inputs(self) -> dict[str, Any]:
        """The settings that a training depends on, beside its seed.

        Without defaults, so that a key that a later release adds does not repeat the training.
        """
        inputs = self.model_dump(
            mode="json", include={"data", "model", "train"}, exclude_defaults=True
        )
        for group in ("near", "far", "shift"):  # the classifier never sees them
            inputs["data"].pop(group, None)
        learned = {n: s.in_training() for n, s in self.signals.items() if s.recipe == "v0_1_1"}
        inputs["signals"] = learned
        return {**inputs, "deterministic": True} if self.deterministic else inputs


def problems(values: Mapping[str, Any]) -> Config | list[Problem]:
    """A Config, or every problem of its types and ranges."""
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        return [_problem(problem) for problem in error.errors()]


def _problem(error: Any) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        leaf = str(error["loc"][-1])
        return key, f"unknown key; {did_you_mean(leaf, _fields_at(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return key, "is missing, and it has no default"
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return key, text
    allowed = YAML_TYPES.get(error["type"], text.removeprefix("Input should be "))
    return key, f"found {given!r}, allowed: {allowed}"


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    """The keys that a section allows; signals are named by the user."""
    sections: dict[str, type[Section]] = {
        "data": DataConfig,
        "model": ModelConfig,
        "train": TrainConfig,
        "signals": SignalConfig,
        "bench": BenchConfig,
        "cost": CostConfig,
    }
    section = sections.get(str(location[0]), Config) if location else Config
    return list(section.model_fields)


def _absolute(spec: str) -> str:
    """`folder:PATH` with the whole path, so that a run means the same from any folder."""
    name, _, argument = spec.partition(":")
    if name not in PATHS:
        return spec
    if not argument:
        raise ValueError(f"the set {name!r} needs a path, as in {name}:PATH")
    return f"{name}:{_whole(argument)}"


def _whole(path: str) -> str:
    try:
        whole = str(Path(path).expanduser().resolve())
        whole.encode()
    except (RuntimeError, UnicodeEncodeError) as error:  # no such home; not UTF-8, as a config is
        raise ValueError(f"the path {path!r} cannot be written into a config ({error})") from None
    return whole


def _nested(spec: str, other: str) -> bool:
    """Whether one of two folders lies in the other."""
    if not (spec.startswith("folder:") and other.startswith("folder:")):
        return False
    first, second = (Path(text.partition(":")[2]) for text in (spec, other))
    return first.is_relative_to(second) or second.is_relative_to(first)
