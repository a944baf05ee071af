"""Two people of one clip on two characters, edited each in their own way and rendered in one pass, by the real engine."""

import importlib.util
import json

import numpy as np
import pytest

from cmet_engine.track import CoefficientTrack

pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
for package in ("fastapi", "mediapipe", "torch"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the engine's package {package}, which is not installed", allow_module_level=True)

FRAMES = 14


@pytest.fixture
def clip(tmp_path):
    """Two people side by side."""
    from two_people import heads, side_by_side, write

    return write(tmp_path / "two.mp4", [side_by_side(a, b) for a, b in zip(*heads(FRAMES), strict=True)])


@pytest.fixture
def scene(bpy, project, shared_engine, monkeypatch, tmp_path):
    """Two demo heads in a scene of its own file, with the add-on registered and the tests' engine."""
    import cmet_blender
    from cmet_blender import session

    head = str(project / "rigs" / "demo_head.blend")
    bpy.ops.wm.open_mainfile(filepath=head)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"))
    with bpy.data.libraries.load(head) as (source, copy):
        copy.objects = source.objects
    for obj in copy.objects:
        bpy.context.scene.collection.objects.link(obj)
    cmet_blender.register()
    monkeypatch.setattr(session, "engine", lambda *extra: shared_engine)
    yield bpy.context.scene
    cmet_blender.unregister()
    session.STATE = session.State()


@pytest.mark.slow
def test_two_people_of_a_clip_play_two_characters_and_are_rendered_in_one_pass(bpy, scene, clip, tmp_path):
    settings = scene.cmet
    assert bpy.ops.cmet.load_footage(filepath=str(clip)) == {"FINISHED"}
    settings.rig = bpy.data.objects["head"]
    assert bpy.ops.cmet.find_people() == {"FINISHED"}, settings.message
    first, second = settings.people
    assert (first.number, second.number, first.name, first.rig) == (1, 2, "Person 1", bpy.data.objects["head"])
    assert second.rig is None and second.last > 0.3 and second.share > 0.8
    for person in settings.people:
        assert tuple(person.picture.size) == (256, 256) and person.picture.packed_file

    second.rig = bpy.data.objects["head.001"]
    assert bpy.ops.cmet.track() == {"FINISHED"}, settings.message
    tracks = [CoefficientTrack.load(one.track).coefficients for one in settings.people]
    assert np.abs(tracks[0] - tracks[1]).max() > 0.02
    actions = [one.rig.data.shape_keys.animation_data.action for one in settings.people]
    assert all(actions) and actions[0] != actions[1]

    for index, emotion in enumerate(("happy", "surprised")):
        settings.active_person = index
        assert bpy.ops.cmet.add_emotion(emotion=emotion) == {"FINISHED"}, settings.message
    from cmet_blender import emotion_strips

    assert [list(emotion_strips.strips(one.rig)) for one in settings.people] == [["happy"], ["surprised"]]

    settings.video_format, settings.codec, settings.quality = "mkv", "ffv1", "draft"
    settings.range_from, settings.range_to, settings.handles = "4f", "10f", 1
    settings.matte = settings.shot_data = True
    assert bpy.ops.cmet.render_video() == {"FINISHED"}, settings.message
    folder = tmp_path / "cmet" / "two_edited"
    assert {"edited.mkv", "matte.mkv", "edited.shot.json"} <= {path.name for path in folder.iterdir()}
    _both_are_changed(clip, folder / "edited.mkv")
    assert json.loads((folder / "edited.shot.json").read_text("utf-8"))
    strip = next(s for s in scene.sequence_editor.strips if s.name == "C-MET edited")
    assert (strip.frame_final_start, strip.frame_final_duration) == (4, 8)

    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    settings = bpy.context.scene.cmet
    assert [one.rig.name for one in settings.people] == ["head", "head.001"] and settings.people[1].picture.packed_file
    assert (settings.codec, settings.range_to, len(settings.people[1].rows)) == ("ffv1", "10f", 52)


def _both_are_changed(clip, video):
    """Both faces differ from the clip in frames 3 to 10, and nothing between them does."""
    import av

    from cmet_engine.media.reader import VideoReader

    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
    before = np.stack([f.image for f in VideoReader(clip)][3:11]).astype(int)
    after = np.stack([f.image for f in VideoReader(video)]).astype(int)
    assert before.shape == after.shape
    change = np.abs(after - before).mean((0, 1, 3))
    assert change[30:286].max() > 1 and change[350:606].max() > 1
    assert not change[300:340].any()
