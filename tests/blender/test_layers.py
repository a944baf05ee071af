"""One face, one set of curves: whatever is done to the layers or curves of a face, every mesh shows what the leading one does."""

import numpy as np
import pytest

from cmet_engine import arkit

FRAMES = (3, 12, 26, 41)


class Face:
    """A rig with a performance and two emotions, and what is to be seen of it."""

    def __init__(self, bpy, obj, make_track):
        from cmet_blender import followers, mapping

        self.bpy, self.obj, self.scene = bpy, obj, bpy.context.scene
        self.leader, self.mapping = followers.leader(obj), mapping.match(obj)
        self.scene.cmet.rig = obj
        self.performance, self.happy, self.sad = (
            make_track(seed=seed, low=low, high=high, turn=0)
            for seed, low, high in ((0, 0, 0.5), (1, -0.2, 0.3), (2, -0.1, 0.2))
        )

    def perform(self):
        """Write the performance, happy rising over ten frames, and sad at half strength."""
        from cmet_blender import emotion_strips, keyframes

        self.scene.frame_start, self.scene.frame_end = 1, 50
        keyframes.apply_track(self.obj, self.performance, self.mapping)
        strip = emotion_strips.add(self.obj, "happy", self.happy, mapping=self.mapping)
        emotion_strips.set_influence(strip, [(1, 0.0), (11, 1.0), (50, 1.0)])
        emotion_strips.carry(self.keys)
        emotion_strips.add(self.obj, "sad", self.sad, strength=0.5, mapping=self.mapping)
        return self

    @property
    def keys(self):
        return self.leader.data.shape_keys

    @property
    def animation(self):
        return self.keys.animation_data

    def track(self, name):
        return self.animation.nla_tracks["C-MET: " + name]

    def strip_of(self, name):
        return next(s for t in self.animation.nla_tracks for s in t.strips if s.name == name)

    def nla(self, operator, *names, **options):
        """Call an operator of the NLA editor on strips of the leading mesh, as its keys do."""
        bpy = self.bpy
        for track in self.animation.nla_tracks:
            track.select = any(strip.name in names for strip in track.strips)
            for strip in track.strips:
                strip.select = strip.name in names
        window = bpy.context.window_manager.windows[0]
        area = window.screen.areas[0]
        area.type = "NLA_EDITOR"
        area.spaces.active.dopesheet.show_only_selected = False
        region = next(r for r in area.regions if r.type == "WINDOW")
        with bpy.context.temp_override(window=window, area=area, region=region):
            assert getattr(bpy.ops.nla, operator)(**options) == {"FINISHED"}
        bpy.context.view_layer.update()

    def shown(self, frames=FRAMES):
        """Values [frames, 52] of the leading mesh, which every other mesh shows too."""
        from cmet_blender import rig

        bpy, values = self.bpy, np.zeros((len(frames), arkit.COUNT))
        bpy.context.view_layer.update()
        for row, frame in enumerate(frames):
            self.scene.frame_set(frame)
            graph = bpy.context.evaluated_depsgraph_get()
            keys = self.keys.evaluated_get(graph)
            for name, column in arkit.INDEX.items():
                values[row, column] = keys.key_blocks[name].value if name in keys.key_blocks else keys.get(name, 0.0)
            for mesh in rig.meshes(self.obj):
                for block in mesh.data.shape_keys.evaluated_get(graph).key_blocks:
                    if block.name in arkit.INDEX:
                        expected = values[row, arkit.INDEX[block.name]]
                        assert abs(block.value - expected) < 1e-5, f"{mesh.name}, {block.name}, frame {frame}"
        return values

    def expects(self, happy, sad, performance=1.0, frames=FRAMES):
        """Check the sum: `happy` and `sad` give strength and the frame of the delta for a frame of the scene."""
        wanted = np.zeros((len(frames), arkit.COUNT))
        for row, frame in enumerate(frames):
            wanted[row] = performance * self.performance.coefficients[frame - 1]
            for delta, of in ((self.happy, happy), (self.sad, sad)):
                for strength, place in of(frame):
                    wanted[row] += strength * _at(delta, place)
        assert np.abs(self.shown(frames) - wanted).max() < 1e-4


def _at(track, place):
    """Coefficients at a frame of a track, counted from 1, between frames too."""
    return np.array([np.interp(place, np.arange(1, 51), column) for column in track.coefficients.T])


def rise(frame):
    """Happy as it was added."""
    return [(min(1.0, (frame - 1) / 10), frame)]


def half(frame):
    """Sad as it was added."""
    return [(0.5, frame)]


def nothing(frame):
    return []


@pytest.fixture
def registered(bpy):
    import cmet_blender

    cmet_blender.register()
    yield bpy
    cmet_blender.unregister()


@pytest.fixture
def demo(registered, project, random_tracks):
    """The demo head: skin, brows, lashes, teeth, tongue, eyes and corneas."""
    registered.ops.wm.open_mainfile(filepath=str(project / "rigs" / "demo_head.blend"))
    registered.context.scene.render.fps = 24
    return Face(registered, registered.data.objects["head"], random_tracks)


