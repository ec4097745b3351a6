"""Foreign: weights that were trained elsewhere, read with suspicion and fitted to a model."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nervecode.errors import InputError
from nervecode.files import absent, suffix_of
from nervecode.files import sha256 as file_sha256
from nervecode.lab.data.splits import Splits
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import Config

# Before 2.6, `weights_only` ran code (CVE-2025-32434, GHSA-53q9-r3pm-6pq6); before 2.10 it could
# be made to write beyond its memory (CVE-2026-24747, GHSA-63cw-57p8-fm3p).
SAFE_UNPICKLER = (2, 10)
# Where weights lie in a file.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "params", "weights")
# Of DataParallel, torch.compile, a LightningModule, and what else holds a model.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
OWN = ("mean", "std")  # the normalisation, which other people keep outside of their models
SLACK = 64 << 20
MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # begins files of before PyTorch 1.6
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def foreign_classifier(
    config: Config, splits: Splits, seed: int, path: Path, *, sha256: str | None
) -> Classifier:
    """A classifier that was trained elsewhere, for one seed of a config.

    Raises:
        InputError: no seed of the config, a file of another SHA-256 or with other weights, or a
            config that learns codebooks together with its classifier.
    """
    if seed not in config.seeds:
        raise InputError(f"--seed: found {seed}, allowed: {', '.join(map(str, config.seeds))}")
    if not path.is_file():
        raise InputError(absent(path))
    learned = [name for name, signal in config.signals.items() if signal.recipe == "v0_1_1"]
    if learned:
        raise InputError(
            f"signals.{learned[0]}: is learned with the classifier, not imported; allowed: none "
            f"such, -o signals.{learned[0]}=null leaves it out"
        )
    if sha256 is not None and sha256 != (digest := file_sha256(path)):
        raise InputError(f"{path}: found SHA-256 {digest}, allowed: {sha256}")
    model = build_model(config.model, splits.train, splits.num_classes)
    load_foreign(path, model)
    return model


def load_foreign(path: Path, model: Classifier) -> None:
    """Put the weights of a file into a model.

    Without a normalisation in the file, the model keeps its own.

    Raises:
        InputError: the file is missing, too large, needs more than weights, or holds others than
            the model's; the first difference is shown.
    """
    state = model.state_dict()
    limit = 4 * sum(tensor.nbytes for tensor in state.values()) + SLACK  # with an optimiser's state
    tensors = read_foreign(path, limit=limit)
    bare = set(map(_bare, tensors))
    own, elsewhere = {key: key for key in state}, names_elsewhere(model)
    names = max(
        elsewhere, own, key=lambda known: sum(_bare(known.get(k, k)) in bare for k in state)
    )
    tensors = without_prefixes(tensors, names.values(), path)
    leave_given(model, names, tensors)
    chosen = _fitted(names, state, tensors, path)
    model.load_state_dict(state | chosen)


def names_elsewhere(model: Classifier) -> dict[str, str]:
    """The model's keys, each with its name in files from elsewhere.

    A network that normalises by buffers `mean` and `std` of its own has these names for itself.
    """
    names = {key: model.key_elsewhere(key) for key in model.state_dict()}
    taken = {name for key, name in names.items() if key not in OWN}
    return {key: name for key, name in names.items() if key not in OWN or name not in taken}


def leave_given(model: Classifier, names: dict[str, str], tensors: dict[str, Tensor]) -> None:
    """Leave a file's normalisation alone where the config gives one, which it would replace."""
    for key in OWN:
        if model.is_normalisation_given and key in names:
            tensors.pop(names.pop(key), None)


def read_foreign(path: Path, *, limit: int, legacy: bool = False) -> dict[str, Tensor]:
    """The weights of a `.safetensors` file, or of one that `torch.save` wrote.

    Args:
        path: the file; where it holds more than weights, those under `state_dict` or the like.
        limit: bytes that it may have, packed and unpacked.
        legacy: whether it may have the format of before PyTorch 1.6, whose tensors say only
            as they are read how large they are.

    Raises:
        InputError: the file is missing, too large, damaged, or needs more than weights; or it is a
            pickle, and this PyTorch is too old to read one safely.
    """
    if not path.is_file():
        raise InputError(absent(path))
    if suffix_of(path) == ".safetensors":
        _check_size(path, path.stat().st_size, limit)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    return _weights(_unpickled(path, limit, legacy=legacy), path)


