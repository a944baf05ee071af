"""The mode of emotions that are on a rig already."""

import json

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from tests.blender.whole_face import half, rise


@pytest.fixture
def both(parts):
    """A face at work whose happy was added and keeps what replacing it would move; `(face, what it would be)`."""
    from cmet_blender import modes

    face = parts.perform()
    action = face.strip_of("happy").action
    action["cmet"] = json.dumps({**json.loads(action["cmet"]), "mode": "add"})
    replaced = face.happy.copy()
    replaced.coefficients -= 0.1
    replaced.coefficients[:, arkit.INDEX["jawOpen"]] += 0.3
    modes.keep(face.obj, action, face.happy, replaced, 1, face.mapping)
    return face, replaced


def test_a_change_of_mode_is_seen_at_once_on_the_whole_face_and_taken_back(both):
    face, replaced = both
    settings, added = face.scene.cmet, face.happy
    face.expects(rise, half)
    settings.mode = "replace"
    face.happy = replaced
    face.expects(rise, half)
    face.bpy.ops.wm.save_as_mainfile(filepath=face.bpy.app.tempdir + "mode.blend", copy=True)
    settings.mode = "add"
    face.happy = added
    face.expects(rise, half)


def test_keys_by_hand_gains_and_moved_strips_stay(both):
    face, replaced = both
    settings, jaw = face.scene.cmet, arkit.INDEX["jawOpen"]
    settings.active_layer = next(k for k, t in enumerate(face.animation.nla_tracks) if t.name == "C-MET: happy")
    settings.layer_mouth = 0.5  # the jaw belongs to it
    strip = face.strip_of("happy")
    from cmet_blender import nla

    curve = next(
        c for c in nla.curves_of(strip.action, strip.action_slot) if c.data_path == 'key_blocks["jawOpen"].value'
    )
    for point in curve.keyframe_points:
        point.co[1] += 0.05  # by hand, in the layer's own curves
    curve.update()
    before = face.shown()
    settings.mode = "replace"
    change = face.shown() - before
    influence = np.array([min(1.0, (frame - 1) / 10) for frame in (3, 12, 26, 41)])
    wanted = (replaced.coefficients - face.happy.coefficients)[0, jaw] * 0.5 * influence
    assert np.abs(change[:, jaw] - wanted).max() < 1e-4
    settings.mode = "add"
    assert np.abs(face.shown() - before).max() < 1e-5


def test_what_is_not_known_is_left_and_offered_and_tweak_mode_is_said(both):
    from cmet_blender import modes

    face, _ = both
    action = face.strip_of("sad").action
    action["cmet"] = json.dumps({**json.loads(action["cmet"]), "mode": "add"})
    face.scene.cmet.mode = "replace"
    assert modes.others(face.obj, "replace") == [action]
    face.animation.nla_tracks.active = face.track("happy")
    face.track("happy").strips[0].select = True
    face.animation.use_tweak_mode = True
    with pytest.raises(InvalidInput, match="tweak mode"):
        modes.follow(face.obj, face.mapping, "add")
