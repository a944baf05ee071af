"""One face, one set of curves: whatever is done to the layers or curves of a face, every mesh shows what the leading one does."""

import numpy as np
import pytest
from soak_cases import soak

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.track import CoefficientTrack
from tests.blender.whole_face import FRAMES, Face, half, nothing, rise


def test_every_edit_of_strips_is_seen_on_the_whole_face(either_face):
    face = either_face
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


def test_a_curved_ramp_is_read_and_replaced_as_a_whole(face):
    from cmet_blender import influence

    strip = face.strip_of("happy")
    first, last = strip.frame_start_raw, strip.frame_end_raw
    rising = [(first + k, 0.8 * (0.5 - 0.5 * np.cos(np.pi * k / 10))) for k in range(0, 11, 2)]
    falling = [(last - k, 0.4 * (0.5 - 0.5 * np.cos(np.pi * k / 12))) for k in range(12, -1, -2)]
    influence.set_influence(strip, [*rising, (first + 20, 0.8), *falling])  # the apex relaxes in between
    assert influence.fades(strip) == (10, 12)
    influence.set_fade(strip, 4, end=True)
    influence.set_fade(strip, 20, end=False)
    assert influence.fades(strip) == (20, 4) and round(influence.strength(strip), 4) == 0.8
    curve = strip.fcurves.find("influence")
    for frame, level in ((first + 10, 0.4), (first + 20, 0.8), (last - 8, 0.4), (last - 4, 0.4), (last - 2, 0.2)):
        assert abs(curve.evaluate(frame) - level) < 1e-4, frame


def test_a_bake_is_shown_as_one_and_can_be_taken_back(face):
    from cmet_blender import emotion_strips

    cmet = face.bpy.ops.cmet
    wanted = face.shown()
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


def test_a_scene_made_before_is_converted_and_can_be_taken_back(parts):
    """As versions before 0.1 wrote it: a slot and strips for each mesh."""
    from cmet_blender import actions, followers, rig

    bpy, obj, positions = parts.bpy, parts.obj, np.arange(1, 51, dtype=np.float32)

    def write(name, track, **options):
        curves = []
        for mesh in rig.meshes(obj):
            keys = mesh.data.shape_keys
            part = actions.Curves(keys, "KEY", keys.name)
            for block in keys.key_blocks[1:]:
                part.curves[f'key_blocks["{block.name}"].value', 0] = track.coefficients[:, arkit.INDEX[block.name]]
            curves.append(part)
        return curves, actions.write_action(name, curves, positions, **options)

    write("take", parts.performance)
    still = CoefficientTrack(24, np.zeros((50, 52)))
    for name, track, strength in (("rest", still, 1.0), ("happy", parts.happy, 1.0), ("sad", parts.sad, 0.5)):
        info = {} if name == "rest" else {"emotion": name}
        curves, action = write("C-MET: " + name, track, assign=False, info=info)
        for part, slot in zip(curves, action.slots, strict=True):
            animation = part.owner.animation_data
            animation.action_blend_type = "ADD"
            nla_track = animation.nla_tracks.new()
            nla_track.name = "C-MET: " + name
            strip = nla_track.strips.new(name, 1, action)
            strip.action_slot, strip.blend_type = slot, "REPLACE" if name == "rest" else "ADD"
            strip.use_animated_influence = True
            strip.fcurves.find("influence").keyframe_points.insert(1, strength)
        for block in (b for mesh in rig.meshes(obj) for b in mesh.data.shape_keys.key_blocks[1:]):
            block.slider_min, block.slider_max = -1, 2
    parts.scene.cmet.rig = obj

    assert len(followers.owned(obj)) == 2
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.cmet.connect_meshes() == {"FINISHED"}
    assert "Strips and curves of 2 other meshes are one set" in parts.scene.cmet.done
    assert not followers.owned(obj)
    parts.expects(lambda f: [(1.0, f)], half)  # the tongue's own shape too, which the skin lacks
    parts.track("happy").mute = True
    parts.expects(nothing, half)
    bpy.ops.ed.undo_push(message="connected")
    bpy.ops.ed.undo()
    assert len(followers.owned(bpy.data.objects["Skin"])) == 2


def test_a_linked_face_is_animated_as_a_library_override(parts, tmp_path):
    from cmet_blender import keyframes

    bpy = parts.bpy
    collection = bpy.data.collections.new("Character")
    for obj in list(bpy.context.scene.collection.objects):
        collection.objects.link(obj)
    assert bpy.ops.cmet.connect_meshes() == {"FINISHED"}  # in the library's own file
    bpy.data.libraries.write(str(tmp_path / "lib.blend"), {collection})
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.context.scene.render.fps = 24
    with bpy.data.libraries.load(str(tmp_path / "lib.blend"), link=True) as (_, target):
        target.collections = ["Character"]
    scene = bpy.context.scene
    made = target.collections[0].override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
    parts.obj = parts.leader = next(o for o in made.all_objects if o.name == "Skin")
    parts.scene, scene.cmet.rig = scene, parts.obj
    with pytest.raises(CmetError, match="press Connect Meshes"):
        keyframes.apply_track(parts.obj, parts.performance)
    assert bpy.ops.cmet.connect_meshes() == {"FINISHED"}
    parts.perform().expects(rise, half)
    path = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    parts.scene = bpy.context.scene
    parts.obj = parts.leader = next(o for o in parts.scene.objects if o.name == "Skin")
    parts.expects(rise, half)


