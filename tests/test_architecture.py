"""The walls of the house: which package may import which, and that the core stays pure."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("topology", "adapters", "broker")
"""Each may import itself and those before it."""

PURE = (
    *("topology", "adapters/*/codec.py", "broker/jobs", "broker/placement", "broker/sites/owed.py", "broker/sites/health.py"),
    *("broker/tracing/story.py", "broker/tracing/parent.py"),
)
IO = {"asyncio", "os", "subprocess", "socket", "threading", "aiohttp", "grpc", "fsspec"}
IMPURE = {*IO, "time", "random", "secrets", "logging"}
GENERATED = "_pb2"


def modules(*patterns: str) -> list[Path]:
    """Every module below the given paths, generated ones left out."""
    found = [
        module
        for pattern in patterns
        for path in ROOT.glob(pattern)
        for module in ([path] if path.suffix == ".py" else path.rglob("*.py"))
    ]
    return sorted(module for module in found if GENERATED not in module.name)


def name_of(path: Path) -> str:
    """A module's path from the root, as a test's name."""
    return str(path.relative_to(ROOT))


def imports(path: Path) -> list[str]:
    """Full names of what a module imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name_of)
def test_imports_point_one_way(path):
    own = path.relative_to(ROOT).parts[0]
    forbidden = {*PACKAGES[PACKAGES.index(own) + 1 :], "tests"}
    assert not [name for name in imports(path) if name.split(".")[0] in forbidden]


@pytest.mark.parametrize("path", modules(*PURE), ids=name_of)
def test_the_core_decides_without_io_clock_or_chance(path):
    tree = ast.parse(path.read_text())
    assert not [name for name in imports(path) if name.split(".")[0] in IMPURE]
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", modules("broker/sites", "broker/store", "broker/file_systems"), ids=name_of)
def test_loops_have_the_time_from_their_clock(path):
    """Else a seed of the simulation, where time is virtual, would not be lived through alike each time."""
    assert "time" not in imports(path)


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("networkx", "topology"),
        ("grpc", "broker/store/etcd"),
        ("ruamel", "broker/documents"),
        ("opentelemetry", "broker/tracing"),
    ],
)
def test_a_library_stays_in_its_room(package, home):
    users = [name_of(path) for path in modules(*PACKAGES) if package in {name.split(".")[0] for name in imports(path)}]
    assert [user for user in users if not user.startswith(home)] == []
    assert users


def test_only_the_lifecycle_changes_a_phase():
    setters = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules("broker")
        if path.name != "lifecycle.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _sets_phase(node.func.id, node)
    ]
    assert setters == []


def _sets_phase(name: str, call: ast.Call) -> bool:
    """Whether it makes or alters a state with a phase of its own; a new state is pending."""
    is_named = any(keyword.arg == "phase" for keyword in call.keywords)
    return (name == "replace" and is_named) or (name == "JobState" and (is_named or len(call.args) > 1))


def test_the_broker_names_no_engine():
    kinds = {"slurm", "kubernetes", "yarn", "lsf", "volcano", "kueue"}
    found = [
        f"{name_of(path)}:{node.lineno}: {node.value}"
        for path in modules("broker")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in kinds
    ]
    assert found == []


@pytest.mark.parametrize("path", modules(*PACKAGES, "tests"), ids=name_of)
def test_no_file_is_a_house_of_its_own(path):
    assert len(path.read_text().splitlines()) <= 500