def _unpickled(path: Path, limit: int, *, legacy: bool) -> Any:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_UNPICKLER:
        raise InputError(
            f"{path}: a pickle, which PyTorch {torch.__version__} does not read safely; allowed: "
            "2.10 or later (CVE-2025-32434, CVE-2026-24747), or a .safetensors file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            promised = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        if not legacy and _is_of_before_1_6(path):
            raise InputError(
                f"{path}: is in the format of before PyTorch 1.6, whose sizes cannot be checked, "
                "allowed: .safetensors, or the format of today; if you trust the file, "
                "torch.save(torch.load(old, weights_only=True), new) writes that"
            ) from None
        if not legacy:
            raise InputError(f"{path}: neither .safetensors nor as torch.save ({error})") from None
        promised = path.stat().st_size
    _check_size(path, promised, limit)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:  # the unpickler lets through whatever a file makes it raise
        if objects := _objects(path):
            raise InputError(
                f"{path}: holds a whole module or other objects ({objects[0]}), allowed: weights "
                "alone, as torch.save(model.state_dict(), ...) writes them"
            ) from None
        line = ESCAPES.sub("", str(error)).strip().partition("\n")[0]
        reason = line.removeprefix("Weights only load failed.").partition(". ")[0].strip()
        raise InputError(
            f"{path}: damaged, or more than weights ({reason or type(error).__name__})"
        ) from None


def _is_of_before_1_6(path: Path) -> bool:
    with path.open("rb") as file:
        return MAGIC in file.read(32)


def _objects(path: Path) -> list[str]:
    """The names in a pickle that stand for more than tensors, sorted; it is not run."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged, or of the old format
        return []


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise InputError(f"{path}: found {size:,} bytes, allowed for this model: {limit:,}")


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Key -> tensor, out of whatever was saved."""
    while isinstance(content, dict):  # beside them there may be other tensors, as a best score
        inside = [key for key in CONTAINERS if isinstance(content.get(key), dict)]
        if not inside:
            break
        several = [key for key in inside if any(map(torch.is_tensor, content[key].values()))]
        if len(several) > 1:
            raise InputError(
                f"{path}: holds weights under {several[0]!r} and under {several[1]!r}, allowed: "
                f"one of them, as torch.save(file[{several[0]!r}], ...) writes it"
            )
        content = content[inside[0]]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds no weights by name; found {type(content).__name__}")
    bad = [key for key, value in content.items() if not _is_plain(key, value)]
    if bad:
        raise InputError(
            f"{path}: {bad[0]!r} is no plain tensor; allowed: tensors by name, alone or under one "
            f"of {', '.join(CONTAINERS)}"
        )
    return content


def _is_plain(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def without_prefixes(
    tensors: dict[str, Tensor], names: Collection[str], path: Path
) -> dict[str, Tensor]:
    """The tensors by the model's own names, whatever wrapped the model they were saved from."""
    own = {_bare(name): name for name in names}
    if len(own) < len(names):  # the model's names differ by prefixes alone: they are not touched
        return tensors
    renamed: dict[str, str] = {}
    for key in tensors:
        name = own.get(_bare(key), _bare(key))
        if name in renamed:
            raise InputError(f"{path}: has {renamed[name]!r} and {key!r}, allowed: one of them")
        renamed[name] = key
    return {name: tensors[key] for name, key in renamed.items()}


def _bare(key: str) -> str:
    """A key without the prefixes of whatever wraps a model, in any order and number."""
    while prefix := next((p for p in PREFIXES if key.startswith(p)), None):
        key = key.removeprefix(prefix)
    return key.replace("._orig_mod.", ".")  # of parts that were compiled alone


def value_fault(tensor: Tensor, wanted: Tensor) -> str | None:
    """What is wrong with the values of a tensor of the right shape; None where nothing is.

    Whole numbers are those of a quantised network, and nothing without their scale.
    """
    if wanted.is_floating_point() and not tensor.is_floating_point():
        return f"has dtype {tensor.dtype}, allowed: floating point, such as {wanted.dtype}"
    return None if tensor.isfinite().all() else "holds NaN or infinity"


def normalisation_fault(names: dict[str, str], tensors: dict[str, Tensor]) -> str | None:
    """What is wrong with the normalisation in a file; None where nothing is, or there is none."""
    given = [names[key] for key in OWN if names.get(key) in tensors]
    if len(given) == 1:
        return f"has {given[0]!r} alone, allowed: mean and std together, or neither"
    if given and not (tensors[given[1]] > 0).all():
        return f"{given[1]!r} holds {tensors[given[1]].min():g}, allowed: above 0"
    return None


def _fitted(
    names: dict[str, str], state: dict[str, Tensor], tensors: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """The model's keys with the file's tensors; `names` has the file's key for each."""
    chosen = {}
    if fault := normalisation_fault(names, tensors):
        raise InputError(f"{path}: {fault}")
    for key, name in names.items():
        wanted, is_head = state[key], key.startswith("head.")
        way = f"; -o model.weights={path} begins a training with the rest, under a new head"
        if name not in tensors:
            if key in OWN or key.endswith("num_batches_tracked"):
                continue
            others = [] if is_head else [other for other in tensors if other not in names.values()]
            near = "".join(f", has {match!r}" for match in get_close_matches(name, others, n=1))
            shape = tuple(wanted.shape)
            raise InputError(f"{path}: lacks {name!r} of shape {shape}{way if is_head else near}")
        tensor = tensors[name]
        if tensor.shape != wanted.shape:
            raise InputError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, "
                f"allowed for this model: {tuple(wanted.shape)}{way if is_head else ''}"
            )
        if fault := value_fault(tensor, wanted):
            raise InputError(f"{path}: {name!r} {fault}")
        chosen[key] = tensor
    extra = [name for name in tensors if name not in names.values()]
    if extra:
        raise InputError(f"{path}: has {extra[0]!r}, which the model lacks")
    return chosen
