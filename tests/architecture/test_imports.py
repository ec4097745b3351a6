"""Who may know whom: import contracts, confined modules, and what each entry point loads."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nervecode"

STAGES = ("train", "calibrate", "score")
# Module -> the files of the package that may import it.
CONFINED: dict[str, tuple[str, ...]] = {
    "yaml": ("lab/config/yaml.py",),
    "typer": ("cli/*",),
    "click": ("cli/*",),
    "rich": ("cli/*", "lab/results/tables.py"),
    "matplotlib": ("viz/*",),
    "jinja2": ("viz/*",),
    "nervecode.cli": ("cli/*", "__main__.py"),
    "nervecode.lab.stages.bench": ("cli/*", "lab/stages/dry_run.py", "lab/stages/reproduce.py"),
    **dict.fromkeys(
        [f"nervecode.lab.stages.{stage}" for stage in STAGES], ("lab/stages/bench.py", "cli/*")
    ),
    **dict.fromkeys(("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"), ()),
}
# Call -> the files that may make it.
CALLS: dict[str, tuple[str, ...]] = {
    "print": ("cli/*", "__main__.py"),
    "sys.exit": ("cli/*", "__main__.py", "viz/__init__.py", "viz/layerwise.py"),
    # Code of the user's may exit while it is imported or called; that is caught.
    "SystemExit": ("cli/*", "__main__.py", "lab/models/own.py", "lab/models/user_code.py"),
    "torch.load": ("lab/models/foreign.py",),
    "torch.save": (),
}
IMPORTERS = ("__import__", "import_module", "importlib.import_module")
CORE_MAY_IMPORT = ("torch", "nervecode.core", "nervecode.errors")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every import of a file, as (name in the file, full dotted name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                full = item.name if item.asname else item.name.partition(".")[0]
                yield item.asname or full, full
                yield item.name, item.name
        elif isinstance(node, ast.ImportFrom):
            for item in node.names:
                yield item.asname or item.name, f"{'.' * node.level}{node.module or ''}.{item.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTERS and node.args:
            name = ast.unparse(node.args[0]).strip("'")
            yield name, name


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def allowed(where: str, homes: tuple[str, ...]) -> bool:
    return any(fnmatch(where, home) for home in homes)


def called(tree: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """The full dotted name of every call, aliases resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, tail = ast.unparse(node.func).partition(".")
            yield names.get(head, head) + dot + tail


def unpickling(tree: ast.AST) -> bool:
    """Whether some call says allow_pickle= anything but False."""
    return any(
        keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    )


def core_stranger(full: str) -> bool:
    """Whether `core` has no business with this import."""
    known = full.partition(".")[0] in sys.stdlib_module_names
    return not known and not any(within(full, module) for module in CORE_MAY_IMPORT)


def violations(source: str, where: str) -> list[str]:
    """What the file at `where` (relative to the package) imports or calls but must not."""
    tree = ast.parse(source)
    pairs = list(imported(tree))
    modules = {full for _, full in pairs}
    found = [f"{where}: relative import {full}" for full in modules if full.startswith(".")]
    for full in modules:
        for module, homes in CONFINED.items():
            if within(full, module) and not allowed(where, homes):
                found.append(f"{where}: imports {module}")
        if where.startswith("core/") and core_stranger(full):
            found.append(f"{where}: core imports {full}")
    # A bare name counts too: `raise SystemExit`, `from torch import load`.
    used = modules | set(called(tree, dict(pairs)))
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found += [
        f"{where}: uses {call}"
        for call, homes in CALLS.items()
        if call in used and not allowed(where, homes)
    ]
    return found + [f"{where}: allow_pickle"] * unpickling(tree)


