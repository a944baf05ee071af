"""Imports go one way: the order of the rooms, no circle, and inside functions only what keeps a heavy package out of start-up."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ENGINE, ADD_ON = "cmet_engine", "cmet_blender"

ROOMS = (  # a room may import itself and those before it
    (
        "light",
        "arkit choices cleanup client corrections emotions errors extras files live_capture npz processes progress rest smoothstep take_formats take_times takes timecode timeline track",
    ),
    (
        "stored results and requests",
        "cache fingerprint resume spec spec_base spec_errors spec_people spec_results spec_rig spec_voice",
    ),
    ("models", "models"),
    ("media", "media"),
    ("face", "face"),
    ("emotion", "emotion"),
    ("provenance", "provenance"),
    ("render", "render"),
    ("quality", "quality"),
    ("pipeline", "edit_take preparation pipeline"),
    ("jobs", "jobs"),
    ("serve", "serve"),
    ("studio", "studio"),
    ("cli", "cli"),
    ("training", "training"),
    ("evaluation", "evaluation"),
)
ROOM = {name: room for room, names in ROOMS for name in names.split()}
RANK = {room: rank for rank, (room, _) in enumerate(ROOMS)}
APART = ("training", "evaluation")  # they import the engine, which never imports them
PUBLIC = {"__version__"}  # what the package's own modules may take from its top

HEAVY = {
    "torch",
    "mediapipe",
    "bpy",
    "librosa",
    "transformers",
    "c2pa",
    "cryptography",
    "PyOpenColorIO",
    "jinja2",
}
SLOW = {
    "av",
    "cv2",
    "fastapi",
    "numpy",
    "pydantic",
    "scipy",
    "tqdm",
    "uvicorn",
}  # may wait, too, in what `cmet --help` and `import cmet_engine` load
NOT_EVERYWHERE = {  # only on one platform, in Blender, or with an extra; or needed once, for a download
    "addon_utils", "bpy_extras", "fcntl", "flatbuffers", "huggingface_hub", "io_scene_fbx", "nicegui", "mathutils", "msvcrt", "onnxruntime",
    "ray", "sounddevice", "winreg",
}  # fmt: skip
BRINGS = {"safetensors.torch": "torch", "scipy.signal": "scipy.signal"}  # parts of outside packages that load much more


@dataclass(frozen=True)
class Import:
    """One import: of a module of ours, or of an outside package (its first name)."""

    source: str
    target: str
    name: str  # what is taken from it; empty for the module itself
    line: int
    deferred: bool  # inside a function or under TYPE_CHECKING

    def __str__(self) -> str:
        place = " (inside a function or under TYPE_CHECKING)" if self.deferred else ""
        return f"{self.source}:{self.line} imports {self.target}{place}"


MODULES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in (ENGINE, ADD_ON)
    for path in sorted((PROJECT / package).rglob("*.py"))
    if "docs" not in path.parts  # hooks of the documentation site
}


def statements(node: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every statement below, and whether it stands inside a function or under TYPE_CHECKING."""
    deferred |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    deferred |= isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt | ast.excepthandler | ast.match_case):
            yield inner, deferred
            yield from statements(inner, deferred)


