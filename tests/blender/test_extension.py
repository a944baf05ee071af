"""The extension as a user has it: built, validated, installed into a throw-away profile, and used there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cmet_blender import build_extension

pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return build_extension.build(tmp_path_factory.mktemp("dist"))


def test_blenders_own_validator_passes(archive):
    done = subprocess.run(
        [sys.executable, str(build_extension.validator()), "validate", str(archive)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_sources_give_the_same_bytes(archive, tmp_path):
    assert build_extension.build(tmp_path).read_bytes() == archive.read_bytes()


def test_the_rules_of_the_platform_are_kept(archive):
    with zipfile.ZipFile(archive) as bundle:
        sources = {n: bundle.read(n).decode() for n in bundle.namelist() if n.endswith(".py")}
        wheel = next(n for n in bundle.namelist() if n.endswith(".whl"))
        assert not any(part in bundle.namelist() for part in build_extension.LEFT_OUT)
    assert wheel.endswith("py3-none-any.whl")
    for name, text in sources.items():
        assert "import cmet_blender" not in text and "from cmet_blender" not in text, name  # relative imports only
        assert "sys.path" not in text and "import torch" not in text, name


def test_every_module_of_the_package_is_inside(archive, project):
    with zipfile.ZipFile(archive) as bundle:
        inside = {n for n in bundle.namelist() if n.endswith(".py")}
    package = project / "cmet_blender"
    here = {p.relative_to(package).as_posix() for p in package.rglob("*.py")} - set(build_extension.LEFT_OUT)
    assert inside == here


def test_the_pictures_of_emotions_are_inside(archive, project):
    with zipfile.ZipFile(archive) as bundle:
        inside = {n for n in bundle.namelist() if n.startswith("gallery/")}
    assert inside == {f"gallery/{p.name}" for p in (project / "cmet_blender" / "gallery").iterdir()}
    assert "gallery/happy.jpg" in inside


@pytest.fixture(scope="module")
def session(archive, tmp_path_factory):
    """What a Blender that installed the zip answers; see `extension_session.py`."""
    import numpy as np

    from cmet_engine.track import CoefficientTrack

    folder = tmp_path_factory.mktemp("session")
    profile = tmp_path_factory.mktemp("profile")
    coefficients = np.zeros((50, 52), np.float32)
    coefficients[:] = np.linspace(0, 0.49, 50)[:, None]
    track = CoefficientTrack(24, coefficients).save(folder / "take.npz")
    clips = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"
    clip = [str(clips / "edtalk_long_60s.mp4")] if clips.is_dir() else []
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"BLENDER_USER_RESOURCES": str(profile)}
    script = Path(__file__).with_name("extension_session.py")
    done = subprocess.run(
        [sys.executable, str(script), str(archive), str(track), str(folder), *clip], cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"profile": str(profile), "clip": bool(clip)}


def test_it_installs_with_its_own_copy_of_the_light_modules(session):
    assert session["enabled"] and not session["torch"]
    assert session["engine_from"].startswith(session["profile"])
    assert session["user_folder"].startswith(session["profile"])


def test_the_table_drives_the_keys(session):
    assert session["rows"] == 52
    assert session["apply"] == session["apply_again"] == ["FINISHED"] and session["first_kept"]
    assert abs(session["smile"] - 0.09) < 1e-5 and abs(session["jaw"] - 0.045) < 1e-5  # frame 10, jaw at half gain
    assert "cheekPuff=much" in session["fault"] and "cheekPuff=much" in session["apply_faulty"]
    assert session["kind"] == "manual"


def test_a_mapping_goes_out_and_comes_back(session):
    assert session["save_mapping"] == session["load_mapping"] == ["FINISHED"]
    assert session["gain_back"] == 0.5


def test_strips_bake_and_export(session):
    assert session["strip"] == session["bake"] == session["export"] == ["FINISHED"]
    assert session["exported"] > 10_000
    assert "exists already" in session["export_again"]


def test_footage_is_in_sync_with_sound(session):
    if not session["clip"]:
        pytest.skip("needs the real data beside the project (../shared), which is not on this machine")
    assert session["footage"] == ["FINISHED"] and session["background"]
    assert session["strips"] == [["C-MET sound", "SOUND"], ["C-MET source", "MOVIE"]]
    assert session["rate"] == [25, 1.0, 1499]


def test_errors_are_said_in_plain_words(session):
    assert "No rig is chosen" in session["without_rig"]
    assert "not tracked yet" in session["without_track"]
    assert "no edited video" in session["no_video_yet"]
    assert "no longer in this scene" in session["deleted"] or "No rig is chosen" in session["deleted"]


def test_a_newer_build_of_the_same_version_takes_the_place_of_the_enabled_one(archive, project, tmp_path, monkeypatch):
    """Blender keeps a wheel whose version it has, and Python the modules that are loaded."""
    for name in ("cmet_blender", "cmet_engine", "rigs"):
        few = shutil.ignore_patterns("__pycache__", "assets", "*.webp", "*.blend", "*.npz", "training", "studio")
        shutil.copytree(project / name, tmp_path / "newer" / name, ignore=few)
    (tmp_path / "newer" / "cmet_blender" / "asset_library").mkdir(exist_ok=True)
    for name in ("LICENSE", "blender_manifest.toml"):
        shutil.copy(project / name, tmp_path / "newer")
    monkeypatch.setattr(build_extension, "ROOT", tmp_path / "newer")
    with (tmp_path / "newer" / "cmet_engine" / "errors.py").open("a") as file:
        file.write("NEWER = True\n")
    with (tmp_path / "newer" / "cmet_blender" / "actions.py").open("a") as file:
        file.write("from cmet_engine.errors import NEWER\n")
    newer = build_extension.build(tmp_path / "dist")
    script = f"""import bpy, os, pathlib
for path in {[str(archive), str(newer)]!r}:
    bpy.ops.extensions.package_install_files(filepath=path, repo="user_default", enable_on_install=True)
from cmet_engine.errors import NEWER
assert NEWER and "bl_ext.user_default.cmet_blender" in bpy.context.preferences.addons and bpy.context.scene.cmet
assert len(list(pathlib.Path(os.environ["BLENDER_USER_RESOURCES"]).rglob("cmet_engine_light*.dist-info"))) == 1
"""
    profile = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "BLENDER_USER_RESOURCES": str(tmp_path / "profile")
    }
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=profile, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_it_goes_without_a_trace(session):
    assert session["gone"]
