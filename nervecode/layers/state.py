"""State dicts of a watched model: the model's keys are those of the bare one, the codes follow.

The codes' keys begin with `nervecode.`. What begins with `nervecode.#` is no parameter or buffer:
`#header` describes coders and calibration in JSON, as bytes in a tensor, and the others are tensors
that it refers to. So a state dict is made of tensors alone, and brings its codes into any wrapper.
Layers have the names that they have without what else wraps the model, as `torch.compile` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.coder import Coder
from nervecode.layers.coders.spec import coder_from_spec
from nervecode.layers.guard.architecture import Architecture
from nervecode.layers.guard.condition import Condition
from nervecode.layers.names import bare_names, key_of, layer_name, renamed
from nervecode.scoring.calibrated_calls import CalibratedCalls
from nervecode.scoring.layer_calibration import LayerCalibration

MARK = "nervecode.#"
HEADER = "header"
CALIBRATION, STANDARD = "calibration", "standard"  # and a layer: readings
HASHES = "fit_hashes"  # of all values; those of files from before, `fit_inputs`, were of some
UNTOUCHED = (
    "allowed: the bytes of JSON as uint8; what is done to weights, such as .float() or an average, "
    f"must leave out the keys that begin with {MARK!r}"
)
ROUNDED = "codes of lower precision than they were fitted in, so that p-values are others"


def header_of(watched: Any) -> dict[str, Any]:
    """What rebuilds the coders and the calibration of a `Watched`, as plain JSON values."""
    header: dict[str, Any] = {"coders": coder_specs(watched.coders)}
    if watched.answer_path is not None:
        header["answer"] = list(watched.answer_path)
    if watched.answer_width is not None:
        header["answer_width"] = watched.answer_width
    if watched.condition.digest is not None:
        header["weights"] = watched.condition.digest
    if watched.condition.architecture is not None:
        header["modules"] = watched.condition.architecture.plain()
    if watched.calibration is not None:
        header["method"] = watched.calibration.method
        header["layers"] = list(watched.calibration.layers)
        header |= watched.calibration.calls.plain()
    return header


def translated(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of coders and calibration, whose layers are of modules of other names."""
    header = {**header, "coders": {renamed(n, names): c for n, c in header["coders"].items()}}
    for key in {"layers", "ran"} & header.keys():
        header[key] = [renamed(name, names) for name in header[key]]
    return header, {_renamed_tensor(name, names): tensor for name, tensor in tensors.items()}


def _renamed_tensor(name: str, names: Mapping[str, str]) -> str:
    kind, _, rest = name.partition(".")
    if kind in (CALIBRATION, STANDARD):
        return f"{kind}.{renamed(rest, names)}"
    return f"coders.{_renamed_key(rest, names)}" if kind == "coders" else name


def _renamed_key(name: str, names: Mapping[str, str]) -> str:
    """The name of a coder's tensor, which begins with the coder's key in a ModuleDict."""
    key, _, rest = name.partition(".")
    return f"{key_of(renamed(layer_name(key), names))}.{rest}"


def full_names(model: nn.Module) -> dict[str, str]:
    """The names of modules in files -> those of the model, where it is wrapped."""
    return {bare: name for name, bare in bare_names(model).items()}


def coder_specs(coders: nn.ModuleDict) -> dict[str, dict[str, Any]]:
    """Layer name -> what rebuilds its coder, as plain JSON values."""
    return {layer_name(key): c.spec() for key, c in coders.items() if isinstance(c, Coder)}


def tensors_of(watched: Any) -> dict[str, Tensor]:
    """The tensors that the header of a `Watched` refers to, beside those of its coders."""
    tensors = {} if watched.fit_inputs is None else {HASHES: watched.fit_inputs.hashes}
    if watched.calibration is not None:
        calibration = watched.calibration
        kinds = {CALIBRATION: calibration.layers, STANDARD: calibration.standard or {}}
        for kind, layers in kinds.items():
            tensors |= {f"{kind}.{name}": pair.contiguous() for name, pair in layers.items()}
        if watched.calibration.predicted is not None:
            tensors["calibration_classes"] = watched.calibration.predicted
        if watched.calibration.weights is not None:
            tensors["calibration_weights"] = watched.calibration.weights
    return tensors


