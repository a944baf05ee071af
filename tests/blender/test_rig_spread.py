"""Coefficients without a shape: shown by the shapes that a real rig has, judged by the shape that was taken away."""

import numpy as np
import pytest

from cmet_engine import arkit


def without(bpy, obj, coefficients):
    """Remove the shapes of these coefficients from every mesh; their true motion, and the rig's own, for judging."""
    from cmet_blender import mapping, rig

    found = mapping.match(obj)
    _, motion = rig.geometry(obj)
    true = {c: sum(motion[s] * w for s, w in found.rows[c].channels.items()) for c in coefficients}
    for mesh in rig.meshes(obj):
        blocks = mesh.data.shape_keys.key_blocks
        for coefficient in coefficients:
            for shape in found.rows[coefficient].channels:
                if shape in blocks:
                    mesh.shape_key_remove(blocks[shape])
    return true, motion


def explained(row, true, motion):
    shown = sum(motion[s] * w for s, w in row.channels.items())
    return 1 - ((true - shown) ** 2).sum() / (true**2).sum()


@pytest.mark.parametrize("name", ["avatar", "ict"])
def test_a_rig_without_smiles_still_smiles(bpy, request, name):
    from cmet_blender import mapping

    obj = request.getfixturevalue(name)
    smiles = ["mouthSmileLeft", "mouthSmileRight"]
    true, motion = without(bpy, obj, smiles)
    found = mapping.spread(obj, mapping.match(obj))
    assert set(smiles) <= set(found.spread)
    for coefficient in smiles:
        row = found.rows[coefficient]
        assert explained(row, true[coefficient], motion) > 0.6
        assert not any("Look" in shape or "viseme" in shape for shape in row.channels)


@pytest.mark.parametrize("name", ["avatar", "ict"])
def test_what_is_claimed_for_one_side_holds(bpy, request, name):
    """The other side's shape is the rig's own measure: the claimed share is the true one."""
    from cmet_blender import mapping

    obj = request.getfixturevalue(name)
    gone = ["mouthSmileRight", "mouthDimpleLeft", "mouthStretchRight"]
    true, motion = without(bpy, obj, gone)
    found = mapping.spread(obj, mapping.match(obj))
    for coefficient in gone:
        row = found.rows[coefficient]
        assert row.kind == "spread" and abs(explained(row, true[coefficient], motion) - row.confidence) < 0.1


def test_nothing_is_made_of_shapes_that_cannot_show_it(bpy, avatar):
    from cmet_blender import mapping

    without(bpy, avatar, ["browInnerUp", "eyeBlinkLeft", "eyeBlinkRight"])
    found = mapping.spread(avatar, mapping.match(avatar))
    assert set(found.missing) == {"browInnerUp", "eyeBlinkLeft", "eyeBlinkRight"}


def test_a_rig_that_lacks_a_third_takes_a_track_and_the_reference_keeps_the_rest(bpy, avatar, track):
    from cmet_blender import keyframes, mapping

    without(bpy, avatar, [n for i, n in enumerate(arkit.NAMES) if i % 3 == 0])
    found = mapping.spread(avatar, mapping.match(avatar))
    assert found.spread and found.missing
    keyframes.apply_track(avatar, track, found)
    back = keyframes.read_track(avatar, (1, 50), found, reference=track)
    assert np.abs(back.coefficients - track.coefficients).max() < 1e-4


def test_the_demo_head_takes_everything(bpy, project, track):
    from cmet_blender import keyframes, mapping, rig

    bpy.ops.wm.open_mainfile(filepath=str(project / "rigs" / "demo_head.blend"))
    head = bpy.data.objects["head"]
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 24, 1.0
    found = mapping.spread(head, mapping.match(head))
    assert found.of_kind("exact") == list(arkit.NAMES)
    assert {mesh.name for mesh in rig.meshes(head)} >= {
        "head",
        "teeth_lower",
        "tongue",
        "eye_left",
        "eye_right",
        "brows",
        "lashes",
    }
    keyframes.apply_track(head, track, found)
    back = keyframes.read_track(head, (1, 20), found)
    assert np.abs(back.coefficients - track.coefficients[:20]).max() < 1e-5
    assert np.abs(back.head_rotation - track.head_rotation[:20]).max() < 1e-3
