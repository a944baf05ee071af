"""A take with another rate than the scene of a .blend: its keys are kept, or the resampling is said; inputs stay."""

import json
import struct

import numpy as np
import pytest
from soak_cases import soak

from cmet_engine.errors import InvalidInput
from cmet_engine.track import CoefficientTrack

pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")


@pytest.fixture
def cmet(bpy, tmp_path, monkeypatch, capfd):
    """`cmet(*arguments)` does what `python -m cmet_blender` would in the folder of the test; its answer, an error included."""
    from cmet_blender.commands import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        main([*map(str, arguments), "--json"])
        return json.loads(capfd.readouterr().out)

    return call


def keys_of(bpy, obj):
    """Numbers of keys on the curves of the shapes."""
    action = obj.data.shape_keys.animation_data.action
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return {len(curve.keyframe_points) for bag in bags for curve in bag.fcurves}


def imported(bpy, path, fps):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = fps
    importers = {".fbx": bpy.ops.import_scene.fbx, ".usdc": bpy.ops.wm.usd_import, ".abc": bpy.ops.wm.alembic_import}
    importers[path.suffix](filepath=str(path))
    return next(o for o in bpy.data.objects if o.type == "MESH")


@pytest.mark.parametrize(("fps", "rate"), [("60", (60, 1.0)), ("30000/1001", (30, 1.001)), *soak(("240", (240, 1.0)))])
def test_fbx_holds_every_key_of_the_take(bpy, cmet, rig_file, random_tracks, tmp_path, fps, rate):
    from cmet_blender import keyframes

    track = random_tracks(frames=48, fps=fps, turn=0)
    track.save(tmp_path / "take.npz")
    answer = cmet("export", "take.npz", "--rig", rig_file, "--unsigned", "-o", "a.fbx")
    assert (answer["frames"], answer["fps"], answer["notes"]) == (48, fps, [])
    obj = imported(bpy, tmp_path / "a.fbx", rate)
    assert keys_of(bpy, obj) == {48}
    if rate[1] == 1:  # Blender's FBX importer takes 30000/1001 for 30 when it places keys
        back = keyframes.read_track(obj, (1, 48))
        assert back.fps == track.fps and np.abs(back.coefficients - track.coefficients).max() < 1e-4


def test_other_formats_hold_every_key_of_the_take(bpy, cmet, rig_file, random_tracks, tmp_path):
    from cmet_blender import keyframes

    track = random_tracks(frames=30, fps="60", turn=0)
    track.save(tmp_path / "take.npz")
    for name in ("a.glb", "a.usdc", "a.abc", "a.csv", "a.blend"):
        assert cmet("export", "take.npz", "--rig", rig_file, "-o", name)["frames"] == 30
    assert np.abs(CoefficientTrack.load(tmp_path / "a.csv").coefficients - track.coefficients).max() < 1e-5
    data = (tmp_path / "a.glb").read_bytes()
    document = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    sampler = document["animations"][0]["samplers"][0]
    assert document["accessors"][sampler["input"]]["count"] == 30
    back = keyframes.read_track(imported(bpy, tmp_path / "a.usdc", (60, 1.0)), (1, 30))
    assert np.abs(back.coefficients - track.coefficients).max() < 1e-4
    imported(bpy, tmp_path / "a.abc", (60, 1.0))
    assert bpy.context.scene.frame_end == 30
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert bpy.context.scene.render.fps == 24 and keys_of(bpy, bpy.data.objects["Head"]) == {30}


def test_resampling_is_said(bpy, cmet, rig_file, random_tracks, tmp_path):
    random_tracks(frames=30, fps="60").save(tmp_path / "take.npz")
    for more in (["--fps", "24"], ["--frames", "1", "12"]):
        answer = cmet("export", "take.npz", "--rig", rig_file, "-o", "a.fbx", "--force", *more)
        assert answer["frames"] == 12 and "30 keys at 60 a second were sampled at the scene's 24" in answer["notes"][-2]
        assert keys_of(bpy, imported(bpy, tmp_path / "a.fbx", (24, 1.0))) == {12}


def test_what_else_moves_keeps_its_pace(bpy, cmet, head, random_tracks, tmp_path):
    head.location = (0, 0, 0)
    head.keyframe_insert("location", frame=1)
    head.location = (0, 0, 1)
    head.keyframe_insert("location", frame=25)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"), copy=True)
    random_tracks(frames=30, fps="60", turn=0).save(tmp_path / "take.npz")
    answer = cmet("export", "take.npz", "--rig", "walk.blend", "-o", "a.fbx")
    assert answer["fps"] == "24" and "sampled at the scene's 24" in answer["notes"][-2]


def test_neither_rig_nor_track_nor_the_open_file_is_written_over(bpy, cmet, rig_file, track, tmp_path):
    from cmet_blender import export

    track.save(tmp_path / "take.npz")
    cmet("match", "--rig", rig_file, "-o", "map.json")
    (tmp_path / "link.blend").symlink_to(rig_file)
    (tmp_path / "sub").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    work = ("--rig", rig_file, "--mapping", "map.json", "--force")
    for arguments, says in (
        (("export", "take.npz", "-o", "sub/../rig.blend"), "is the rig itself"),
        (("apply", "take.npz", "-o", "link.blend"), "is the rig itself"),
        (("export", "take.npz", "-o", "take.npz"), "is the track itself"),
        (("bake", "-o", "rig.blend"), "is the rig itself"),
        (("read", "-o", "map.json"), "is the mapping itself"),
        (("match", "-o", "map.json"), "is the mapping itself"),
    ):
        assert says in cmet(*arguments, *work)["error"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    bpy.ops.wm.open_mainfile(filepath=str(rig_file))
    with pytest.raises(InvalidInput, match="is the open file itself"):
        export.write(bpy.data.objects["Head"], tmp_path / "link.blend", force=True)
    assert rig_file.read_bytes() == before["rig.blend"]


def test_the_export_button_keeps_what_the_panels_name(bpy, head, track, tmp_path):
    import cmet_blender
    from cmet_blender import keyframes

    cmet_blender.register()
    try:
        settings = bpy.context.scene.cmet
        settings.rig, settings.track = head, str(track.save(tmp_path / "take.npz"))
        settings.clip = str(tmp_path / "clip.csv")
        (tmp_path / "clip.csv").write_text("mine")
        keyframes.apply_track(head, track)
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for name in ("//take.npz", "//scene.blend", str(tmp_path / ".." / tmp_path.name / "clip.csv")):
            settings.export_path = name
            with pytest.raises(RuntimeError, match="itself"):
                bpy.ops.cmet.export(replace=True)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        settings.export_path = "//curves.csv"
        assert bpy.ops.cmet.export() == {"FINISHED"} and (tmp_path / "curves.csv").exists()
    finally:
        cmet_blender.unregister()
