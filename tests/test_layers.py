"""The house: which room may import which, what stays light, and what is imported nowhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

ROWS = (
    ("p2pdl", "errors", "spec", "clock", "types", "_version"),
    ("topology", "merge", "partition", "codec", "synchronisation", "aggregation", "sparsifier"),
    ("protocol",),
    ("failpoints", "files"),
    ("wire", "transport", "keys", "store", "checkpoint", "lifeline"),
    ("server", "puller"),
    ("training", "simulation"),
    ("config", "node", "report"),
    ("cli", "experiments", "__main__"),
)
"""The rooms by row; `p2pdl` is the package's own `__init__`.

A room imports from itself and from the rows above it; the vocabulary, row 0, is one room of several files.
"""

NEIGHBOURS = {
    *(("sparsifier", "codec"), ("checkpoint", "lifeline"), ("transport", "wire"), ("transport", "keys")),
    *(("node", "config"), ("__main__", "cli")),
}
"""Rooms of one row of which the first may import the second: how entries travel, a thread that yields, frame limits,
the list of keys, a node's settings, `python -m p2pdl`."""

PURE = {
    *("errors", "spec", "clock", "types", "protocol"),
    *("topology", "merge", "partition", "codec", "synchronisation", "aggregation", "sparsifier"),
}
"""Rooms that neither do input or output nor draw on global chance; `clock` alone knows the time."""

IMPURE_LIBRARIES = {"asyncio", "logging", "os", "random", "select", "socket", "subprocess", "threading", "time"}

HOMES = {
    "tensorflow": {"training"},
    "keras": {"training"},
    "zmq": {"transport"},
    "msgpack": {"wire"},
    "pickle": set(),
    "cloudpickle": set(),
    "dill": set(),
    "shelve": set(),
    "marshal": set(),
}
"""Libraries that only some rooms of the package may import."""

ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
MODULES = sorted(path for folder in ("p2pdl", "experiments") for path in (ROOT / folder).rglob("*.py"))


def room_of(module: str) -> str:
    """The room that a dotted module name belongs to."""
    first, *rest = module.split(".")
    if first == "experiments":
        return first
    return rest[0] if rest else "p2pdl"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that the code imports anywhere, but for what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports(ast.Module(node.orelse, []))
            continue
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0):
                assert module is not None
                yield from (f"{module}.{alias.name}" if is_package(module) else module for alias in names)
            case ast.ImportFrom():
                raise AssertionError("imports are absolute here")
            case ast.Call(ast.Name("import_module" | "__import__") | ast.Attribute(_, "import_module"), [argument, *_]):
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)
        yield from imports(node)


def is_package(module: str) -> bool:
    """True for the two roots, out of which rooms are imported by name."""
    return module in ("p2pdl", "experiments")


def is_room(module: str) -> bool:
    return module.split(".")[0] in ("p2pdl", "experiments")


def home(module: str) -> str:
    """The room of an imported name; a name that `p2pdl` itself defines is the package's own."""
    path = ROOT.joinpath(*module.split(".")[:2])
    if module.startswith("p2pdl.") and not path.is_dir() and not path.with_suffix(".py").exists():
        return "p2pdl"
    return room_of(module)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_imports_only_its_room_and_rows_above(path: Path) -> None:
    room = room_of(module_name(path))
    assert room in ROW_OF, f"the room {room} is in no row: add it to ROWS and to docs/architecture.md"
    for imported in imports(ast.parse(path.read_text())):
        if not is_room(imported):
            continue
        other = home(imported)
        above = ROW_OF[other] < ROW_OF[room] or ROW_OF[other] == ROW_OF[room] == 0
        allowed = other == room or above or (room, other) in NEIGHBOURS
        assert allowed, f"{module_name(path)} (row {ROW_OF[room]}) imports {imported} (row {ROW_OF[other]})"


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(ROOT / "p2pdl")], ids=module_name)
def test_module_imports_libraries_only_where_they_belong(path: Path) -> None:
    room = room_of(module_name(path))
    tree = ast.parse(path.read_text())
    libraries = {imported.split(".")[0] for imported in imports(tree)}
    for library in libraries & HOMES.keys():
        assert room in HOMES[library], f"{library} belongs to {sorted(HOMES[library]) or 'no room'}"
    if room in PURE - {"clock"}:
        assert not libraries & IMPURE_LIBRARIES
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False


def test_imports_of_a_sample_are_all_found() -> None:
    sample = """
import a.b
from p2pdl import wire
from p2pdl.store.layout import Word
if TYPE_CHECKING:
    import unseen
else:
    import seen
def late():
    try:
        from p2pdl.cli import main
    finally:
        importlib.import_module("p2pdl.node.attach")
"""
    assert list(imports(ast.parse(sample))) == [
        "a.b",
        "p2pdl.wire",
        "p2pdl.store.layout",
        "seen",
        "p2pdl.cli",
        "p2pdl.node.attach",
    ]


def test_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="absolute"):
        list(imports(ast.parse("from . import wire")))


def test_rows_name_every_room_once_and_only_rooms_that_exist() -> None:
    named = [room for row in ROWS for room in row]
    assert len(named) == len(set(named))
    assert {room_of(module_name(path)) for path in MODULES} <= set(named)


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("p2pdl", "tensorflow keras numpy zmq pydantic click rich yaml"),
        ("p2pdl.server.process", "tensorflow keras pydantic click rich yaml sklearn"),
        ("p2pdl.puller.puller", "tensorflow keras pydantic click rich yaml sklearn"),
        ("p2pdl.checkpoint.folder", "tensorflow keras zmq msgpack pydantic click rich yaml sklearn"),
        ("p2pdl.config", "tensorflow keras sklearn"),
        ("p2pdl.cli", "tensorflow keras sklearn"),
    ],
)
def test_import_of_light_module_leaves_heavy_libraries_out(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {unwanted.split()} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
