"""How strong a layer is in each part of the face."""

import numpy as np

from cmet_engine import arkit
from cmet_engine.timeline import REGIONS
from tests.blender.whole_face import half, rise


def test_the_gains_of_a_layer_are_seen_at_once_and_recompute_keeps_them(parts):
    from cmet_blender import emotion_strips

    face = parts.perform()
    settings, mouth = face.scene.cmet, [arkit.INDEX[n] for n in REGIONS["mouth"]]
    settings.active_layer = next(k for k, t in enumerate(face.animation.nla_tracks) if t.name == "C-MET: happy")
    happy, before = face.happy.coefficients.copy(), face.shown()
    assert settings.layer_mouth == 1
    settings.layer_mouth = 0.5
    face.happy.coefficients[:, mouth] /= 2
    face.expects(rise, half)
    assert next(dict(key.regions) for key in emotion_strips.timeline(face.obj).keys) == {"mouth": 0.5}
    settings.layer_mouth = 0.0
    face.happy.coefficients[:, mouth] = 0
    face.expects(rise, half)
    settings.layer_mouth, settings.layer_brows = 1.0, 2.0
    settings.layer_brows = 1.0
    face.happy.coefficients[:] = happy
    face.expects(rise, half)
    assert np.abs(face.shown() - before).max() < 1e-5
    assert all(not key.regions for key in emotion_strips.timeline(face.obj).keys)
