"""The plan of the house as a test: order of the stages, colours, sizes, names. Who changes it says why."""

import ast
import importlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import finegrid

SOURCE = Path(__file__).parents[1] / "src" / "finegrid"

STAGES = [
    "conventions",
    "grids",
    "data",
    "bridge",
    "backbones",
    "losses",
    "constraints",
    "heads",
    "training",
    "pretraining",
    "downscalers",
    "adaptation",
    "calibration",
    "evaluation",
    # A finished job carries its scores, so the pipeline knows the evaluation and not the other way round.
    "pipeline",
    "benchmark",
    "scaling",
    "emulation",
    "compression",
    "serving",
    "cli",
]
XARRAY_NEVER_TORCH = {"conventions", "grids", "data", "calibration", "evaluation"}
TORCH_NEVER_XARRAY = {"backbones", "losses", "constraints", "heads"}
# A stage is as colourful as what it imports. The torch stages may take errors from conventions, no more.
STAGES_OPEN_TO = dict.fromkeys(XARRAY_NEVER_TORCH, XARRAY_NEVER_TORCH) | dict.fromkeys(
    TORCH_NEVER_XARRAY, TORCH_NEVER_XARRAY | {"conventions"}
)
DICTS = {
    "grids": "OPERATORS",
    "backbones": "BACKBONES",
    "losses": "LOSSES",
    "constraints": "CONSTRAINTS",
    "heads": "HEADS",
    "downscalers": "DOWNSCALERS",
    "calibration": "CALIBRATORS",
    "evaluation": "METRICS",
}
FORBIDDEN_NAMES = {"utils", "util", "core", "common", "helpers", "registry"}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def modules(root: Path) -> dict[str, Path]:
    """Dotted names and files of all modules but `finegrid` itself, whose lazy imports name every stage."""
    names = {".".join(("finegrid", *path.relative_to(root).with_suffix("").parts)): path for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items() if name != "finegrid.__init__"}


def imports(name: str, path: Path) -> Iterator[str]:
    """What a module imports, at any depth of its code: full dotted names, `from a import b` as a.b."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            base = (above + (node.module or "")).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inner_imports(root: Path) -> Iterator[tuple[str, str]]:
    """Pairs of (importing module, imported name) within the package; the version is everybody's."""
    for name, path in modules(root).items():
        for target in imports(name, path):
            if target.split(".")[0] == "finegrid" and target != "finegrid.__version__":
                yield name, target