def test_a_new_strip_lies_from_the_current_frame_or_over_the_preview_range_and_fades(parts, tmp_path):
    bpy, settings = parts.bpy, parts.scene.cmet
    parts.performance.save(tmp_path / "source.npz")
    edited = CoefficientTrack(24, parts.performance.coefficients + parts.happy.coefficients)
    edited.save(tmp_path / "grin.npz")
    from cmet_blender import keyframes

    keyframes.apply_track(parts.obj, parts.performance, parts.mapping)
    settings.fade = 4
    parts.scene.frame_set(11)
    assert bpy.ops.cmet.add_emotion_file(filepath=str(tmp_path / "grin.npz")) == {"FINISHED"}
    parts.expects(lambda f: [(min(1.0, (f - 11) / 4), f)] if f >= 11 else [], nothing, frames=(10, 13, 20, 50))
    assert bpy.ops.cmet.remove_layer() == {"FINISHED"}
    settings.place = "range"
    with pytest.raises(RuntimeError, match="no preview range"):
        bpy.ops.cmet.add_emotion_file(filepath=str(tmp_path / "grin.npz"))
    parts.scene.use_preview_range, parts.scene.frame_preview_start, parts.scene.frame_preview_end = True, 21, 40
    assert bpy.ops.cmet.add_emotion_file(filepath=str(tmp_path / "grin.npz")) == {"FINISHED"}
    over = lambda f: [(min(1.0, (f - 21) / 4, (40 - f) / 4), f)] if 21 <= f <= 40 else []  # noqa: E731
    parts.expects(over, nothing, frames=(20, 22, 30, 39, 41))


def test_recompute_follows_ramps_and_keeps_what_was_keyed_by_hand(parts):
    from cmet_blender import emotion_strips, layers

    parts.perform()
    obj, settings = parts.obj, parts.scene.cmet
    bag = parts.animation.action.layers[0].strips[0].channelbags[0]
    curve = bag.fcurves.find('key_blocks["jawOpen"].value')
    for point in curve.keyframe_points:
        point.co[1] += 0.3
    curve.update()
    parts.performance.coefficients[:, arkit.INDEX["jawOpen"]] += 0.3
    happy = parts.strip_of("happy")
    emotion_strips.set_influence(happy, [(1, 0.0), (9, 1.0), (20, 0.2), (30, 0.9), (50, 0.4)])
    by_hand = layers.add_by_hand(obj)
    timeline = emotion_strips.timeline(obj)
    times = np.arange(50) / 24
    weights = timeline.weights(times, 50 / 24)
    assert (
        np.abs(weights["happy"] - np.interp(np.arange(1, 51), [1, 9, 20, 30, 50], [0, 1, 0.2, 0.9, 0.4])).max() < 0.02
    )
    assert np.abs(weights["sad"] - 0.5).max() < 1e-6
    # what the engine makes of them, here their sum
    delta = sum(weights[name][:, None] * getattr(parts, name).coefficients for name in ("happy", "sad"))
    of = [track.name for track in emotion_strips.emotions(obj)]
    before = parts.shown()
    for _ in range(2):  # a second result takes the place of the first
        emotion_strips.add_exact(obj, CoefficientTrack(24, delta), of, 1, parts.mapping)
        assert np.abs(parts.shown() - before).max() < 0.02
        shown = {emotion_strips.title_of(track): track.mute for track in layers.layers(obj)}
        assert shown == {"happy": True, "sad": True, "by hand": False, "exact": False}
        assert [track.name for track in emotion_strips.emotions(obj)] == of  # and is computed from the same again
    assert by_hand.name == "C-MET: by hand" and not emotion_strips.not_kept(obj) and settings.rig == obj


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("parts", "fbx"), ("parts", "glb"), ("parts", "usdc"), ("parts", "abc"), *soak(("demo", "fbx"))],
)
def test_exports_move_every_mesh(request, name, suffix, tmp_path):
    from cmet_blender import export, rig

    face = request.getfixturevalue(name).perform()
    bpy = face.bpy
    names = [mesh.name for mesh in rig.meshes(face.obj)]

    def points(frame):
        bpy.context.scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        found = {}
        for name in names:
            obj = next(o for o in bpy.data.objects if o.type == "MESH" and o.name.startswith(name))
            mesh = obj.evaluated_get(graph).data
            flat = np.empty(len(mesh.vertices) * 3, np.float32)
            mesh.vertices.foreach_get("co", flat)
            found[name] = flat.reshape(-1, 3) @ np.array(obj.evaluated_get(graph).matrix_world)[:3, :3].T
        return found

    def motion(late):
        """How far the fastest point of each mesh goes: importers split and order vertices in their own ways."""
        a, b = points(3 - late), points(12 - late)
        return {name: float(np.linalg.norm(b[name] - a[name], axis=1).max()) for name in names}

    wanted = motion(0)
    assert min(wanted.values()) > 1e-5
    path = export.write(face.obj, tmp_path / f"face.{suffix}", (1, 13))
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.context.scene.render.fps = 24
    scene, wm = bpy.ops.import_scene, bpy.ops.wm
    importers = {"fbx": scene.fbx, "glb": scene.gltf, "usdc": wm.usd_import, "abc": wm.alembic_import}
    importers[suffix](filepath=str(path))
    there = motion(1 if suffix == "glb" else 0)
    for name, length in wanted.items():
        assert abs(there[name] - length) < 0.02 * length, name