@pytest.fixture
def parts(registered, make_mesh, random_tracks):
    """A face of three meshes below an empty, the tongue with a shape of its own and the brows with names in quotes."""
    bpy = registered
    root = bpy.data.objects.new("root", None)
    bpy.context.scene.collection.objects.link(root)
    meshes = [
        make_mesh("Skin", [n for n in arkit.NAMES if n != "tongueOut"]),
        make_mesh("Tongue", ["jawOpen", "tongueOut"]),
        make_mesh("Brows", [n for n in arkit.NAMES if n.startswith("brow")]),
    ]
    for mesh in meshes:
        mesh.parent = root
    return Face(bpy, meshes[0], random_tracks)


@pytest.fixture(params=["demo", "parts"])
def face(request):
    """Each of two rigs, at work."""
    return request.getfixturevalue(request.param).perform()


def test_every_edit_of_strips_is_seen_on_the_whole_face(face):
    face.expects(rise, half)
    assert sum(len(track.strips) for track in face.animation.nla_tracks) == 3  # rest, happy, sad: nowhere else are any
    # mute, solo
    face.track("sad").mute = True
    face.expects(rise, nothing)
    face.track("sad").mute = False
    face.track("happy").is_solo = True
    face.expects(rise, nothing, performance=0.0)
    from cmet_blender import layers

    layers.solo(face.keys, face.track("happy"), False)
    face.expects(rise, half)
    # G: moved by five frames, its ramp goes along
    happy = face.strip_of("happy")
    happy.frame_end_raw, happy.frame_start_raw = 55, 6
    face.expects(lambda f: rise(f - 5) if f >= 6 else [], half)
    # S: twice as long
    happy.scale, happy.frame_end_raw = 2.0, 104
    stretched = lambda f: [(min(1.0, (f - 6) / 20), 1 + (f - 6) / 2)] if f >= 6 else []  # noqa: E731
    face.expects(stretched, half)
    # trimmed at its end: the keys stay
    happy.action_frame_end = 15
    assert abs(happy.frame_end_raw - 34) < 0.01
    face.expects(lambda f: stretched(f) if f <= 34 else [], half)
    # split, and one half deleted
    face.scene.frame_set(20)
    face.nla("split", "sad")
    face.expects(lambda f: stretched(f) if f <= 34 else [], half)
    face.nla("delete", "sad")
    cut = next(s for t in face.animation.nla_tracks for s in t.strips if s.name.startswith("sad."))
    assert cut.frame_start > 10
    face.expects(lambda f: stretched(f) if f <= 34 else [], lambda f: half(f) if f >= cut.frame_start else [])


def test_a_copy_of_a_strip_counts_wherever_blender_puts_it(face):
    face.nla("duplicate", "sad")  # of the topmost track, which Blender puts below all others
    copy = face.strip_of("sad.001")
    face.expects(rise, lambda f: half(f) * 2)
    assert [t.name for t in face.animation.nla_tracks] == ["C-MET: " + n for n in ("rest", "sad 2", "happy", "sad")]
    copy = face.strip_of("sad.001")
    copy.frame_end_raw, copy.frame_start_raw = 58, 9
    face.expects(rise, lambda f: half(f) + (half(f - 8) if f >= 9 else []))
    from cmet_blender import emotion_strips

    assert [key.emotion for key in emotion_strips.timeline(face.obj).keys].count("sad") == 2


def test_keys_drivers_and_other_actions_on_the_leader_move_every_mesh(face):
    bpy, keys = face.bpy, face.keys
    # tweak mode: a strip's own keys
    from cmet_blender import layers

    layers.tweak(face.obj, face.track("sad"))
    face.shown()
    curves = [c for c in face.animation.action.layers[0].strips[0].channelbags[0].fcurves if "jawOpen" in c.data_path]
    assert "C-MET: sad" in face.animation.action.name and curves
    for point in curves[0].keyframe_points:
        point.co[1] += 0.2
    curves[0].update()
    face.shown()
    layers.tweak(face.obj, None)
    face.sad.coefficients[:, arkit.INDEX["jawOpen"]] += 0.2
    face.expects(rise, half)
    # cut and paste of the performance's keys
    own = next(
        c for c in face.animation.action.layers[0].strips[0].channelbags[0].fcurves if "browInnerUp" in c.data_path
    )
    copied = [tuple(p.co) for p in own.keyframe_points]
    while len(own.keyframe_points):
        own.keyframe_points.remove(own.keyframe_points[0])
    for frame, value in copied:
        own.keyframe_points.insert(frame, value / 2)
    own.update()
    face.performance.coefficients[:, arkit.INDEX["browInnerUp"]] /= 2
    face.expects(rise, half)
    # another action
    action = bpy.data.actions.new("frown")
    face.animation.action = action
    keys.key_blocks["browInnerUp"].value = 0.75
    keys.key_blocks["browInnerUp"].keyframe_insert("value", frame=1)
    assert face.shown()[:, arkit.INDEX["browInnerUp"]].std() > 0
    # a driver
    curve = keys.key_blocks["jawOpen"].driver_add("value")
    curve.driver.expression = "0.01 * frame"
    assert np.abs(face.shown()[:, arkit.INDEX["jawOpen"]] - 0.01 * np.array(FRAMES)).max() < 1e-6


