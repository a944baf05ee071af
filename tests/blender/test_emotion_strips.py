import numpy as np
import pytest

from cmet_engine.errors import CmetError


@pytest.fixture
def strips(bpy):
    from cmet_blender import emotion_strips

    return emotion_strips


@pytest.fixture
def performed(bpy, avatar, track, random_tracks, strips):
    """The avatar with a performance, happy fading in over ten frames and sad at half strength; and what they are."""
    from cmet_blender import keyframes

    happy, sad = random_tracks(seed=1, low=-0.2, high=0.3, turn=0), random_tracks(seed=2, low=-0.1, high=0.2, turn=0)
    keyframes.apply_track(avatar, track)
    strip = strips.add(avatar, "happy", happy)
    strips.add(avatar, "sad", sad, strength=0.5)
    strips.set_influence(strip, [(1, 0.0), (11, 1.0), (50, 1.0)])
    fade = np.interp(np.arange(1, 51), [1, 11, 50], [0, 1, 1])[:, None]
    return avatar, track.coefficients + fade * happy.coefficients + 0.5 * sad.coefficients


def test_the_timeline_shows_the_sum(bpy, performed, track):
    from cmet_blender import keyframes

    avatar, expected = performed
    back = keyframes.read_track(avatar, (1, 50))
    assert np.abs(back.coefficients - expected).max() < 1e-5
    assert np.abs(back.head_rotation - track.head_rotation).max() < 1e-3
    teeth = bpy.data.objects["Wolf3D_Teeth"].data.shape_keys
    bpy.context.scene.frame_set(6)
    assert abs(teeth.key_blocks["jawOpen"].value - expected[5, 17]) < 1e-5  # the other meshes follow


def test_bake_gives_the_same_motion_in_one_action(bpy, performed, strips):
    from cmet_blender import keyframes

    avatar, expected = performed
    before = {a.name for a in bpy.data.actions}
    action = strips.bake(avatar, (1, 50))
    assert before < {a.name for a in bpy.data.actions}  # nothing was erased
    assert avatar.data.shape_keys.animation_data.action == action
    assert np.abs(keyframes.read_track(avatar, (1, 50)).coefficients - expected).max() < 1e-5


def test_an_emotion_added_after_a_bake_adds_to_it(bpy, performed, strips, random_tracks):
    from cmet_blender import keyframes

    avatar, expected = performed
    strips.bake(avatar, (1, 50))
    more = random_tracks(seed=5, low=-0.1, high=0.1, turn=0)
    strips.add(avatar, "fear", more)
    assert np.abs(keyframes.read_track(avatar, (1, 50)).coefficients - expected - more.coefficients).max() < 1e-5


def test_strips_become_emotion_keys_and_markers(bpy, performed, strips):
    avatar, _ = performed
    happy, sad = strips.timeline(avatar).keys
    assert (happy.emotion, happy.strength, sad.emotion, sad.strength) == ("happy", 1.0, "sad", 0.5)
    assert abs(happy.ease_in - 10 / 24) < 1 / 24 and abs(happy.end - 50 / 24) < 1e-6
    assert [m.name for m in bpy.context.scene.timeline_markers] == ["happy", "sad"]


def test_the_same_emotion_twice_gets_its_own_strip(bpy, head, random_tracks, strips):
    for _ in range(2):
        strips.add(head, "happy", random_tracks(seed=1))
    assert list(strips.strips(head)) == ["happy", "happy 2"]
    assert [k.emotion for k in strips.timeline(head).keys] == ["happy", "happy"]


def test_a_performance_applied_later_still_shows_under_the_emotions(bpy, head, track, random_tracks, strips):
    from cmet_blender import keyframes

    happy = random_tracks(seed=1, low=-0.2, high=0.3, turn=0)
    strips.add(head, "happy", happy)
    assert np.abs(keyframes.read_track(head, (1, 50)).coefficients - happy.coefficients).max() < 1e-5
    keyframes.apply_track(head, track)
    assert (
        np.abs(keyframes.read_track(head, (1, 50)).coefficients - happy.coefficients - track.coefficients).max() < 1e-5
    )


