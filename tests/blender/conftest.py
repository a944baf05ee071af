"""What the tests of the add-on share: an empty Blender for each test, and rigs made on the spot or imported."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.track import CoefficientTrack
from tests.blender.whole_face import Face


@pytest.fixture
def bpy():
    """Blender as a module, with an empty scene: its state outlives a test, so each starts from factory settings."""
    bpy = pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 24, 1.0
    scene.frame_start, scene.frame_end = 1, 50
    return bpy


def add_mesh(bpy, name, shapes, points=None, faces=None, deltas=None):
    """A mesh object with these shape keys in the scene; without geometry a small grid with a motion for each shape."""
    if points is None:
        x, z = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8))
        points = np.stack([x.ravel(), -0.2 * np.ones(64), z.ravel()], 1)
        faces = [(r * 8 + c, r * 8 + c + 1, r * 8 + c + 9, r * 8 + c + 8) for r in range(7) for c in range(7)]
    rng = np.random.default_rng(len(name))
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(p) for p in points], [], faces)
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    obj.shape_key_add(name="Basis", from_mix=False)
    for i, shape in enumerate(shapes):
        key = obj.shape_key_add(name=shape, from_mix=False)
        key.value = 0.0
        delta = deltas[i] if deltas is not None else rng.normal(0, 0.05, np.shape(points))
        key.data.foreach_set("co", (np.asarray(points, np.float32) + np.asarray(delta, np.float32)).ravel())
    bpy.context.view_layer.objects.active = obj
    return obj


@pytest.fixture
def make_mesh(bpy):
    """`make_mesh(name, shapes, …)`: see `add_mesh`."""
    return lambda *args, **kwargs: add_mesh(bpy, *args, **kwargs)


@pytest.fixture
def head(bpy):
    """A mesh with the 52 ARKit shapes."""
    return add_mesh(bpy, "Head", arkit.NAMES)


@pytest.fixture
def avatar(bpy, shared):
    """The head mesh of a real game avatar: 52 shapes on head, teeth and two eyes, and an armature."""
    bpy.ops.import_scene.gltf(filepath=str(shared / "data" / "rigs" / "readyplayerme_head.glb"))
    return bpy.data.objects["Wolf3D_Head"]


@pytest.fixture
def ict(bpy, shared):
    """ICT-FaceKit built from its arrays."""
    with np.load(shared / "data" / "rigs" / "ict_facekit_light.npz") as data:
        points = data["vertices"][:, [0, 2, 1]] * [1, -1, 1]  # Y up facing Z -> Z up facing -Y
        deltas = data["deltas"].astype(np.float32)[:, :, [0, 2, 1]] * np.array([1, -1, 1], np.float32)
        faces = [tuple(int(v) for v in face if v >= 0) for face in data["faces"]]
        return add_mesh(bpy, "ICT", [str(n) for n in data["shape_names"]], points, faces, deltas)


def random_track(frames=50, fps=Fraction(24), seed=0, low=0.0, high=0.6, turn=20.0):
    """A track that changes everything in every frame."""
    rng = np.random.default_rng(seed)
    return CoefficientTrack(
        fps,
        rng.uniform(low, high, (frames, arkit.COUNT)),
        rng.uniform(-turn, turn, (frames, 3)),
        rng.uniform(-turn, turn, (frames, 4)),
        meta={"source": "random"},
    )


@pytest.fixture
def track():
    """50 frames at 24 a second."""
    return random_track()


@pytest.fixture
def random_tracks():
    """`random_tracks(frames, fps, seed, low, high, turn)`."""
    return random_track


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared_engine(project, tmp_path_factory):
    """A running engine for all tests that leave it as it is: it and its workers start once. It may read the tests' folders."""
    from cmet_blender.engine import Engine

    engine = Engine(folder=tmp_path_factory.mktemp("engine"), allow=[tmp_path_factory.getbasetemp()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(project))
        engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def rig_file(bpy, head, tmp_path):
    """The head as a file of Blender's."""
    path = tmp_path / "rig.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


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


@pytest.fixture(params=[pytest.param("demo", marks=pytest.mark.soak), "parts"])
def face(request):
    """Each of two rigs, at work; the demo head, which has more meshes and takes longer, where time does not matter."""
    return request.getfixturevalue(request.param).perform()


@pytest.fixture(params=["demo", "parts"])
def either_face(request):
    """Each of two rigs, at work."""
    return request.getfixturevalue(request.param).perform()
