"""Axes of head and eyes found by looking: a bone or object that lies askew turns the right way afterwards."""

from fractions import Fraction

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.track import CoefficientTrack


@pytest.fixture
def settings(bpy):
    import cmet_blender

    cmet_blender.register()
    yield bpy.context.scene.cmet
    cmet_blender.unregister()


def way(before, after):
    """What somebody who looks at the character sees; it faces -Y, and its own right is -X."""
    face, crown = ((after - before) @ v for v in np.array([(0, -1, 0), (0, 0, 1)]))
    if abs(face[0]) > 0.1:
        return "right" if face[0] < 0 else "left"
    if abs(face[2]) > 0.1:
        return "down" if face[2] < 0 else "up"
    return "" if abs(crown[0]) < 0.1 else "lean_right" if crown[0] < 0 else "lean_left"


@pytest.mark.parametrize("wrong", [("+X", "+Y", "+Z"), ("-Z", "+X", "-Y")])
def test_what_is_seen_gives_axes_that_turn_the_head_as_the_track_says(bpy, settings, avatar, wrong):
    from cmet_blender import axes, keyframes
    from cmet_blender.live import Shown
    from cmet_blender.operators.base import mapping_of

    settings.rig = avatar
    entry = settings.rotations["head"]
    entry.yaw, entry.pitch, entry.roll = wrong
    skeleton = avatar.parent
    bone = skeleton.pose.bones[entry.target]

    def turned():
        bpy.context.view_layer.update()
        return np.array((skeleton.matrix_world @ bone.matrix).to_3x3().normalized() @ rest)

    rest = (skeleton.matrix_world @ bone.bone.matrix_local).to_3x3().normalized().inverted()
    before, seen = turned(), {}
    for axis in "XYZ":
        shown = Shown()
        for part in axes.trial(avatar, mapping_of(settings), "head", axis, bpy.context.scene):
            shown.put(part)
        seen[axis.lower()] = way(before, turned())
        shown.restore()
    np.testing.assert_allclose(before, turned(), atol=1e-5)  # as it was
    assert bpy.ops.cmet.find_axes(part="head", **seen) == {"FINISHED"}
    for angle, expected in enumerate(("right", "down", "lean_right")):
        head = np.zeros((1, 3))
        head[0, angle] = 20
        keyframes.apply_track(
            avatar, CoefficientTrack(Fraction(24), np.zeros((1, arkit.COUNT)), head), mapping_of(settings)
        )
        bpy.context.scene.frame_set(1)
        assert way(before, turned()) == expected
    with pytest.raises(RuntimeError, match="cannot both turn"):
        bpy.ops.cmet.find_axes(part="head", x="up", y="down", z="left")


def test_right_axes_are_what_is_offered(bpy, settings, head):
    from cmet_blender import axes, performers
    from cmet_blender.mapping import Rotation

    assert axes.ways_of(Rotation()) == {"Z": "left", "X": "down", "Y": "lean_left"}
    assert axes.axes_of(axes.ways_of(Rotation())) == {"yaw": "-Z", "pitch": "+X", "roll": "-Y"}
    settings.rig = head
    with pytest.raises(Exception, match="Choose the bone or object"):
        axes.trial(
            head,
            performers.shown_mapping(settings),
            "head",
            "X",
            bpy.context.scene,
        )