def test_an_emotion_of_one_shape_leaves_the_others_to_the_performance(bpy, head, track, strips):
    from cmet_blender import keyframes
    from cmet_engine.track import CoefficientTrack

    smile = CoefficientTrack(24, np.zeros((50, 52), np.float32))
    smile.coefficients[:, 23] = 0.25
    strips.add(head, "smirk", smile)
    keyframes.apply_track(head, track)
    assert (
        np.abs(keyframes.read_track(head, (1, 50)).coefficients - track.coefficients - smile.coefficients).max() < 1e-5
    )
    # a shape keyed by hand on top, of which neither knew
    head.shape_key_add(name="wrinkle", from_mix=False).value = 0.0
    head.data.shape_keys.key_blocks["wrinkle"].value = 0.125
    head.data.shape_keys.key_blocks["wrinkle"].keyframe_insert("value", frame=1)
    bpy.context.scene.frame_set(2)
    assert abs(head.data.shape_keys.key_blocks["wrinkle"].value - 0.125) < 1e-6


def test_strips_over_the_users_own_track_of_another_shape(bpy, head, random_tracks, strips):
    from cmet_blender import keyframes
    from cmet_engine.track import CoefficientTrack

    jaw = CoefficientTrack(24, np.zeros((50, 52), np.float32))
    jaw.coefficients[:, 17] = 0.5
    action = keyframes.apply_track(head, jaw)
    animation = head.data.shape_keys.animation_data
    bag = action.layers[0].strips[0].channelbags[0]
    for curve in [c for c in bag.fcurves if "jawOpen" not in c.data_path]:
        bag.fcurves.remove(curve)
    own = animation.nla_tracks.new()
    own.strips.new("mine", 1, action).action_slot = action.slots[0]
    animation.action = None
    happy = random_tracks(seed=1, low=-0.1, high=0.2, turn=0)
    strips.add(head, "happy", happy)
    assert np.abs(keyframes.read_track(head, (1, 50)).coefficients - jaw.coefficients - happy.coefficients).max() < 1e-5


def test_the_users_own_strips_are_kept(bpy, head, track, random_tracks, strips):
    from cmet_blender import keyframes

    action = keyframes.apply_track(head, track)
    animation = head.data.shape_keys.animation_data
    own = animation.nla_tracks.new()
    own.name = "mine"
    strip = own.strips.new("mine", 1, action)
    strip.action_slot = action.slots[0]
    animation.action = None
    happy = random_tracks(seed=1, low=-0.1, high=0.2, turn=0)
    strips.add(head, "happy", happy)
    assert (
        np.abs(keyframes.read_track(head, (1, 50)).coefficients - track.coefficients - happy.coefficients).max() < 1e-5
    )


def test_nothing_to_bake_is_said(bpy, head, strips):
    with pytest.raises(CmetError, match="apply a track first"):
        strips.bake(head)


def test_what_is_heard_becomes_influence_keys_and_keys_again(bpy, head, random_tracks, strips):
    from cmet_engine.timeline import EmotionKey, EmotionTimeline

    head_delta = random_tracks(seed=1, low=0.1, high=0.3, turn=0)
    bpy.context.scene.render.fps = round(float(head_delta.fps))
    keys = [EmotionKey("angry", 0.9, 0.0, 0.8, 0.2, 0.2), EmotionKey("angry", 0.4, 1.2, None, 0.2, 0.2)]
    strip = strips.add_heard(head, EmotionTimeline(keys), head_delta)
    times = np.arange(len(head_delta)) / float(head_delta.fps)
    wanted = EmotionTimeline(keys).weights(times, head_delta.duration)["angry"]
    curve = strip.fcurves.find("influence")
    shown = np.array([curve.evaluate(1 + n) for n in range(len(times))])
    assert np.abs(shown - wanted).max() < 0.02 and 3 < len(curve.keyframe_points) < len(times) / 2
    back = strips.timeline(head).weights(times, head_delta.duration)["angry"]
    assert np.abs(back - wanted).max() < 0.05
