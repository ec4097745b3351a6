"""Networks of the user's own: made by a function, run only where they are trusted."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.config.names import unknown_names
from nervecode.lab.data.samples import Samples
from nervecode.lab.detectors.tools import head_of
from nervecode.lab.models.adopted import trial_run
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.foreign import load_foreign
from nervecode.lab.models.user_code import check_unchanged, find_source, trusting
from nervecode.lab.models.user_code import load as load_function
from nervecode.lab.models.weights import begin_with
from nervecode.lab.schema import ModelConfig

MODULE = "nervecode_test_module"
NAME = f"python:{MODULE}:build"
GOOD = """
from torch import nn
def build(shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, num_classes))
def other(shape, num_classes):
    raise KeyError("no such size")
"""


NET = """
from torch import nn
from torch.nn import functional as F
def build(shape, n): return Net(12, n)
class Net(nn.Module):
  def __init__(self, size, n):
    super().__init__()
    self.fc = nn.Linear(size, n)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A module in a working directory of its own, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, name: str = MODULE) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        sys.modules.pop(name, None)
        return path

    yield write
    sys.modules.pop(MODULE, None)


def built(
    name: str = NAME, head: str | None = None, shape: tuple[int, ...] = (3, 4), **values: Any
) -> Classifier:
    train = Samples(torch.rand(8, *shape), torch.arange(8) % 5)
    with trusting():
        return build_model(ModelConfig(name=name, head=head, **values), train, 5)


def test_the_last_linear_layer_becomes_the_head_and_the_network_says_the_same(write) -> None:  # type: ignore[no-untyped-def]
    write(GOOD)
    model = built().eval()
    x = torch.rand(6, 3, 4)
    assert (model.head.in_features, model.head.out_features) == (7, 5)
    normalised = (x - model.mean) / model.std
    net = nn.Sequential(*list(model.net)[:-1], model.head)  # type: ignore[union-attr, arg-type]
    assert torch.equal(model(x), net(normalised))
    assert model.key_elsewhere("head.weight") == "3.weight"


NORMALISES = """
import torch
from torch import nn
def build(shape, n): return Net(n)
class Net(nn.Module):
  def __init__(self, n):
    super().__init__()
    self.register_buffer("mean", torch.full((3, 1), 0.3))
    self.register_buffer("std", torch.full((3, 1), 0.2))
    self.fc = nn.Linear(12, n)
  def forward(self, x): return self.fc(((x - self.mean) / self.std).flatten(1))
"""


@pytest.mark.parametrize("load", [load_foreign, begin_with])
@pytest.mark.parametrize("given", [True, False])
def test_a_mean_of_the_network_itself_is_not_the_one_that_inputs_are_normalised_by(
    load: Callable[[Path, Classifier], object], given: bool, write: Callable[[str], Path]
) -> None:
    write(NORMALISES)
    with trusting():
        net = load_function(NAME)((3, 4), 5)
        model = built(**{"mean": (0.0,), "std": (1.0,)} if given else {})
    net.mean += 0.1
    path = Path("x.pt")
    torch.save(net.state_dict(), path)  # noqa: TID251
    before = model.mean.clone()
    load(path, model.eval())
    assert torch.equal(model.mean, before)
    x = torch.rand(6, 3, 4)
    torch.testing.assert_close(model(x), net((x - model.mean) / model.std))


def test_code_does_not_run_before_it_is_trusted(write) -> None:  # type: ignore[no-untyped-def]
    path = write("open('ran', 'w').close()\n" + GOOD)
    train = Samples(torch.rand(8, 3, 4), torch.arange(8) % 5)
    source = find_source(NAME)
    assert source is not None
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"runs code of .*module\.py; .* --trust-code"):
        build_model(ModelConfig(name=NAME), train, 5)
    assert not (path.parent / "ran").exists()
    built()
    assert (path.parent / "ran").exists()