def stage_of(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def strangers(root: Path) -> list[str]:
    return [name for name in modules(root) if stage_of(name) not in [*STAGES, "__main__"]]


def upward_imports(root: Path) -> list[str]:
    rank = {stage: number for number, stage in enumerate([*STAGES, "__main__"])}
    return [
        f"{name} imports {target}"
        for name, target in inner_imports(root)
        if rank.get(stage_of(target), len(rank)) > rank.get(stage_of(name), len(rank))
    ]


def wrong_colours(root: Path) -> list[str]:
    foreign = dict.fromkeys(XARRAY_NEVER_TORCH, "torch") | dict.fromkeys(TORCH_NEVER_XARRAY, "xarray")
    outside = [
        f"{name} imports {target}"
        for name, path in modules(root).items()
        for target in imports(name, path)
        if target.split(".")[0] == foreign.get(stage_of(name))
    ]
    inside = [
        f"{name} imports {target}"
        for name, target in inner_imports(root)
        if stage_of(target) not in STAGES_OPEN_TO.get(stage_of(name), STAGES)
    ]
    return outside + inside


def cycle(root: Path) -> list[str]:
    """One cycle of modules that import each other, or nothing."""
    known = modules(root)
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, target in inner_imports(root):
        module = target if target in known else target.rpartition(".")[0]
        graph[name].add(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def long_modules(root: Path, limit: int = 300) -> list[str]:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in root.rglob("*.py")}
    return [f"{path} has {length} lines" for path, length in lengths.items() if length >= limit]


def function_lengths(root: Path) -> list[int]:
    """Lines of every function and method from `def` to its end, docstring included."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in root.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]


def forbidden_names(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.stem in FORBIDDEN_NAMES]


def pickles(root: Path) -> list[str]:
    """Imports of pickling libraries, `torch.load`, and `allow_pickle=` other than False."""
    found = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name.split(".")[0] for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
            names.add(str(getattr(node, "module", "")).split(".")[0])
            is_torch_load = isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"
            is_allowed = (
                isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
            )
            if names & PICKLES or is_torch_load or is_allowed:
                found.append(f"{path}: {ast.unparse(node)}")
    return found


CHECKS = (strangers, upward_imports, wrong_colours, cycle, long_modules, forbidden_names, pickles)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_the_plan(check):
    assert check(SOURCE) == []


def test_functions_are_about_ten_lines_long():
    lengths = function_lengths(SOURCE)
    assert statistics.median(lengths) <= 12
    assert sum(length < 60 for length in lengths) >= 0.95 * len(lengths)


@pytest.mark.parametrize("stage", [stage for stage in DICTS if list((SOURCE / stage).glob("*.py"))])
def test_the_stage_has_one_plain_dict_of_names(stage):
    names = getattr(importlib.import_module(f"finegrid.{stage}"), DICTS[stage])
    assert type(names) is dict
    assert names
    assert all(name == name.lower() and " " not in name for name in names)


def test_importing_the_package_imports_nothing_heavy():
    heavy = {
        "torch",
        "xarray",
        "numpy",
        "pandas",
        "matplotlib",
        "scipy",
        "pydantic",
        "pint",
        "pyproj",
        "dask",
        "pooch",
        "typer",
    }
    code = "import sys; before = set(sys.modules); import finegrid; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "finegrid" in done.stdout.split()
    assert heavy & {name.split(".")[0] for name in done.stdout.split()} == set()


@pytest.mark.parametrize(("name", "stage"), finegrid._STAGE_OF_NAME.items())
def test_the_public_name_is_there(name, stage):
    if not list((SOURCE / stage).glob("*.py")):
        pytest.skip(f"the stage {stage} is not built yet")
    assert getattr(finegrid, name) is not None
    assert name in dir(finegrid)


def test_an_unknown_public_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(AttributeError, match="NeuralDownscaler"):
        getattr(finegrid, "Downscaller")  # noqa: B009


VIOLATIONS = [
    (strangers, {"wizardry.py": ""}),
    (upward_imports, {"grids/grid.py": "from finegrid.training import loop"}),
    (upward_imports, {"grids/grid.py": "from ..training import loop"}),
    (upward_imports, {"grids/grid.py": "def late():\n    import finegrid.training.loop"}),
    (upward_imports, {"grids/__init__.py": "from ..data import coarsen"}),
    (upward_imports, {"grids/__init__.py": "from finegrid import data"}),
    (upward_imports, {"grids/grid.py": "import finegrid"}),
    (wrong_colours, {"data/pairs.py": "import torch.nn as nn"}),
    (wrong_colours, {"data/pairs.py": "def late():\n    from torch import nn"}),
    (wrong_colours, {"losses/mse.py": "import xarray as xr"}),
    (wrong_colours, {"constraints/add.py": "from finegrid.grids import Grid"}),
    (wrong_colours, {"evaluation/metrics.py": "from finegrid.bridge import to_tensor"}),
    (cycle, {"grids/a.py": "from .b import B", "grids/b.py": "from finegrid.grids.a import A"}),
    (cycle, {"grids/a.py": "from . import b", "grids/b.py": "from . import a"}),
    (cycle, {"grids/__init__.py": "from .a import A", "grids/a.py": "from finegrid.grids import B"}),
    (long_modules, {"grids/grid.py": "\n" * 300}),
    (forbidden_names, {"grids/utils.py": ""}),
    (forbidden_names, {"helpers/__init__.py": ""}),
    (pickles, {"training/saving.py": "import pickle"}),
    (pickles, {"training/saving.py": "def late():\n    from joblib import load"}),
    (pickles, {"training/saving.py": "import torch\nweights = torch.load('weights.pt')"}),
    (pickles, {"data/files.py": "import numpy as np\nnp.load('a.npy', allow_pickle=True)"}),
]


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("check", "files"), VIOLATIONS)
def test_a_violation_of_the_plan_is_found(tmp_path, check, files):
    assert check(plant(tmp_path, files))


def test_a_tree_that_keeps_the_plan_passes_every_check(tmp_path):
    files = {
        "__init__.py": "from finegrid.cli import main",
        "grids/__init__.py": "from .grid import Grid",
        "grids/grid.py": "import xarray\nfrom finegrid import __version__\nfrom ..conventions import Names",
        "losses/__init__.py": "import torch\nfrom finegrid.conventions import InputError",
        "bridge.py": "import torch\nimport xarray\nfrom .grids import Grid",
        "cli.py": "from finegrid import bridge\nfrom finegrid.losses import LOSSES",
    }
    root = plant(tmp_path, files)
    assert [check(root) for check in CHECKS] == [[]] * len(CHECKS)


def test_function_lengths_are_counted_from_def_to_the_last_line(tmp_path):
    plant(
        tmp_path,
        {"a.py": 'class A:\n    @property\n    def b(self):\n        """Say."""\n        return 1\n'},
    )
    assert function_lengths(tmp_path) == [3]