def read(module: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node, deferred in statements(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [(f"{origin}.{alias.name}", alias.name) for alias in node.names]
            found = [(full, "") if full in MODULES else (origin, name) for full, name in names]
        else:
            continue
        for target, name in found:
            ours = target.split(".")[0] in (ENGINE, ADD_ON)
            outside = BRINGS.get(target, target.split(".")[0])
            yield Import(module, target if ours else outside, name, node.lineno, deferred)


@cache
def imports() -> dict[str, tuple[Import, ...]]:
    """The imports of every module."""
    return {module: tuple(read(module)) for module in MODULES}


@cache
def ours() -> list[Import]:
    """Imports of our own modules."""
    return [edge for edges in imports().values() for edge in edges if edge.target in MODULES]


@cache
def outside_packages() -> list[Import]:
    """Imports of outside packages."""
    return [edge for edges in imports().values() for edge in edges if edge.target not in MODULES]


def room(module: str) -> str:
    """The room of a module of the engine; its top, the public interface, is one of its own."""
    parts = module.split(".")
    return ROOM[parts[1]] if len(parts) > 1 else ENGINE


def is_public_name(edge: Import) -> bool:
    """Whether a name such as the version is taken from the top of the package, and not what that imports."""
    return edge.target == ENGINE and (edge.name in PUBLIC or edge.source.startswith(ADD_ON))


@cache
def at_start(module: str) -> frozenset[str]:
    """The outside packages that importing a module loads, and the modules of ours."""
    loaded, waiting = set[str](), [module]
    while waiting:
        here = waiting.pop()
        if here not in loaded:
            loaded.add(here)
            waiting += [edge.target for edge in imports().get(here, ()) if not edge.deferred]
            waiting += [here.rpartition(".")[0]] if here in MODULES and "." in here else []
    return frozenset(loaded)


def fail_for(edges: list[Import], why: str) -> None:
    if edges:
        pytest.fail("\n".join([f"{why}:", *sorted(set(map(str, edges)))]), pytrace=False)


def test_every_module_of_the_engine_belongs_to_a_room():
    tops = {module.split(".")[1] for module in MODULES if module.startswith(f"{ENGINE}.")}
    assert tops <= ROOM.keys(), f"give a place among the rooms to {', '.join(sorted(tops - ROOM.keys()))}"
    assert {edge.target for edge in outside_packages() if edge.target.startswith((ENGINE, ADD_ON))} == set(), (
        "no such module"
    )


def test_no_import_runs_back():
    back = [
        edge
        for edge in ours()
        if edge.source.startswith(f"{ENGINE}.") and edge.target.startswith(f"{ENGINE}.")
        if RANK[room(edge.target)] > RANK[room(edge.source)]
        if not (room(edge.source) == "cli" and room(edge.target) in APART and edge.deferred)
    ]
    fail_for(back, "imports against the order of the rooms (training and evaluation: only from cli, inside functions)")


def test_the_public_interface_is_for_others():
    inner = [edge for edge in ours() if edge.target == ENGINE and edge.source != ENGINE and not is_public_name(edge)]
    fail_for(inner, "take it from the module that defines it")
    eager = [edge for edge in imports()[ENGINE] if edge.target in MODULES and not edge.deferred]
    fail_for([edge for edge in eager if room(edge.target) != "light"], "the top of the package imports it at once")


def test_no_import_is_part_of_a_circle():
    graph = {module: {edge.target for edge in imports()[module] if edge.target in MODULES and not is_public_name(edge)} for module in MODULES}  # fmt: skip

    def reached(start: str) -> set[str]:
        found, waiting = set[str](), list(graph[start])
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting += graph[here]
        return found

    reach = {module: reached(module) for module in MODULES}
    circles = [edge for edge in ours() if not is_public_name(edge) and edge.source in reach[edge.target]]
    fail_for([edge for edge in circles if edge.source != edge.target], "imports in a circle")


def test_only_what_is_heavy_is_imported_inside_functions():
    start = at_start(f"{ENGINE}.cli") | at_start(ENGINE)
    needless = []
    for edge in [*ours(), *outside_packages()]:
        at_the_door = edge.source in start or edge.source.startswith(f"{ENGINE}.cli.")
        may_wait = HEAVY | (SLOW if at_the_door else set()) | NOT_EVERYWHERE
        apart = edge.target in MODULES and edge.target.startswith(ENGINE) and room(edge.target) in APART
        from_cli = edge.source.startswith(f"{ENGINE}.cli")
        if edge.deferred and not (apart and from_cli) and not at_start(edge.target) & may_wait:
            needless.append(edge)
    fail_for(needless, "imports that can stand at the top, since they bring nothing heavy")


def test_tracking_and_a_draft_edit_wait_for_no_heavy_package():
    for name in ("jobs.worker", "serve.app", "emotion.edit", "face.clip"):
        assert not at_start(f"{ENGINE}.{name}") & HEAVY, name


def test_light_modules_import_numpy_and_the_standard_library_only():
    light = [edge for edges in imports().values() for edge in edges if edge.source.startswith(f"{ENGINE}.") and room(edge.source) == "light"]  # fmt: skip
    known = sys.stdlib_module_names | {"numpy"}
    heavy = [e for e in light if e.target not in known and not is_public_name(e) and not (e.target in MODULES and room(e.target) == "light")]  # fmt: skip
    fail_for(heavy, "light modules import numpy and the standard library only")


def test_the_add_on_imports_light_modules_only():
    wrong = [
        edge
        for edge in ours()
        if edge.source.startswith(ADD_ON) and edge.target.startswith(f"{ENGINE}.") and room(edge.target) != "light"
    ]
    fail_for(wrong, "the add-on imports more of the engine than its light modules")
    fail_for(
        [e for e in ours() if e.source.startswith(ENGINE) and e.target.startswith(ADD_ON)],
        "the engine imports the add-on",
    )


def test_torch_stays_out_of_the_add_on_and_blender_out_of_the_engine():
    fail_for(
        [e for e in outside_packages() if e.source.startswith(ADD_ON) and e.target == "torch"], "torch in the add-on"
    )
    blender = {"bpy", "bmesh", "mathutils", "bpy_extras", "addon_utils"}
    fail_for(
        [e for e in outside_packages() if e.source.startswith(ENGINE) and e.target in blender], "Blender in the engine"
    )


def test_ffmpegs_log_stays_off():
    """PyAV hands its lines to Python: a thread of a decoder that writes one waits for the lock of whoever waits for it."""
    users = [name for name, path in MODULES.items() if re.search(r"\bav\.logging\b", path.read_text("utf-8"))]
    assert not users, "these read FFmpeg's log, which hangs now and then beside other threads"