def test_looking_for_a_module_of_a_package_does_not_import_the_package(write, tmp_path) -> None:  # type: ignore[no-untyped-def]
    package = tmp_path / "nervecode_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('ran')")
    (package / "inner.py").write_text(GOOD)
    source = find_source("python:nervecode_test_package.inner:build")
    assert source is not None
    assert source.file == package / "inner.py"
    with pytest.raises(InputError, match=r"inner\.py does not import \(SystemExit: ran\)"):
        built("python:nervecode_test_package.inner:build")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("python:nervecode_test_modul:build", f"no module 'nervecode_test_modul' .* '{MODULE}'"),
        (f"python:{MODULE}:biuld", r"module\.py has no function 'biuld'; did you mean 'build'\?"),
        (f"python:{MODULE}:other", r"called with shape \(3, 4\) and 5 classes, fails: KeyError"),
        ("python:sys:exit", "no module 'sys' on Python's path"),
        ("python:a_folder_of_the_test:exit", "has no file; allowed: a module of your own"),
        ("python:os", "found 'python:os', allowed: python:MODULE:FUNCTION"),
    ],
)
def test_what_is_not_there_is_told(name: str, words: str, write) -> None:  # type: ignore[no-untyped-def]
    (write(GOOD).parent / "a_folder_of_the_test").mkdir()
    with pytest.raises(InputError, match=f"model.name: .*{words}"):
        built(name)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('x')\n", r"does not import \(ValueError: x\)"),
        ("import nowhere_at_all\n", "does not import .*No module named 'nowhere_at_all'"),
        ("def build(shape, n): return [1]", "returned list, allowed: a torch.nn.Module"),
        ("from torch import nn\ndef build(shape, n): return nn.Linear(9, n)",
         r"takes no inputs of shape \(3, 4\): RuntimeError"),
        ("from torch import nn\ndef build(shape, n): return nn.Linear(4, n)",
         r"gives shape \(2, 3, 5\) for two inputs, allowed: logits of shape \(2, 5\)"),
        ("from torch import nn\ndef build(shape, n):\n"
         "    return nn.Sequential(nn.Flatten(), nn.Linear(12, n), nn.ReLU())",
         "are not those of its last linear layer; allowed: an nn.Linear at the end"),
        ("from torch import nn\ndef build(shape, n):\n"
         "    return nn.Sequential(nn.Conv1d(3, n, 4), nn.Flatten())",
         r"build' has no nn\.Linear, allowed: one at the end$"),
        (NET + "  def forward(self, x): return self.fc(F.dropout(x.flatten(1)))",
         "gives other logits for the same inputs in evaluation mode, as where a functional"),
        (NET + "  def forward(self, x): return self.fc(x.flatten(1)) * float('nan')",
         "gives NaN or infinity for inputs from -1 to 1"),
        (NET + "  def forward(self, x): return self.fc(x.reshape(2, 12))",
         r"takes 2 inputs at once but not 3, allowed: batches of any size: RuntimeError: shape"),
        (NET + "  def forward(self, x): return self.bfloat16().fc(x.flatten(1).bfloat16()).float()",
         r"last linear layer; its 'fc\.weight' is of torch\.bfloat16, allowed: torch\.float32"),
        ("from torch import nn\ndef build(shape, n):\n"
         "    return nn.Sequential(nn.Flatten(), nn.Linear(12, n)).double()",
         r"same dtype.*; its '1\.weight' is of torch\.float64, allowed: torch\.float32"),
        ("import torch\ndef build(shape, n):\n"
         "    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, n))\n"
         "    return torch.jit.trace(net.eval(), torch.zeros(2, *shape))",
         r"is a TorchScript module, allowed: the torch\.nn\.Module it was made from"),
        ("raise ValueError('x' * 5000)", r"does not import \(ValueError: x{188}…\)$"),
        ("def build(shape, n): raise SystemExit('x' * 5000)", "fails: SystemExit: x{188}…$"),
    ],
)  # fmt: skip
def test_what_is_no_classifier_is_told(body: str, words: str, write) -> None:  # type: ignore[no-untyped-def]
    write(body)
    with pytest.raises(InputError, match=words):
        built()


def test_a_network_that_is_given_twice_is_told(write) -> None:  # type: ignore[no-untyped-def]
    write(
        "from torch import nn\n"
        "kept = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))\n"
        "def build(shape, n): return kept"
    )
    built()
    with pytest.raises(InputError, match="returned the network of its call before, allowed: a new"):
        built()