@pytest.mark.slow
def test_the_source_keeps_confined_modules_in_their_rooms() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 10
    found = [
        line
        for file in files
        for line in violations(file.read_text(), file.relative_to(PACKAGE).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "where", "complaint"),
    [
        ("import yaml", "lab/run/directory.py", "imports yaml"),
        ("def f():\n    from yaml import safe_load", "cli/train.py", "imports yaml"),
        (
            "import importlib\nimportlib.import_module('yaml')",
            "lab/run/directory.py",
            "imports yaml",
        ),
        ("import typer", "lab/stages/bench.py", "imports typer"),
        ("from rich.table import Table", "lab/stages/bench.py", "imports rich"),
        ("import matplotlib.pyplot as plt", "lab/results/tables.py", "imports matplotlib"),
        ("from nervecode.cli.main import main", "lab/stages/bench.py", "imports nervecode.cli"),
        (
            "from nervecode.lab.stages import train",
            "lab/models/features.py",
            "imports nervecode.lab.stages.train",
        ),
        (
            "import nervecode.lab.stages.bench",
            "lab/run/directory.py",
            "imports nervecode.lab.stages.bench",
        ),
        ("from nervecode import cli", "__init__.py", "imports nervecode.cli"),
        ("from ..core import code", "layers/wrap.py", "relative import ..core.code"),
        ("import pickle", "cli/main.py", "imports pickle"),
        ("import joblib as j", "lab/stages/score.py", "imports joblib"),
        ("import numpy", "core/moments.py", "core imports numpy"),
        ("from nervecode.layers import wrap", "core/code.py", "core imports nervecode.layers.wrap"),
        ("import torch\ntorch.load('x')", "lab/stages/train.py", "uses torch.load"),
        ("import torch as t\nt.save({}, 'x')", "lab/stages/train.py", "uses torch.save"),
        ("from torch import load as read\nread('x')", "lab/stages/train.py", "uses torch.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "viz/curves.py", "allow_pickle"),
        ("print('hello')", "lab/stages/train.py", "uses print"),
        ("import sys\nsys.exit(2)", "lab/stages/train.py", "uses sys.exit"),
        ("raise SystemExit", "lab/stages/train.py", "uses SystemExit"),
    ],
)
def test_the_scanner_flags_an_offender(source: str, where: str, complaint: str) -> None:
    assert f"{where}: {complaint}" in violations(source, where)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("import yaml", "lab/config/yaml.py"),
        ("import typer\nimport rich.console\nprint('hello')", "cli/main.py"),
        ("from rich.table import Table", "lab/results/tables.py"),
        ("from nervecode.lab.stages import calibrate, score, train", "lab/stages/bench.py"),
        ("import matplotlib\nmatplotlib.use('Agg')", "viz/style.py"),
        ("import math\nimport torch\nfrom torch import nn", "core/code.py"),
        ("from nervecode.errors import InputError", "core/code.py"),
        ("import numpy as np\nnp.load('x', allow_pickle=False)", "viz/curves.py"),
        ("from safetensors.torch import load_file\nload_file('x')", "lab/stages/train.py"),
    ],
)
def test_the_scanner_lets_the_lawful_pass(source: str, where: str) -> None:
    assert violations(source, where) == []


def lint(folder: Path) -> tuple[int, str]:
    """Run the contracts of pyproject.toml on the package that lies in `folder`."""
    code = "from importlinter.cli import lint_imports_command as go; go(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_import_contracts_hold() -> None:
    status, output = lint(ROOT)
    assert status == 0, output
    assert "0 broken" in output


# Contract -> an import that breaks it.
OFFENCES = {
    "Rooms know only the rooms below them": ("core/code.py", "import nervecode.layers.wrap"),
    "Wrap stands on passes and storage, these on a watched model, on coders, on taps": (
        "layers/storage.py",
        "import nervecode.layers.wrap",
    ),
    "Training knows nothing of scoring": ("training/__init__.py", "import nervecode.scoring"),
    "The monitor knows NumPy, errors and files alone": ("monitor/monitor.py", "import torch"),
    "Rooms of the laboratory know only the rooms below them": (
        "lab/schema/data.py",
        "def f():\n    import nervecode.lab.data.registry",
    ),
    "Stages never import each other; only bench composes them": (
        "lab/stages/score.py",
        "import nervecode.lab.stages.train",
    ),
    "Commands never import each other; they share what stands below them": (
        "cli/compare.py",
        "import nervecode.cli.runs",
    ),
    "What reads saved files needs no torch": ("lab/run/directory.py", "import torch"),
    "Plots and tables know nothing of the stages": (
        "lab/results/tables.py",
        "import nervecode.lab.stages.bench",
    ),
    "The library is light: only the lab needs the lab's dependencies": (
        "layers/wrap.py",
        "import sklearn",
    ),
}


