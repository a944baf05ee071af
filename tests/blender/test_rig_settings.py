"""Settings belong to the rig: each character of a scene has its own, and files made before are converted."""

import pytest

from cmet_engine import arkit


@pytest.fixture
def settings(bpy):
    import cmet_blender

    cmet_blender.register()
    yield bpy.context.scene.cmet
    cmet_blender.unregister()


def test_two_characters_have_settings_and_mappings_of_their_own(bpy, settings, head, make_mesh, tmp_path):
    other = make_mesh("Other", arkit.NAMES)
    settings.strength = 0.25
    settings.rig = head
    assert head.cmet.strength == 0.25  # what was chosen without a rig goes to the first
    settings.mode, settings.gain_mouth, settings.fade, settings.rows["jawOpen"].gain = "replace", 0.5, 3, 0.75
    settings.rows["tongueOut"].channels = ""
    settings.rig = other
    settings.strength, settings.mode = 1.5, "add"
    assert settings.rows["jawOpen"].gain == 1 and other.cmet.mode == "add"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "two.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "two.blend"))
    settings = bpy.context.scene.cmet
    assert settings.strength == 1.5
    settings.rig = bpy.data.objects["Head"]
    assert (settings.mode, settings.gain_mouth, settings.fade, settings.strength) == ("replace", 0.5, 3, 0.25)
    assert settings.rows["jawOpen"].gain == 0.75 and settings.rows["tongueOut"].kind == "missing"
    copy = settings.rig.copy()
    assert copy.cmet.mode == "replace"


def test_people_have_those_of_their_rigs(bpy, settings, head, make_mesh):
    other = make_mesh("Other", arkit.NAMES)
    for obj in (head, other):
        settings.people.add().rig = obj
    settings.active_person = 1
    settings.strength = 0.5
    assert (head.cmet.strength, other.cmet.strength) == (1.0, 0.5)
    settings.active_person = 0
    assert settings.strength == 1.0


def test_a_file_of_an_earlier_version_is_converted(bpy, head, tmp_path):
    import cmet_blender

    class CmetScene(bpy.types.PropertyGroup):
        __annotations__ = {
            "strength": bpy.props.FloatProperty(default=1.0),
            "mode": bpy.props.EnumProperty(items=[("add", "", ""), ("replace", "", "")]),
            "gain_brows": bpy.props.FloatProperty(default=1.0),
            "rig": bpy.props.PointerProperty(type=bpy.types.Object),
        }

    bpy.utils.register_class(CmetScene)
    bpy.types.Scene.cmet = bpy.props.PointerProperty(type=CmetScene)
    old = bpy.context.scene.cmet
    old.strength, old.mode, old.gain_brows, old.rig = 0.5, "replace", 1.25, head
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "old.blend"))
    del bpy.types.Scene.cmet
    bpy.utils.unregister_class(CmetScene)
    cmet_blender.register()
    try:
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "old.blend"))
        head, settings = bpy.data.objects["Head"], bpy.context.scene.cmet
        assert (head.cmet.strength, head.cmet.mode, head.cmet.gain_brows, head.cmet.fade) == (0.5, "replace", 1.25, 8)
        settings.mode = "add"
        bpy.ops.wm.save_mainfile()
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "old.blend"))
        assert bpy.context.scene.cmet.mode == "add" and bpy.data.objects["Head"].cmet.strength == 0.5
    finally:
        cmet_blender.unregister()