def test_a_linear_layer_alone_is_told(write) -> None:  # type: ignore[no-untyped-def]
    write("from torch import nn\ndef build(shape, n): return nn.Linear(4, n)")
    with pytest.raises(InputError, match=r"is a linear layer alone, allowed: nn\.Sequential"):
        built(shape=(4,))


def test_a_module_in_folders_without_init_is_found(write, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "nervecode_test_folder" / "sub"
    folder.mkdir(parents=True)
    (folder / "m.py").write_text(GOOD)
    name = "python:nervecode_test_folder.sub.m:build"
    source = find_source(name)
    assert source is not None
    assert source.file == folder / "m.py"
    assert built(name).head.in_features == 7


def test_inputs_may_be_changed_in_place(write) -> None:  # type: ignore[no-untyped-def]
    write(NET + "  def forward(self, x): return self.fc(x.mul_(2).flatten(1))")
    model, x = built(), torch.rand(6, 3, 4)
    z = 2 * (x - model.mean) / model.std
    torch.testing.assert_close(model(x.clone()), model.head(z.flatten(1)))


COMPILED = {
    "whole": "torch.compile(net)",
    "a part": "nn.Sequential(torch.compile(net[:2]), net[2:])",
    "in place": "net",
}


@pytest.mark.parametrize("how", COMPILED)
def test_layers_of_a_compiled_network_are_seen(how: str, write) -> None:  # type: ignore[no-untyped-def]
    write(
        "import torch\nfrom torch import nn\ndef build(shape, n):\n"
        "    net = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, n))\n"
        + "    net.compile()\n" * (how == "in place")
        + f"    return {COMPILED[how]}\n"
    )
    model, seen = built(shape=(4,)), []
    (relu,) = (module for module in model.modules() if isinstance(module, nn.ReLU))
    relu.register_forward_hook(lambda module, args, out: seen.append(out))
    model(torch.rand(6, 4))
    assert [tuple(out.shape) for out in seen] == [(6, 7)]
    assert not any("_orig_mod" in key or "compiled" in key for key in model.state_dict())
    assert all(module._compiled_call_impl is None for module in model.modules())


def test_a_network_is_tried_without_a_trace(write) -> None:  # type: ignore[no-untyped-def]
    write(
        NET
        + "    self.register_buffer('calls', torch.zeros(()))\n"
        + "  def forward(self, x):\n    self.calls += 1\n    return self.fc(x.flatten(1))\n"
        + "import torch\n"
    )
    model, x = built(), torch.rand(3, 3, 4)
    assert model.state_dict()["net.calls"] == 2  # with its head, and without
    before = torch.get_rng_state()
    noisy = nn.Sequential(model, nn.Dropout())
    assert trial_run(noisy.train(), x).shape == (3, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.state_dict()["net.calls"] == 2


@pytest.mark.parametrize("where", ["build", "forward"])
def test_a_network_that_ends_the_process_is_told(where: str, write) -> None:  # type: ignore[no-untyped-def]
    ends = "\n    import sys; sys.exit(0)\n"
    forward = f"from torch import nn\nclass Net(nn.Module):\n  def forward(self, x):{ends}"
    build = f"def build(shape, n):{ends}" if where == "build" else "build = lambda s, n: Net()\n"
    write(forward + build)
    with pytest.raises(InputError, match="SystemExit: 0"):
        built()


def test_the_head_is_the_layer_that_is_named(write) -> None:  # type: ignore[no-untyped-def]
    write(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.out = nn.Linear(6, n)\n"
        "        self.body = nn.Linear(12, 6)\n"
        "    def forward(self, x): return self.out(self.body(x.flatten(1)).relu())\n"
        "def build(shape, num_classes): return Net(num_classes)\n"
    )
    with pytest.raises(InputError, match=r"named by model\.head where it is not the last"):
        built()
    assert built(head="out").head.in_features == 6
    with pytest.raises(InputError, match="no linear layer 'oot'; did you mean 'out'"):
        built(head="oot")
    with pytest.raises(InputError, match=r"model\.head: found 'out', allowed for networks from"):
        built("mlp", head="out")


HEADS = {
    "no bias": "nn.Linear(7, n, bias=False)",
    "weight norm": "parametrizations.weight_norm(nn.Linear(7, n))",
    "by a hook": "spectral_norm(nn.Linear(7, n))",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_stays_what_it_is_and_takes_its_weights(head: str, write, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = write(
        "from torch import nn\n"
        "from torch.nn.utils import parametrizations, spectral_norm\n"
        "def build(shape, n):\n"
        f"    return nn.Sequential(nn.Linear(4, 7), nn.ReLU(), {HEADS[head]})\n"
    )
    space: dict[str, Any] = {}
    exec(path.read_text(), space)
    theirs = space["build"]((4,), 5).eval()
    x = torch.rand(6, 4)
    with torch.no_grad():
        logits = theirs(x)
    state = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    for take in (begin_with, load_foreign):
        model = built(shape=(4,))
        assert sum(p.numel() for p in model.parameters()) == sum(
            p.numel() for p in theirs.parameters()
        )
        assert take(tmp_path / "x.safetensors", model) is None
        copied = head_of(model.eval())  # before any forward, whose hooks would make the weight
        with torch.no_grad():
            assert torch.equal(model.head(model.features(x)), logits)
            torch.testing.assert_close(copied(model.features(x)), logits)


def test_a_head_that_is_linear_by_its_name_alone_is_told(write) -> None:  # type: ignore[no-untyped-def]
    write(
        "from torch import nn\n"
        "class Cosine(nn.Linear):\n"
        "    def forward(self, x): return super().forward(nn.functional.normalize(x))\n"
        "def build(shape, n): return nn.Sequential(nn.Linear(4, 7), Cosine(7, n))\n"
    )
    with pytest.raises(InputError, match="are not those of its last linear layer"):
        built(shape=(4,))


def test_code_in_a_run_is_never_run(write, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = write("open('ran', 'w').close()\n" + GOOD)
    for name in ("meta.json", "config.yaml"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="no module"):  # as the working directory, it is no place
        built()
    sys.path.append(str(tmp_path))
    with pytest.raises(InputError, match="lies in a run, whose files are never run"):
        built()
    assert not (path.parent / "ran").exists()


def test_code_that_has_changed_is_told(write) -> None:  # type: ignore[no-untyped-def]
    path = write(GOOD)
    source = find_source(NAME)
    assert source is not None
    check_unchanged(NAME, source.record())
    check_unchanged(NAME, None)
    check_unchanged("mlp", None)
    path.write_text(GOOD + "# another\n")
    with pytest.raises(ArtifactError, match=r"module\.py: has changed since the run was trained"):
        check_unchanged(NAME, source.record())


def test_the_form_of_the_name_is_checked_with_the_config() -> None:
    for name in ("python:", "python:a", "python:a:b:c", "python:a b:c", "python:.a:b"):
        ((key, text),) = unknown_names({"model": {"name": name}})
        assert (key, text) == ("model.name", f"found {name!r}, allowed: python:MODULE:FUNCTION")
    assert unknown_names({"model": {"name": "python:a.b:c"}}) == []


def test_inputs_are_normalised_by_given_numbers() -> None:
    train = Samples(torch.rand(8, 3, 4), torch.arange(8) % 2)

    def model(**values: object) -> Classifier:
        return build_model(ModelConfig.model_validate({"name": "mlp", **values}), train, 2)

    one, each = model(mean=[0.5], std=[0.25]), model(mean=[0.0, 1, 2], std=[1.0, 2, 4])
    assert torch.equal((train.inputs - one.mean) / one.std, (train.inputs - 0.5) / 0.25)
    x = (train.inputs - each.mean) / each.std
    assert torch.equal(x[:, 2], (train.inputs[:, 2] - 2) / 4)
    with pytest.raises(InputError, match=r"model\.mean: found 2 numbers, allowed: 1, or 3"):
        model(mean=[0.5, 1], std=[1, 1])
    with pytest.raises(ValueError, match="mean and std must have as many numbers"):
        model(mean=[0.5])
