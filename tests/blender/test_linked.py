"""Faces of which a part is linked from another file."""

import numpy as np

from tests.blender.whole_face import FRAMES


def test_a_face_whose_brows_are_linked_is_animated_without_them_and_that_is_said(parts, tmp_path):
    from cmet_blender import emotion_strips, keyframes

    bpy, brows = parts.bpy, parts.bpy.data.objects["Brows"]
    bpy.data.libraries.write(str(tmp_path / "brows.blend"), {brows.data})
    with bpy.data.libraries.load(str(tmp_path / "brows.blend"), link=True) as (_, target):
        target.meshes = [brows.data.name]
    brows.data = target.meshes[0]
    assert brows.data.library is not None
    action = keyframes.apply_track(parts.obj, parts.performance, parts.mapping)
    emotion_strips.add(parts.obj, "happy", parts.happy, mapping=parts.mapping)
    keys = parts.keys
    for frame in FRAMES:
        parts.scene.frame_set(frame)
        shown = keys.evaluated_get(bpy.context.evaluated_depsgraph_get()).key_blocks["jawOpen"].value
        wanted = (parts.performance["jawOpen"] + parts.happy["jawOpen"])[frame - 1]
        assert np.isclose(shown, wanted, atol=1e-4)
    assert any("Brows" in note and "linked" in note for note in keyframes.notes_of(action)), keyframes.notes_of(action)
