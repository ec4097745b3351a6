"""Weights that a training begins with: of a file, or of an installed package that carries one."""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

from torch import Tensor

from nervecode.errors import InputError, did_you_mean
from nervecode.files import absent, suffix_of
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.foreign import (
    OWN,
    SLACK,
    leave_given,
    names_elsewhere,
    normalisation_fault,
    read_foreign,
    value_fault,
    without_prefixes,
)
from nervecode.lab.models.weight_names import in_timms_names
from nervecode.lab.schema import ModelConfig

PACKAGE = "package:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
SHOWN = 3  # misfits that an error shows


def find_weights(source: str) -> Path:
    """The file that `model.weights` names: a path, `package:NAME` or `package:NAME/FILE`.

    No package is imported for it.

    Raises:
        InputError: no such file or package, or a package with none or several of them.
    """
    if not source.startswith(PACKAGE):
        if not Path(source).is_file():
            raise InputError(f"model.weights: {absent(Path(source))}")
        return Path(source)
    name, _, file = source.removeprefix(PACKAGE).partition("/")
    module = name.replace("-", "_")
    spec = PathFinder.find_spec(module) if module.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise InputError(f"model.weights: the package {name!r} is not installed")
    root = Path(folders[0])
    files = sorted(path for path in root.rglob("*") if suffix_of(path) in SUFFIXES)
    names = {path.relative_to(root).as_posix(): path for path in files}
    if file in names:
        return names[file]
    if file or len(names) != 1:
        raise InputError(
            f"model.weights: found {len(names)} files of weights in the package {name!r}, "
            f"allowed: {PACKAGE}{name}/FILE; {did_you_mean(file, names)}"
        )
    return files[0]


def begin(config: ModelConfig, model: Classifier) -> str | None:
    """Put the weights that a config names into a model; see `begin_with`."""
    if config.weights is None:
        return None
    trusted = config.weights.startswith(PACKAGE)  # installed, it could run code as well
    return begin_with(find_weights(config.weights), model, trusted=trusted)


def begin_with(path: Path, model: Classifier, *, trusted: bool = False) -> str | None:
    """Put the weights of a file into a model, but for a head of other classes.

    Args:
        path: the file.
        model: the model.
        trusted: whether PyTorch's format of before 1.6 is read, which has no limits to check.

    Returns:
        What is to be told of the head where it begins anew; None where the file has one that fits.

    Raises:
        InputError: a file that is too large, damaged or more than weights, or whose tensors are
            not those of the network; it says how many fit, and shows the first that do not.
    """
    state = model.state_dict()
    limit = 4 * sum(tensor.nbytes for tensor in state.values()) + SLACK  # with another head
    names = names_elsewhere(model)
    try:
        tensors = read_foreign(path, limit=limit, legacy=trusted)
        tensors = without_prefixes(tensors, names.values(), path)
    except InputError as error:
        raise InputError(f"model.weights: {error}") from None
    tensors = in_timms_names(tensors, names.values())
    leave_given(model, names, tensors)
    head = {names[key] for key in state if key.startswith("head.")}
    fitting = {
        key: tensors[name]
        for key, name in names.items()
        if name in tensors and tensors[name].shape == state[key].shape
    }
    misfits = _misfits(names, state, tensors, head)
    if misfits:
        total = len([key for key in names if key not in OWN])
        raise InputError(
            f"model.weights: {path}: {len(fitting)} of the network's {total} tensors fit, "
            f"{len(misfits)} do not: {'; '.join(misfits[:SHOWN])}"
        )
    if fault := normalisation_fault(names, tensors):
        raise InputError(f"model.weights: {path}: {fault}")
    for key, tensor in fitting.items():
        if fault := value_fault(tensor, state[key]):
            raise InputError(f"model.weights: {path}: {names[key]!r} {fault}")
    whole = all(key in fitting for key in state if key.startswith("head."))
    if not whole:  # a matrix of other classes says nothing of a bias that would fit
        fitting = {key: tensor for key, tensor in fitting.items() if not key.startswith("head.")}
    model.load_state_dict(state | fitting)
    return None if whole else _of_head(tensors, head, model.head.out_features)


def _misfits(
    names: dict[str, str], state: dict[str, Tensor], tensors: dict[str, Tensor], head: set[str]
) -> list[str]:
    """What stands between a file and a network, the head aside."""
    lines = []
    for key, name in names.items():
        optional = key in OWN or key.endswith("num_batches_tracked")
        if name in head or (optional and name not in tensors):
            continue
        wanted = tuple(state[key].shape)
        if name not in tensors:
            lines.append(f"the file lacks {name!r} of shape {wanted}")
        elif tuple(tensors[name].shape) != wanted:
            shape = tuple(tensors[name].shape)
            lines.append(f"{name!r} has shape {shape} in the file, {wanted} in the network")
    known = {*names.values(), *head}
    return lines + [f"the network lacks {name!r}" for name in tensors if name not in known]


def _of_head(tensors: dict[str, Tensor], head: set[str], ours: int) -> str:
    classes = [len(tensors[name]) for name in sorted(head) if name in tensors]
    theirs = f"of {classes[0]:,} classes" if classes else "none"
    return f"its head begins anew: {ours} classes here, in the file {theirs}"
