"""GraphScorer: an exported graph in ONNX, run by ONNX Runtime."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from nervecode.errors import InputError, NervecodeError, first_line, need_extra
from nervecode.files import absent, sha256
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.images import RULE
from nervecode.lab.inference.images import ImageInputs
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.scorer import Scorer, other_names
from nervecode.lab.inference.source import Inputs, Source
from nervecode.lab.inference.tars import TarInputs

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SUFFIX = ".onnx"
PREFIX = "nervecode."  # of the names of a file's properties
RANKS = {"output": 2, "surprise": 1, "percentile": 1, "p_value": 1, "by_layer": 2}
SMALLEST = "smallest_alpha"  # the output that says it
MAKE = "`nervecode export RUN --output model.onnx` makes one"


class _About(BaseModel):
    """What a file must say of itself, and what it may."""

    calibration_inputs: Annotated[int, Field(ge=2)]
    smallest_alpha: Annotated[float, Field(gt=0, lt=1)]
    by_class: bool = False
    weighted: bool = False
    layers: Annotated[list[str], Field(min_length=1)]
    pictures: str | None = None
    columns: dict[str, Any] | None = None
    classes: list[int | str] = []
    seed: int | None = None
    gate_passed: bool | None = None


class GraphScorer(Scorer):
    """A graph that `nervecode export` or `WrappedModel.export` wrote.

    Args:
        path: the file.
        seed: whose model it must be; None takes any.
        device: the CPU, or None for the same.

    Raises:
        InputError: no such file, one that is damaged, of another kind or says otherwise than it
            answers, or another seed or device.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, seed: int | None = None, device: str | None = None) -> None:
        need_extra(f"score {path}", "onnxruntime", "export")
        if device not in (None, "auto", "cpu"):
            raise InputError(f"--device: found {device!r}, allowed for a graph: cpu")
        self.path, self.session = path, _opened(path)
        width = _width(path, self.session)
        self.about = _about(path, self.session)
        if width != len(self.about.layers):
            raise InputError(
                f"{path}: property 'nervecode.layers': found {len(self.about.layers)} names, "
                f"allowed: {width}, as its output 'by_layer' has columns"
            )
        if seed not in (None, self.about.seed):
            raise InputError(
                f"--seed: found {seed}, allowed: {self.about.seed}, whose model {path} holds"
            )
        self.input, self.shape = _input(path, self.session)
        self.smallest_alpha = self._smallest_alpha()
        self.num_samples = self._num_samples()
        self.gate_passed = self.about.gate_passed
        self.identity = {"graph": sha256(path)}
        self.classes = other_names(self.about.classes)
        if self.about.columns is not None:
            self.encoder = TableEncoder.from_json(
                self.about.columns, source=f"{path}: property 'nervecode.columns'"
            )

    def check(self, source: Source) -> None:
        """Refuse pictures where the file does not say how they become inputs, or otherwise."""
        if isinstance(source, (ImageInputs, TarInputs)) and self.about.pictures != RULE:
            raise InputError(
                f"{self.path}: property 'nervecode.pictures', the rule that fits pictures: found "
                f"{self.about.pictures!r}, allowed: {RULE!r}; arrays can be scored"
            )

    def __call__(self, inputs: Inputs) -> Scored:
        """Score a batch with percentile and p-value."""
        answer = self._run(inputs.inputs.numpy(), list(RANKS))
        return Scored(
            ids=np.array(inputs.ids),
            surprise=answer["surprise"].astype(np.float32),
            percentile=answer["percentile"],
            p_value=answer["p_value"],
            prediction=answer["output"].argmax(1),
            by_layer=answer["by_layer"].astype(np.float32),
            layers=tuple(self.about.layers),
        )

    def _smallest_alpha(self) -> float:
        """As the graph has it.

        Raises:
            InputError: the file's property says another.
        """
        answer = self._run(np.zeros((1, *self.shape), np.float32), [SMALLEST])
        smallest = float(answer[SMALLEST])
        if not math.isclose(smallest, self.about.smallest_alpha, rel_tol=1e-6):
            raise InputError(
                f"{self.path}: property 'nervecode.smallest_alpha': found "
                f"{self.about.smallest_alpha:.6g}, allowed: {smallest:.6g}, as its output "
                f"{SMALLEST!r}; {MAKE}"
            )
        return smallest

    def _num_samples(self) -> int:
        """n, which the smallest p-value tells where all calibration inputs count alike.

        Raises:
            InputError: the file's property says another.
        """
        count, told = self.about.calibration_inputs, 1 / self.smallest_alpha - 1
        alike = not (self.about.by_class or self.about.weighted)
        if count < told * (1 - 1e-6) or (alike and not math.isclose(count, told, rel_tol=1e-6)):
            raise InputError(
                f"{self.path}: property 'nervecode.calibration_inputs': found {count}, allowed: "
                f"{told:.0f}{'' if alike else ' or more'}, as its output {SMALLEST!r} tells; {MAKE}"
            )
        return count

    def _run(self, inputs: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        given = {self.input: inputs, "alpha": np.array(self.about.smallest_alpha)}
        try:
            values = self.session.run(outputs, given)
        except Exception as error:  # ONNX Runtime raises errors of its own
            raise NervecodeError(f"{self.path}: cannot be run ({first_line(error)})") from None
        return dict(zip(outputs, map(np.asarray, values), strict=True))


def _opened(path: Path) -> InferenceSession:
    if not path.is_file():
        raise InputError(f"{absent(path)}; {MAKE}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises errors of its own
        raise InputError(
            f"{path}: not a readable ONNX file ({first_line(error)}); {MAKE}"
        ) from None


def _width(path: Path, session: InferenceSession) -> Any:
    """L, the number of layers, of a graph that answers what a file of scores holds.

    Raises:
        InputError: it does not.
    """
    shapes = {output.name: output.shape for output in session.get_outputs()}
    ranks = {name: len(shape) for name, shape in shapes.items()}
    if missing := [name for name in (*RANKS, SMALLEST) if name not in ranks]:
        raise InputError(
            f"{path}: lacks the output {missing[0]!r}, so it is no graph of a whole model that "
            f"nervecode exported; {MAKE}"
        )
    for name, rank in RANKS.items():
        if ranks[name] != rank:
            raise InputError(
                f"{path}: output {name!r}: found {ranks[name]} dimensions, allowed: {rank}; "
                "only classifiers with one surprise an input can be scored"
            )
    return shapes["by_layer"][1]


def _about(path: Path, session: InferenceSession) -> _About:
    properties = session.get_modelmeta().custom_metadata_map
    own = {k.removeprefix(PREFIX): v for k, v in properties.items() if k.startswith(PREFIX)}
    try:
        return _About.model_validate({key: json.loads(value) for key, value in own.items()})
    except (ValidationError, ValueError, RecursionError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else None
        name = f"{PREFIX}{what['loc'][0]}" if what else f"{PREFIX}…"
        raise InputError(
            f"{path}: the property {name!r}, which nervecode writes, is missing or damaged; {MAKE}"
        ) from None


def _input(path: Path, session: InferenceSession) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the one input beside `alpha`.

    Raises:
        InputError: there are several, or inputs of open shapes, another type or a fixed number.
    """
    given = {node.name: node for node in session.get_inputs()}
    if given.pop("alpha", None) is None or len(given) != 1:
        names = ", ".join(map(repr, given)) or "none"
        raise InputError(f"{path}: found the inputs {names}, allowed: one, and 'alpha'")
    name, node = given.popitem()
    batch, *shape = node.shape
    if node.type != "tensor(float)" or not all(isinstance(size, int) for size in shape):
        raise InputError(
            f"{path}: input {name!r}: found {node.type} of {node.shape}, allowed: float32 of a "
            "fixed shape but for the first dimension"
        )
    if isinstance(batch, int):
        raise InputError(
            f"{path}: takes {batch} inputs at a time, allowed: any number; "
            "export with dynamic_batch=True"
        )
    return name, tuple(shape)
