"""The library with its three dependencies: what imports, what runs, and what says what it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nervecode
from nervecode.errors import LAB

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest needs it there
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = {"numpy", "safetensors", "torch"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_needs(names: set[str]) -> set[str]:
    """Distributions, and all that these require without extras, as far as they are installed."""
    everything: set[str] = set()
    waiting = list(names)
    while waiting:
        name = plain(waiting.pop())
        if name in everything:
            continue
        everything.add(name)
        try:
            texts = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        needs = [Requirement(text) for text in texts]
        waiting += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return everything


def absent() -> list[str]:
    """Every module at hand that comes with none of the three, nor with what they need."""
    kept = with_needs(CORE)
    owners = packages_distributions()
    return [m for m, names in owners.items() if not kept & set(map(plain, names))]


HOOK = """
import sys
class Absent:
    names = frozenset({names!r}) - {{"nervecode"}}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util as util
spec_of = util.find_spec
util.find_spec = lambda name, package=None: None if name in Absent.names else spec_of(name, package)
"""


def alone(code: str, *, cwd: Path = ROOT, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run code where nothing is installed but the core and what it needs."""
    result = subprocess.run(
        [sys.executable, "-c", HOOK.format(names=absent()) + code],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    return result


@pytest.mark.slow
def test_the_core_needs_three_packages_and_the_lab_what_it_says() -> None:
    assert {Requirement(text).name for text in PROJECT["dependencies"]} == CORE
    extras = PROJECT["optional-dependencies"]
    owners = packages_distributions()
    lab = {plain(Requirement(text).name) for text in extras["lab"]}
    assert {plain(owners[module][0]) for module in LAB} == lab
    assert not set(LAB) - set(absent()) - {"jinja2"}  # which torch itself needs


def test_what_needs_the_lab_brings_it() -> None:
    extras = PROJECT["optional-dependencies"]
    for name in ("benchmark", "viz", "logging", "data", "ray", "slurm", "tables", "timm"):
        assert "nervecode[lab]" in extras[name], name


def test_no_release_elsewhere_can_have_this_version() -> None:
    """PyPI takes no local version: PEP 440."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?\+[a-z]+", nervecode.__version__)


LIBRARY = """
import torch
from torch import nn
import nervecode

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
x, y = torch.randn(300, 6), torch.randint(3, (300,))
wrapped = nervecode.wrap(model.eval())
wrapped.fit([(x[:200], y[:200])]).calibrate([x[200:]])
output, surprise = wrapped.score(x)
assert torch.equal(output, model(x))
assert surprise.valid.all() and surprise.flag(alpha=0.05).dtype == torch.bool
wrapped.save("codes.safetensors")
wrapped.export("model.pt2", x[:2])
again = nervecode.load("codes.safetensors", wrapped.unwrap())
assert torch.equal(again.score(x)[1].score, surprise.score)
monitor = nervecode.Monitor(n_calibration=100)
for p in surprise.p_value[200:].tolist():
    monitor.update(p)
import nervecode.core, nervecode.scoring, nervecode.training, nervecode.integrations
"""


@pytest.mark.slow
def test_the_library_runs_with_its_three_dependencies(tmp_path: Path) -> None:
    alone(LIBRARY, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.safetensors", "model.pt2"]


LACKS = "needs PIL, which is not installed; pip install -e '.[lab]' in the checkout"


@pytest.mark.parametrize("module", ["nervecode.lab", "nervecode.viz", "nervecode.cli"])
def test_what_needs_the_lab_says_so(module: str) -> None:
    code = f"""
try:
    import {module}
except ImportError as error:
    print(error)
"""
    assert alone(code).stdout == f"{module} {LACKS}\n"


def test_the_command_says_what_it_lacks() -> None:
    result = alone("from nervecode.__main__ import main; main()", status=2)
    assert (result.stdout, result.stderr) == ("", f"Error: the command nervecode {LACKS}\n")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["nervecode", "nervecode.viz.layerwise"])
def test_a_module_that_is_run_says_what_it_lacks(module: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["-m", "run"]  # as `python -m` has it while it looks for the module
runpy.run_module({module!r}, run_name="__main__")
"""
    result = alone(code, status=2)
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ") and result.stderr.endswith(f"{LACKS}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("three_lines", "lab"), ("quickstart_cnn", "lab"), ("guardrail", "lab"),
        ("texts", "lab,integrations,pretrained"),
    ],
)  # fmt: skip
def test_an_example_says_what_it_lacks(name: str, extras: str) -> None:
    path = ROOT / "examples" / f"{name}.py"
    result = alone(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')", status=1)
    told = f"needs scikit-learn; pip install -e '.[{extras}]' in the checkout\n"
    assert (result.stdout, result.stderr) == ("", f"examples/{name}.py {told}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "quickstart_mlp", "ood_smoke_test"])
def test_an_example_of_the_core_runs_and_prints(name: str) -> None:
    path = ROOT / "examples" / f"{name}.py"
    assert alone(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')").stdout


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_version_and_help_need_no_lab(option: str) -> None:
    code = f"import sys; sys.argv = ['nervecode', {option!r}]"
    result = alone(f"{code}; from nervecode.__main__ import main; main()")
    assert result.stderr == ""
    assert (LACKS in result.stdout) == (option != "--version")
    if option == "--version":
        assert result.stdout == f"nervecode {nervecode.__version__}\n"


@pytest.mark.slow
def test_a_package_that_is_there_would_be_met() -> None:
    """The hook hides, and does not break."""
    assert alone("import torch, numpy, safetensors; print('here')").stdout == "here\n"
    assert "No module named 'typer'" in alone("import typer", status=1).stderr


@pytest.mark.slow
def test_importing_takes_torch_and_a_tenth_of_a_second(tmp_path: Path) -> None:
    code = """
import time, torch
began = time.process_time()
import nervecode
nervecode.Monitor, nervecode.load, nervecode.wrap  # which load what they are made of
print(time.process_time() - began)
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    command = [sys.executable, "-c", code]
    seconds = [
        float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.1, seconds