def restore_state(watched: Any, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Give a `Watched` what `header_of` and `tensors_of` tell beside the coders."""
    architecture = _architecture(header)
    watched.condition = Condition(header.get("weights"), architecture=architecture)
    watched._codebooks = None
    for mismatch in () if architecture is None else architecture.mismatches(watched.model):
        watched._remarks.tell(
            f"{mismatch.text}; if that changes what it computes, fit and calibrate again",
            about="architecture",
        )
    watched.answer_path = tuple(header["answer"]) if "answer" in header else None
    watched.answer_width = header.get("answer_width")  # files from before do not tell
    watched.fit_inputs = InputSketch(tensors[HASHES]) if HASHES in tensors else None
    watched.calibration = stored_calibration(header, tensors)


def check_architecture(model: nn.Module, header: Mapping[str, Any], source: str) -> None:
    """Refuse a model that computes something else than the one that a header tells of.

    Raises:
        InputError: another architecture; its first difference is named.
    """
    architecture = _architecture(header)  # files from before do not tell
    for mismatch in () if architecture is None else architecture.mismatches(model):
        if mismatch.sure:
            raise InputError(f"{source}: made for another architecture; {mismatch.text}")


def _architecture(header: Mapping[str, Any]) -> Architecture | None:
    return Architecture.from_plain(header["modules"]) if "modules" in header else None


def stored_calibration(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> LayerCalibration | None:
    """The calibration that `header_of` and `tensors_of` tell of, if there was one."""
    if "method" not in header:
        return None
    predicted = tensors.get("calibration_classes")
    layers = {name: tensors[f"{CALIBRATION}.{name}"] for name in header["layers"]}
    standard = {name: tensors.get(f"{STANDARD}.{name}") for name in layers}
    return LayerCalibration(
        layers,
        header["method"],
        by_class=predicted is not None,
        predicted=predicted,
        weights=tensors.get("calibration_weights"),
        standard={n: rows for n, rows in standard.items() if rows is not None} or None,
        calls=CalibratedCalls.from_plain(header),
    )


def without_prefix(module: Any, state: Any, prefix: str, metadata: Any) -> None:
    """Base parameters keep the keys they have in the bare model; the coders' follow behind."""
    names = bare_names(module.model)

    def outside(tail: str) -> str:
        room, _, rest = tail.partition(".")
        if room == "coders":
            return f"nervecode.{_renamed_key(rest, names)}"
        return rest if room == "model" else tail  # or of the wrapper itself

    _rename(state, prefix, outside)
    _share_versions(state, f"{prefix}model.", prefix)
    header, tensors = translated(header_of(module), tensors_of(module), names)
    content = json.dumps(header).encode()
    state[f"{prefix}{MARK}{HEADER}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    state |= {f"{prefix}{MARK}{name}": tensor for name, tensor in tensors.items()}


def with_prefix(watched: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The reverse, with the coders that the state describes in the place of the present ones.

    A checkpoint of the bare model loads too, and leaves the coders alone.

    Raises:
        InputError: a description that was converted or averaged with the weights, one of another
            architecture, whose first difference is named, or one of tensors that are not there.
    """
    start = f"{prefix}{MARK}"
    tensors = {key[len(start) :]: state.pop(key) for key in list(state) if key.startswith(start)}
    if HEADER in tensors:
        header = _read_header(start, tensors.pop(HEADER))
        _check_readings(header, tensors, start)
        _take_over(watched, header, tensors, {key.removeprefix(prefix) for key in state})
    coders: nn.ModuleDict = watched.coders
    names = full_names(watched.model)

    def full(tail: str) -> str:
        room, _, rest = tail.partition(".")  # a wrapper within has keys of its own there
        key = _renamed_key(rest, names) if room == "nervecode" else ""
        return f"nervecode.{key}" if key.split(".")[0] in coders else tail

    def is_own(tail: str) -> bool:
        room, _, rest = tail.partition(".")
        return room == "nervecode" and rest.split(".")[0] in coders

    beside = {*watched._modules, *watched._parameters, *watched._buffers} - {"model", "coders"}

    def within(tail: str) -> str:
        if is_own(tail):
            return f"coders.{tail.removeprefix('nervecode.')}"
        return tail if tail.partition(".")[0] in beside else f"model.{tail}"

    if names:
        _rename(state, prefix, full)
    own = {f"{prefix}nervecode.{key}": value for key, value in coders.state_dict().items()}
    if not any(is_own(key[len(prefix) :]) for key in state if key.startswith(prefix)):
        state.update(own)
    for key, value in own.items():
        if key in state and state[key].dtype.itemsize < value.dtype.itemsize:
            watched._remarks.tell(f"state dict, {key!r} and others: {ROUNDED}")
            break
    _rename(state, prefix, within)
    _share_versions(state, prefix, f"{prefix}model.")


def _read_header(start: str, content: Tensor) -> dict[str, Any]:
    """What `header_of` told, from the bytes of JSON in a tensor."""
    key = f"{start}{HEADER}"
    if content.dtype != torch.uint8:
        raise InputError(f"state dict, {key!r}: found {content.dtype}, {UNTOUCHED}")
    try:
        header: dict[str, Any] = json.loads(bytes(content.cpu().tolist()))
    except ValueError:
        raise InputError(f"state dict, {key!r}: found no JSON, {UNTOUCHED}") from None
    return header


def _check_readings(header: Mapping[str, Any], tensors: Mapping[str, Tensor], start: str) -> None:
    """Refuse a calibration whose readings are not there."""
    for name in header.get("layers", ()):
        key = f"{CALIBRATION}.{name}"
        found = tuple(tensors[key].shape) if key in tensors else "none"
        if key not in tensors or tensors[key].ndim != 2:
            raise InputError(
                f"state dict, {start + key!r}: found {found}, allowed: the (n, 2) readings of "
                "calibration"
            )


def _take_over(
    watched: Any, header: Mapping[str, Any], tensors: Mapping[str, Tensor], keys: Set[str]
) -> None:
    """Make room for the coders that a header describes, and take the calibration that it has.

    `keys` are those of the state dict; where one of the codes is not there, all stays as it is.
    """
    check_architecture(watched.model, header, "state dict")
    names = list(header["coders"])
    header, tensors = translated(header, tensors, full_names(watched.model))
    same = header["coders"] == coder_specs(watched.coders)
    coders = {
        name: watched.coder(name) if same else coder_from_spec(spec)
        for name, spec in header["coders"].items()
    }
    for name, coder in zip(names, coders.values(), strict=True):
        for key in coder.state_dict(prefix=f"nervecode.{key_of(name)}."):
            if key not in keys:
                raise InputError(f"state dict: {key!r} is missing, of the codes that it describes")
    if not same:
        watched.replace_coders(coders)
    restore_state(watched, header, tensors)


def _share_versions(state: Any, source: str, target: str) -> None:
    """Modules find their versions below another prefix as well, so that either model can load."""
    versions = getattr(state, "_metadata", {})
    below = {key: value for key, value in versions.items() if key.startswith(source) and key}
    versions.update({target + key[len(source) :]: value for key, value in below.items()})


def _rename(state: dict[str, Any], prefix: str, renamed: Callable[[str], str]) -> None:
    """Rename what is below a prefix, at once: a model may have parts of the new names too."""
    below = [key for key in state if key.startswith(prefix)]
    moved = {prefix + renamed(key[len(prefix) :]): state.pop(key) for key in below}
    state.update(moved)
