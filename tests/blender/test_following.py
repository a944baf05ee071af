"""What the add-on does by itself while the animator works: the strips of the other meshes follow the leading one."""

import pytest


@pytest.fixture
def registered(bpy):
    import cmet_blender

    cmet_blender.register()
    yield bpy
    cmet_blender.unregister()


def test_strips_follow_the_leading_one_after_every_change(registered, avatar, track, random_tracks):
    from cmet_blender import emotion_strips, keyframes

    bpy = registered
    bpy.context.scene.cmet.rig = avatar
    keyframes.apply_track(avatar, track)
    leader = emotion_strips.add(avatar, "happy", random_tracks(seed=1, low=-0.1, high=0.2, turn=0))
    emotion_strips.set_influence(leader, [(1, 0.25), (50, 0.75)])
    avatar.data.shape_keys.update_tag()
    bpy.context.view_layer.update()
    states = [emotion_strips._state(strip) for strip in emotion_strips.strips(avatar)["happy"]]
    assert len(states) == 4 and all(state == states[0] for state in states)


def test_a_rig_without_strips_and_a_scene_without_a_rig_cost_nothing(registered, head):
    bpy = registered
    bpy.context.scene.cmet.rig = head
    head.data.shape_keys.update_tag()
    bpy.context.view_layer.update()
    bpy.data.objects.remove(head)
    assert bpy.context.scene.cmet.rig is None
    bpy.context.view_layer.update()


def test_the_table_is_filled_when_a_rig_is_chosen_and_emptied_for_what_is_none(registered, head):
    bpy = registered
    settings = bpy.context.scene.cmet
    settings.rig = head
    assert len(settings.rows) == 52 and settings.mapping_name == "ARKit / Live Link Face"
    cube = bpy.data.objects.new("cube", bpy.data.meshes.new("cube"))
    bpy.context.scene.collection.objects.link(cube)
    settings.rig = cube
    assert not settings.rows and "no shape keys" in settings.message


def test_each_scene_remembers_its_own(registered, head):
    bpy = registered
    other = bpy.data.scenes.new("other")
    bpy.context.scene.cmet.rig = head
    bpy.context.scene.cmet.strength = 0.5
    assert other.cmet.rig is None and other.cmet.strength == 1.0


def test_the_gallery_keeps_the_choice_when_the_library_grows(registered):
    from cmet_blender import session

    settings = registered.context.scene.cmet
    assert settings.emotion == "happy"
    settings.emotion = "sad"
    session.STATE.emotions = [{"name": n, "reliability": 0.9} for n in ("angry", "wistful", "sad")]
    assert settings.emotion == "sad"
    session.STATE.emotions = []


def test_pictures_of_emotions_differ_and_are_faces():
    from cmet_blender import icons

    pictures = {name: icons.draw(name) for name in (*icons.LOOKS, "wistful")}
    for picture in pictures.values():
        assert picture.shape == (64, 64, 4) and picture.min() >= 0 and picture.max() <= 1
        assert picture[32, 32, 3] == 1 and picture[0, 0, 3] == 0
    names = list(pictures)
    assert all((pictures[a] != pictures[b]).any() for i, a in enumerate(names) for b in names[:i])
