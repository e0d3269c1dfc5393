"""The layout rule: imports run downwards, from the rooms for somebody to the hall, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import decomp

ROOT = Path(decomp.__file__).parent
# Each room may import from those before it, and from itself. The hall is the walk: modules that lie flat in decomp/.
ROOMS = ("hall", "batch", "data", "eyes", "studio", "training", "evaluation", "lab", "page", "cli")
ENTRANCES = {"__init__", "__main__"}  # of the hall: they name what lies above them


def dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {dotted(file): file for file in sorted(ROOT.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """The modules of decomp that a module imports, also inside its functions."""
    file = MODULES[name]
    package = file.parent.relative_to(ROOT).parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("decomp.")}
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "decomp"):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (node.module or "").split(".") if node.module else []
            base = [*base, *(module if node.level else module[1:])]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                found.add(whole if whole in MODULES else ".".join(base))
    return {module for module in found if module in MODULES and module != name}


def room(module: str) -> str:
    return module.split(".")[0] if (ROOT / module.split(".")[0]).is_dir() else "hall"


GRAPH = {name: imports(name) for name in MODULES if name not in ENTRANCES}


def test_every_folder_is_a_room_of_the_layout():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == {*ROOMS, "templates"} - {"hall"}


@pytest.mark.parametrize("name", GRAPH)
def test_no_import_runs_upwards(name):
    level = {**{r: i for i, r in enumerate(ROOMS)}, "templates": 0}
    upwards = [other for other in GRAPH[name] if level[room(other)] > level[room(name)]]
    assert not upwards, f"{name} imports {upwards} from a room above its own ({' < '.join(ROOMS)})"


def test_no_imports_in_a_circle():
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError with the circle