def test_every_contract_has_an_offence() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert set(OFFENCES) == set(re.findall(r'importlinter\.contracts\]\]\nname = "(.+)"', text))
    assert "ignore_imports" not in text


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Contract -> what the linter says of it, when every offence has been committed."""
    folder = tmp_path_factory.mktemp("offences")
    shutil.copytree(PACKAGE, folder / "nervecode")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for where, offence in OFFENCES.values():
        with (folder / "nervecode" / where).open("a") as file:
            file.write(f"\n{offence}\n")
    status, output = lint(folder)
    assert status == 1
    sections = re.split(r"\n(.+)\n-+\n", output.partition("Broken contracts")[2])
    return dict(zip(sections[1::2], sections[2::2], strict=True))


@pytest.mark.parametrize("contract", OFFENCES)
def test_a_contract_can_break(contract: str, broken: dict[str, str]) -> None:
    where, offence = OFFENCES[contract]
    importer = "nervecode." + where.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    link = rf"{re.escape(importer)} -> {re.escape(offence.split()[-1])} \(l"
    assert re.search(link, broken[contract])


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


HEAVY = {"matplotlib", "pydantic", "pytorch_ood", "sklearn", "torchvision", "typer", "yaml"}
HELP = """
import sys
from nervecode.cli.main import main
sys.argv = ["nervecode", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_importing_the_package_loads_nothing_heavy() -> None:
    modules = loaded("import nervecode")
    assert "nervecode" in modules
    assert modules.isdisjoint(HEAVY | {"torch", "numpy"})


def test_help_loads_no_torch() -> None:
    modules = loaded(HELP)
    assert "typer" in modules
    assert modules.isdisjoint({"torch", "numpy", "sklearn", "matplotlib", "pytorch_ood"})


def test_the_monitor_loads_no_torch() -> None:
    modules = loaded("import nervecode; nervecode.Monitor")
    assert "numpy" in modules
    assert modules.isdisjoint(HEAVY | {"torch"})


@pytest.mark.slow
def test_what_only_shows_loads_no_torch() -> None:
    commands = (
        "presets", "presets show digits", "config show --preset digits", "runs .", "data"
    )  # fmt: skip
    run = [f"assert run({command.split()}) == 0, {command!r}" for command in commands]
    modules = loaded("\n".join(["from nervecode.cli.main import run", *run]))
    assert "typer" in modules
    assert modules.isdisjoint({"torch", "torchvision", "sklearn", "matplotlib", "pytorch_ood"})


def test_using_the_library_loads_torch_and_nothing_heavier() -> None:
    modules = loaded("import nervecode; nervecode.wrap")
    assert "torch" in modules
    assert modules.isdisjoint(HEAVY)


def test_what_reads_saved_files_loads_no_torch() -> None:
    modules = [
        "nervecode.lab.config.resolve", "nervecode.lab.run.directory",
        "nervecode.lab.results.tables",
        *(f"nervecode.viz.{file.stem}" for file in sorted((PACKAGE / "viz").glob("[!_]*.py"))),
    ]  # fmt: skip
    told = [f"import {module}; assert 'torch' not in sys.modules, {module!r}" for module in modules]
    assert "torch" not in loaded("\n".join(["import sys", *told]))


@pytest.mark.slow
def test_the_loading_check_can_fail() -> None:
    assert {"torch", "yaml"} <= loaded("import torch, yaml")
