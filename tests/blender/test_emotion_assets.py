"""Emotions as assets: those that come along, those that are kept of layers, and on faces with other names."""

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotions import BASIC, EXTENDED
from cmet_engine.errors import CmetError
from tests.blender.whole_face import FRAMES, half, rise


@pytest.fixture
def library(bpy):
    """The assets that come with the add-on, by name."""
    from cmet_blender import emotion_assets

    with bpy.data.libraries.load(str(emotion_assets.FOLDER / "emotions.blend"), assets_only=True) as (there, wanted):
        wanted.actions = there.actions
    return {action.name: action for action in wanted.actions}


def test_every_emotion_comes_as_an_asset_with_its_picture(bpy, library):
    from cmet_blender import emotion_assets

    assert set(library) == {*BASIC, *EXTENDED} - {"neutral"}
    for action in library.values():
        assert action.asset_data.catalog_id == emotion_assets.CATALOG and min(action.preview.image_size) > 0


def test_an_asset_goes_onto_the_whole_face_for_as_long_as_it_may(parts, library):
    from cmet_blender import emotion_assets, keyframes

    face, happy = parts, library["happy"]
    face.scene.frame_start, face.scene.frame_end = 1, 50
    keyframes.apply_track(face.obj, face.performance, face.mapping)
    strip = emotion_assets.add(face.obj, happy, (10, 50), strength=0.5, fade=8, mapping=face.mapping)
    assert (strip.frame_start, strip.frame_end) == (10, 50)
    change = face.shown() - face.performance.coefficients[[frame - 1 for frame in FRAMES]]
    wanted = emotion_assets.coefficients_of(happy)[0]
    for frame, row in zip(FRAMES, change, strict=True):
        level = 0.0 if frame < 10 else 0.5 * min(1.0, (frame - 10) / 8)
        assert np.abs(row - level * wanted).max() < 1e-5


def test_a_layer_that_is_kept_plays_on_a_face_with_other_names(parts, make_mesh):
    from cmet_blender import emotion_assets, mapping

    face = parts.perform()
    settings = face.scene.cmet
    settings.active_layer = next(k for k, t in enumerate(face.animation.nla_tracks) if t.name == "C-MET: happy")
    assert face.bpy.ops.cmet.keep_asset() == {"FINISHED"}
    asset = face.bpy.data.actions["happy"]
    assert asset.asset_data is not None
    assert np.abs(emotion_assets.coefficients_of(asset) - face.happy.coefficients).max() < 1e-4
    face.expects(rise, half)  # nothing else has changed
    names = [n.replace("Left", "_L").replace("Right", "_R") for n in arkit.NAMES]
    other = make_mesh("Other", names)
    emotion_assets.add(other, asset, (1, 50), strength=1.0, fade=0, mapping=mapping.match(other))
    face.scene.frame_set(12)
    shown = [other.data.shape_keys.key_blocks[name].value for name in names]
    assert np.abs(shown - face.happy.coefficients[11]).max() < 1e-4


def test_what_is_no_emotion_is_said(bpy, head):
    from cmet_blender import emotion_assets

    walk = bpy.data.actions.new("walk")
    with pytest.raises(CmetError, match="'walk' has no curves under ARKit names"):
        emotion_assets.add(head, walk, (1, 50), strength=1.0, fade=0)
