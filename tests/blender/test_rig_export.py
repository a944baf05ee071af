import numpy as np
import pytest
from soak_cases import soak

from cmet_blender import mapping
from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.track import CoefficientTrack


@pytest.fixture
def export(bpy):
    from cmet_blender import export

    return export


def read(bpy, obj, frames):
    from cmet_blender import keyframes

    return keyframes.read_track(obj, frames, mapping.match(list(arkit.NAMES)))


def reopened(bpy, importer, path, name):
    """The face mesh after reading `path` into an empty file at the same rate."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    importer(filepath=str(path))
    return next(o for o in bpy.data.objects if o.type == "MESH" and o.data.shape_keys and name in o.name)


@pytest.fixture
def acted(bpy, head, track):
    """The head with a track of which some coefficients never change: one at 0, one at 0.3."""
    from cmet_blender import keyframes

    track.coefficients[:, arkit.INDEX["tongueOut"]] = 0
    track.coefficients[:, arkit.INDEX["cheekPuff"]] = 0.3
    keyframes.apply_track(head, track)
    return head


@pytest.mark.parametrize("preset", [None, "unreal", *soak("unity", "maya")])
def test_fbx_round_trip_keeps_every_curve_in_place(bpy, export, acted, track, tmp_path, preset):
    path = export.fbx(acted, tmp_path / "head.fbx", preset=preset)
    head = reopened(bpy, bpy.ops.import_scene.fbx, path, "Head")
    assert np.abs(read(bpy, head, (1, 50)).coefficients - track.coefficients).max() < 1e-4


def test_fbx_of_an_avatar_carries_all_meshes_and_the_emotions(bpy, export, avatar, track, random_tracks, tmp_path):
    from cmet_blender import emotion_strips, keyframes

    keyframes.apply_track(avatar, track)
    happy = random_tracks(seed=1, low=-0.1, high=0.3, turn=0)
    emotion_strips.add(avatar, "happy", happy, strength=0.5)
    path = export.fbx(avatar, tmp_path / "avatar.fbx", (1, 20))
    head = reopened(bpy, bpy.ops.import_scene.fbx, path, "Head")
    expected = (track.coefficients + 0.5 * happy.coefficients)[:20]
    assert np.abs(read(bpy, head, (1, 20)).coefficients - expected).max() < 1e-4
    teeth = next(o for o in bpy.data.objects if "Teeth" in o.name)
    bpy.context.scene.frame_set(10)
    assert abs(teeth.data.shape_keys.key_blocks["jawOpen"].value - expected[9, arkit.INDEX["jawOpen"]]) < 1e-4


def test_gltf_round_trip(bpy, export, acted, track, tmp_path):
    path = export.gltf(acted, tmp_path / "head.glb")
    head = reopened(bpy, bpy.ops.import_scene.gltf, path, "Head")
    # a glTF file begins at 0 s, which Blender's reader puts at frame 0
    assert np.abs(read(bpy, head, (0, 49)).coefficients - track.coefficients).max() < 1e-4


def test_usd_round_trip(bpy, export, acted, track, tmp_path):
    path = export.usd(acted, tmp_path / "head.usdc")
    head = reopened(bpy, bpy.ops.wm.usd_import, path, "Head")
    assert np.abs(read(bpy, head, (1, 50)).coefficients - track.coefficients).max() < 1e-4


def test_usd_of_an_avatar(bpy, export, avatar, track, tmp_path):
    from cmet_blender import keyframes

    keyframes.apply_track(avatar, track)
    path = export.usd(avatar, tmp_path / "avatar.usdc", (1, 10))
    head = reopened(bpy, bpy.ops.wm.usd_import, path, "Head")
    assert np.abs(read(bpy, head, (1, 10)).coefficients - track.coefficients[:10]).max() < 1e-4


def points_at(bpy, obj, frame):
    bpy.context.scene.frame_set(frame)
    mesh = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat


def test_alembic_moves_the_same_points(bpy, export, acted, tmp_path):
    before = points_at(bpy, acted, 25)
    path = export.alembic(acted, tmp_path / "head.abc")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    bpy.ops.wm.alembic_import(filepath=str(path), as_background_job=False)
    head = next(o for o in bpy.data.objects if o.type == "MESH")
    assert np.abs(points_at(bpy, head, 25) - before).max() < 1e-4


def test_blend_keeps_the_action(bpy, export, acted, track, tmp_path):
    path = export.blend(acted, tmp_path / "head.blend")
    assert not bpy.data.filepath
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert np.abs(read(bpy, bpy.data.objects["Head"], (1, 50)).coefficients - track.coefficients).max() < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["head.blend"]


def test_clips_are_named_after_the_take(bpy, export, head, track, tmp_path):
    from cmet_blender import emotion_strips, keyframes

    keyframes.apply_track(head, track, name="furious take 3")
    scene = bpy.context.scene.name
    assert export.take_name(head) == "furious take 3"
    assert b"furious take 3" in export.fbx(head, tmp_path / "a.fbx", (1, 3)).read_bytes()
    assert b'"animations":[{' in (data := export.gltf(head, tmp_path / "a.glb", (1, 3)).read_bytes())
    assert b'"name":"furious take 3"' in data and bpy.context.scene.name == scene
    emotion_strips.add(head, "happy", track, strength=0.5)
    assert export.take_name(head) == "furious take 3"
    bpy.ops.wm.open_mainfile(filepath=str(export.blend(head, tmp_path / "a.blend")))
    assert bpy.context.scene.name == scene  # a copy of the file is no clip


def test_packed_textures_come_along(bpy, export, head, track, tmp_path):
    from cmet_blender import keyframes

    image = bpy.data.images.new("freckles", 8, 8)
    image.pixels = [0.5] * (8 * 8 * 4)
    image.pack()
    material = bpy.data.materials.new("skin")
    material.use_nodes = True
    head.data.materials.append(material)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    texture = nodes.new("ShaderNodeTexImage")
    texture.image = image
    links.new(texture.outputs[0], next(n for n in nodes if n.type == "BSDF_PRINCIPLED").inputs["Base Color"])
    keyframes.apply_track(head, track)
    assert image.packed_file.data in export.fbx(head, tmp_path / "a.fbx", (1, 3)).read_bytes()
    assert b"freckles.png" in export.usd(head, tmp_path / "a.usdz", (1, 3)).read_bytes()
    assert not (tmp_path / "textures").exists()
    export.usd(head, tmp_path / "a.usdc", (1, 3))
    beside = tmp_path / "textures" / "freckles.png"
    assert beside.read_bytes()[:4] == b"\x89PNG"
    export.usd(head, tmp_path / "a.usdc", (1, 3), force=True)
    beside.write_bytes(b"mine")
    with pytest.raises(CmetError, match="another texture of the same name"):
        export.usd(head, tmp_path / "b.usdc", (1, 3))
    assert beside.read_bytes() == b"mine" and not (tmp_path / "b.usdc").exists()


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npz"])
def test_track_files_hold_what_the_rig_does(bpy, export, acted, track, tmp_path, suffix):
    path = export.write(acted, tmp_path / f"take{suffix}")
    back = CoefficientTrack.load(path)
    assert back.fps == 24 and np.abs(back.coefficients - track.coefficients).max() < 1e-5


def test_selection_frame_and_range_are_as_before(bpy, export, acted, tmp_path):
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    acted.hide_set(True)
    scene.frame_start, scene.frame_end = 3, 99
    scene.frame_set(7)
    export.fbx(acted, tmp_path / "a.fbx")
    assert bpy.context.view_layer.objects.active == cube and cube.select_get()
    assert acted.hide_get() and (scene.frame_start, scene.frame_end, scene.frame_current) == (3, 99, 7)


def test_nothing_is_replaced_without_force(bpy, export, acted, tmp_path):
    path = tmp_path / "a.glb"
    path.write_bytes(b"mine")
    with pytest.raises(CmetError, match="exists already"):
        export.gltf(acted, path)
    assert path.read_bytes() == b"mine"
    export.gltf(acted, path, force=True)
    assert path.read_bytes()[:4] == b"glTF"


def test_unknown_formats_and_presets_are_named(bpy, export, acted, tmp_path):
    with pytest.raises(CmetError, match=r"cannot export to '\.obj'"):
        export.write(acted, tmp_path / "a.obj")
    with pytest.raises(CmetError, match="'quake' is not a preset"):
        export.fbx(acted, tmp_path / "a.fbx", preset="quake")
    with pytest.raises(CmetError, match="frame range 5 to 2 is empty"):
        export.fbx(acted, tmp_path / "a.fbx", (5, 2))
    assert list(tmp_path.iterdir()) == []


def test_frames_before_0_are_refused_rather_than_cut(bpy, export, head, track, tmp_path):
    from cmet_blender import keyframes

    keyframes.apply_track(head, track, start_frame=-5)
    with pytest.raises(CmetError, match="begins at frame -5"):
        export.fbx(head, tmp_path / "a.fbx")
    assert export.blend(head, tmp_path / "a.blend").is_file() and export.fbx(head, tmp_path / "a.fbx", (0, 9)).is_file()