def test_the_list_of_layers_adds_removes_moves_and_solos_them(face):
    cmet = face.bpy.ops.cmet
    settings = face.scene.cmet

    def names():
        return [t.name.removeprefix("C-MET: ") for t in face.animation.nla_tracks]

    assert cmet.add_hand_layer(edit=False) == {"FINISHED"} and names() == ["rest", "happy", "sad", "by hand"]
    assert settings.active_layer == 3
    assert cmet.edit_layer() == {"FINISHED"}
    face.scene.frame_set(12)
    before = face.shown([12])
    face.keys.key_blocks["mouthPucker"].value = before[0, arkit.INDEX["mouthPucker"]] + 0.25
    assert face.keys.key_blocks["mouthPucker"].keyframe_insert("value", frame=12)
    assert cmet.edit_layer() == {"FINISHED"} and not face.animation.use_tweak_mode
    change = face.shown([12]) - before  # the performance above was seen while keying
    assert abs(change[0, arkit.INDEX["mouthPucker"]] - 0.25) < 1e-4 and np.abs(change).sum() < 0.251
    assert cmet.move_layer(direction="DOWN") == {"FINISHED"} and names() == ["rest", "happy", "by hand", "sad"]
    assert cmet.move_layer(direction="UP") == {"FINISHED"} and names() == ["rest", "happy", "sad", "by hand"]
    with pytest.raises(RuntimeError, match="top layer already"):
        cmet.move_layer(direction="UP")
    assert np.abs(face.shown([12]) - before - change).max() < 1e-5
    assert cmet.remove_layer() == {"FINISHED"} and names() == ["rest", "happy", "sad"]
    face.expects(rise, half)
    settings.active_layer = 1
    assert cmet.solo_layer() == {"FINISHED"}
    face.expects(rise, nothing, performance=0.0)
    assert cmet.solo_layer() == {"FINISHED"}
    settings.layer_strength = 0.5
    face.expects(lambda f: [(0.5 * s, p) for s, p in rise(f)], half)
    settings.fade_in, settings.fade_out = 4, 6
    assert (round(settings.fade_in, 2), round(settings.fade_out, 2), settings.layer_strength) == (4, 6, 0.5)
    faded = lambda f: [(0.5 * min(1.0, (f - 1) / 4, (50 - f) / 6), f)]  # noqa: E731
    face.expects(faded, half, frames=(2, 3, 26, 47))
    assert cmet.remove_layer() == {"FINISHED"}
    face.expects(nothing, half)


def test_a_bake_is_shown_as_one_and_can_be_taken_back(face):
    from cmet_blender import emotion_strips

    cmet = face.bpy.ops.cmet
    wanted = face.shown()
    face.track("sad").mute = True
    face.track("sad").mute = False
    assert cmet.bake() == {"FINISHED"}
    assert np.abs(face.shown() - wanted).max() < 1e-5
    assert emotion_strips.baked(face.obj) == face.animation.action and not emotion_strips.timeline(face.obj).keys
    with pytest.raises(RuntimeError, match="press Back to Layers"):
        cmet.recompute()
    assert cmet.unbake() == {"FINISHED"} and emotion_strips.baked(face.obj) is None
    face.expects(rise, half)


def test_save_reopen_append_and_duplicate_keep_the_face_together(face, tmp_path):
    bpy = face.bpy
    expected, name = face.shown(), face.obj.name
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))

    def again(obj):
        copy = Face.__new__(Face)
        copy.bpy, copy.obj, copy.scene, copy.leader = bpy, obj, bpy.context.scene, obj
        return copy

    assert np.abs(again(bpy.data.objects[name]).shown() - expected).max() < 1e-5
    # duplicated: the copy follows its own leader
    for obj in bpy.context.scene.objects:
        obj.hide_set(False)
        obj.select_set(obj.type in {"MESH", "EMPTY", "ARMATURE"})
    bpy.ops.object.duplicate()
    copy = again(bpy.data.objects[f"{name}.001"])
    for track in copy.animation.nla_tracks:
        track.mute = track.name.endswith("happy")
    assert np.abs(copy.shown() - expected).max() > 0.01
    assert np.abs(again(bpy.data.objects[name]).shown() - expected).max() < 1e-5
    # appended into another file
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(path)) as (source, target):
        target.objects = [one for one in source.objects if one != "Camera"]
    for obj in target.objects:
        bpy.context.scene.collection.objects.link(obj)
    bpy.context.scene.render.fps = 24
    assert np.abs(again(bpy.data.objects[name]).shown() - expected).max() < 1e-5
