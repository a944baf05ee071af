"""The package as pip installs it, in the places where data files tend to get lost."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmet_blender import build_dist, build_extension, mapping
from cmet_engine import arkit

ANSWER = """
import json, sys
import cmet_blender
from cmet_blender import mapping
print(json.dumps({
    "package": cmet_blender.__file__,
    "files": sorted(p.name for p in mapping.rigs_folder().iterdir()),
    "conventions": sorted(c.name for c in mapping.conventions()),
    "reference": sorted(mapping.reference_motion()[1]),
    "heavy": sorted({"torch", "bpy", "pydantic"} & set(sys.modules)),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the project, without the weights, which take a while to pack."""
    try:
        return build_dist.engine_wheel(tmp_path_factory.mktemp("wheel"), "assets")
    except SystemExit as error:
        pytest.skip(str(error))


def install(wheel, *options, **environment):
    """Install the wheel alone with the Python below this environment, as `pip` refuses `--user` inside one."""
    python = getattr(sys, "_base_executable", sys.executable)
    pip = Path(sysconfig.get_path("purelib")) / "pip"
    command = [
        python,
        str(pip),
        "install",
        "--ignore-installed",
        "--no-compile",
        "--no-deps",
        "--no-index",
        "--no-warn-script-location",
    ]
    command += ["--break-system-packages", *options, str(wheel)]
    variables = os.environ | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return python


def run(python, script, folder, *paths, arguments=(), **environment):
    """What a script prints in a Python that has these paths and numpy, but nothing else of this environment."""
    beside = folder / "beside"
    beside.mkdir()
    site = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (site / name).is_dir():
            (beside / name).symlink_to(site / name)
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    variables |= {"PYTHONPATH": os.pathsep.join(map(str, [*paths, beside]))} | environment
    command = [python, "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check(answer, inside, project):
    """The installed package has every mapping file, and reads it."""
    found = json.loads(answer)
    assert set(found["files"]) == {p.name for p in (project / "rigs").glob("*.json")} | {"reference_motion.npz"}
    assert Path(found["package"]).is_relative_to(inside)
    assert found["conventions"] == sorted(c.name for c in mapping.conventions())
    assert found["reference"] == sorted(arkit.NAMES) and found["heavy"] == []


@pytest.mark.slow
def test_mappings_are_there_after_an_installation_with_target(wheel, tmp_path, project):
    python = install(wheel, "--target", str(tmp_path / "packages"))
    check(run(python, ANSWER, tmp_path, tmp_path / "packages"), tmp_path / "packages", project)


@pytest.mark.soak
def test_mappings_are_there_after_an_installation_for_the_user(wheel, tmp_path, project):
    python = install(wheel, "--user", PYTHONUSERBASE=str(tmp_path / "user"))
    found = run(python, ANSWER, tmp_path, PYTHONUSERBASE=str(tmp_path / "user"))
    check(found, tmp_path / "user", project)


@pytest.mark.soak
def test_mappings_are_there_after_an_installation_with_prefix(wheel, tmp_path, project):
    python = install(wheel, "--prefix", str(tmp_path / "prefix"))
    (package,) = (tmp_path / "prefix").rglob("cmet_blender/__init__.py")  # lib, lib64, Lib or local/lib, by platform
    check(run(python, ANSWER, tmp_path, package.parents[1]), tmp_path / "prefix", project)


def test_nothing_but_the_mappings_of_the_rigs_folder_is_installed(wheel):
    with zipfile.ZipFile(wheel) as bundle:
        names = [n for n in bundle.namelist() if "rigs/" in n]
    assert names and all(n.startswith("cmet_blender/rigs/") and n.endswith((".json", ".npz")) for n in names)


def test_the_light_wheel_is_all_that_the_add_on_imports_of_the_engine(tmp_path, project):
    """Every module of the add-on that needs no Blender imports beside the light wheel and numpy alone."""
    light = build_extension.build_wheel(tmp_path, "0")
    with zipfile.ZipFile(light) as bundle:
        bundle.extractall(tmp_path / "packages")
    shutil.copytree(project / "cmet_blender", tmp_path / "packages" / "cmet_blender")
    shutil.copytree(
        project / "rigs", tmp_path / "packages" / "cmet_blender" / "rigs", ignore=shutil.ignore_patterns("*.blend")
    )
    modules = [f"cmet_engine.{name}" for name in build_extension.LIGHT if name != "__init__"]
    modules += ["cmet_blender.engine", "cmet_blender.engine_check", "cmet_blender.recorder", "cmet_blender.commands"]
    modules += ["cmet_blender.rig", "cmet_blender.mapping", "cmet_blender.setup.plan", "cmet_blender.setup.environment"]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    python = getattr(sys, "_base_executable", sys.executable)
    run(python, script, tmp_path, tmp_path / "packages", arguments=modules)


def test_the_light_wheel_holds_no_more_than_the_add_on_needs(project):
    """The light modules are those that the add-on names, and what these import in turn."""

    def named(path):
        found = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "cmet_engine":
                found |= {alias.name for alias in node.names}
            elif (
                isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("cmet_engine.")
            ):
                found.add(node.module.removeprefix("cmet_engine."))
            elif isinstance(node, ast.Import):
                found |= {a.name.removeprefix("cmet_engine.") for a in node.names if a.name.startswith("cmet_engine.")}
        return {name for name in found if (project / "cmet_engine" / f"{name.replace('.', '/')}.py").is_file()}

    wanted, new = {"__init__"}, set()
    for path in (project / "cmet_blender").rglob("*.py"):
        if path.name not in build_extension.LEFT_OUT:
            new |= named(path)
    while new - wanted:
        wanted |= new
        new = set().union(*(named(project / "cmet_engine" / f"{name}.py") for name in wanted if "." not in name))
    assert wanted == set(build_extension.LIGHT)
