"""The demo head: its geometry, its Blender file, its glTF, and the sample clip rendered from it."""

import itertools
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmet_engine.arkit import NAMES, mirrored

ROOT = Path(__file__).resolve().parents[2]
RIGS = ROOT / "rigs"
SAMPLE = ROOT / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"
MEGABYTE = 1_000_000

sys.path.insert(0, str(RIGS))

import demo_head_geometry as geometry  # noqa: E402
import demo_head_parts as parts  # noqa: E402
import demo_head_shapes as sculpt  # noqa: E402


@pytest.fixture(scope="module")
def sculpted():
    skin = geometry.build_skin()
    sculptor = sculpt.Sculptor(skin)
    return skin, sculptor, sculptor.shapes()


@pytest.fixture(scope="module")
def rows(sculpted):
    """The upper and the lower teeth."""
    return [parts.teeth(sculpted[0], upper) for upper in (True, False)]


def ray_depth(points, triangles, xy):
    """Largest z [K] at which lines along z through `xy` [K, 2] hit the mesh; -inf where they miss."""
    depth = np.full(len(xy), -np.inf)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    keep = np.abs(area) > 1e-9
    a, b, c, area = corners = a[keep], b[keep], c[keep], area[keep]
    low, high = (pick([a[:, :2], b[:, :2], c[:, :2]], axis=0) for pick in (np.min, np.max))
    for i, (x, y) in enumerate(xy):
        near = np.flatnonzero((low[:, 0] <= x) & (x <= high[:, 0]) & (low[:, 1] <= y) & (y <= high[:, 1]))
        a, b, c, area = (values[near] for values in corners)
        u = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
        v = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / area
        hit = (u >= 0) & (v >= 0) & (u + v <= 1)
        if hit.any():
            depth[i] = (a[hit, 2] + u[hit] * (b - a)[hit, 2] + v[hit] * (c - a)[hit, 2]).max()
    return depth


def test_has_the_52_shapes_and_each_moves_the_skin(sculpted):
    _, _, shapes = sculpted
    assert set(shapes) == set(NAMES)
    for name in NAMES:
        largest = np.linalg.norm(shapes[name], axis=1).max()
        assert 0.4 < largest < 45, f"{name} moves at most {largest:.2f} mm"


def test_head_and_shapes_are_mirror_symmetric(sculpted):
    skin, _, shapes = sculpted
    assert np.abs(skin.points - (skin.points * [-1, 1, 1])[skin.mirror]).max() < 1e-6
    for name in NAMES:
        other = (shapes[mirrored(name)] * [-1, 1, 1])[skin.mirror]
        assert np.abs(shapes[name] - other).max() < 0.02, name


def test_size_is_that_of_an_adult(sculpted):
    skin, _, _ = sculpted
    head = skin.points[: skin.outer_count]
    head = head[head[:, 1] > -85]
    assert 175 < np.ptp(head[:, 2]) < 225  # length with the nose
    assert 135 < np.ptp(head[np.abs(head[:, 1] - 10) < 10, 0]) < 165
    assert 58 < skin.eyes["Left"][0] - skin.eyes["Right"][0] < 70  # pupils


def test_lips_meet_at_rest_and_stay_closed_in_closed_shapes(sculpted):
    skin, _, shapes = sculpted
    upper, lower = np.array(skin.upper_lip), np.array(skin.lower_lip)
    assert np.abs(skin.points[upper] - skin.points[lower]).max() < 1e-9
    for name in ("mouthPucker", "mouthPressLeft", "mouthPressRight", "mouthShrugLower", "mouthShrugUpper", "cheekPuff"):
        gap = np.linalg.norm((shapes[name][upper] - shapes[name][lower]), axis=1).max()
        assert gap < 0.6, f"{name} opens the lips by {gap:.2f} mm"
    for name in ("mouthSmileLeft", "mouthFrownLeft", "mouthDimpleLeft", "mouthLeft"):
        gap = np.abs((shapes[name][upper] - shapes[name][lower])[:, 1]).max()
        assert gap < 1.5, f"{name} opens the lips by {gap:.2f} mm"


def test_jaw_opens_the_lips_and_mouth_close_closes_them_again(sculpted):
    skin, _, shapes = sculpted
    upper, lower = np.array(skin.upper_lip), np.array(skin.lower_lip)

    def gap(*names):
        points = skin.points + sum(shapes[n] for n in names)
        return np.abs((points[upper] - points[lower])[:, 1]).max()

    assert gap("jawOpen") > 18
    assert gap("jawOpen", "mouthClose") < 0.5


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_lids_close_at_blink_over_the_eyeball(sculpted, side):
    skin, sculptor, shapes = sculpted
    upper, lower = sculptor.lid_borders(side)
    closed = skin.points + shapes[f"eyeBlink{side}"]
    width = np.linalg.norm(skin.points[upper[0]] - skin.points[upper[-1]])
    order = np.argsort(closed[lower, 0])
    low = np.interp(closed[upper, 0], closed[lower, 0][order], closed[lower, 1][order])
    assert (closed[upper, 1] - low).max() < 0.02 * width
    opening = (
        skin.points[upper, 1]
        - np.interp(skin.points[upper, 0], skin.points[lower, 0][order], skin.points[lower, 1][order])
    ).max()
    assert opening > 0.2 * width  # it was open before
    ball = parts.eyeball(skin, side)
    front = ball.points[ball.points[:, 2] > skin.eyes[side][2] + 7.5]
    lids = ray_depth(closed, skin.triangles, front[:, :2])
    assert (lids > front[:, 2]).all(), "the eyeball pokes through the closed lids"


def test_squinting_narrows_the_eye_and_does_not_shut_it(sculpted):
    skin, sculptor, shapes = sculpted
    across = skin.eyes["Left"][0] + np.linspace(-4, 4, 5)

    def opening(moved: np.ndarray) -> float:
        heights = [
            np.interp(across, np.sort(moved[loop, 0]), moved[loop, 1][np.argsort(moved[loop, 0])])
            for loop in sculptor.lid_borders("Left")
        ]
        return float((heights[0] - heights[1]).mean())

    rest = opening(skin.points)
    closed = {n: 1 - opening(skin.points + shapes[n + "Left"]) / rest for n in ("eyeBlink", "eyeSquint", "cheekSquint")}
    assert closed["eyeBlink"] > 0.95
    assert 0.15 < closed["eyeSquint"] < 0.35 and 0.15 < closed["cheekSquint"] < 0.35


@pytest.mark.parametrize(
    "pose",
    [
        {},
        {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
        {"mouthPucker": 1.0},
        {"mouthPressLeft": 1.0, "mouthPressRight": 1.0},
        {"jawOpen": 0.3, "mouthClose": 0.3},
    ],
    ids=["rest", "smile", "pucker", "press", "close"],
)
def test_teeth_stay_behind_the_skin(sculpted, rows, pose):
    skin, _, shapes = sculpted
    face = skin.points + sum((shapes[n] * v for n, v in pose.items()), np.zeros_like(skin.points))
    outer = skin.outer_triangles()
    near_mouth = outer[(np.abs(face[outer] - face[13]).max(axis=(1, 2)) < 60)]
    for row in rows:
        points = row.points + sum(
            (row.shapes[n] * v for n, v in pose.items() if n in row.shapes), np.zeros_like(row.points)
        )
        points = points[points[:, 2] > face[13, 2] - 40]
        depth = ray_depth(face, near_mouth, points[:, :2])
        poking = points[:, 2] - depth
        assert (poking[np.isfinite(poking)] < 0).all(), (
            f"teeth come through by {poking[np.isfinite(poking)].max():.2f} mm"
        )


def test_eyes_turn_the_way_their_names_say(sculpted):
    skin, _, _ = sculpted
    for side, inward in (("Left", -1), ("Right", 1)):
        ball = parts.eyeball(skin, side)
        pupil = len(ball.points) - 2
        assert np.sign(ball.shapes[f"eyeLookIn{side}"][pupil, 0]) == inward
        assert np.sign(ball.shapes[f"eyeLookOut{side}"][pupil, 0]) == -inward
        assert ball.shapes[f"eyeLookUp{side}"][pupil, 1] > 3
        assert ball.shapes[f"eyeLookDown{side}"][pupil, 1] < -3


def test_files_are_small():
    assert (RIGS / "demo_head.blend").stat().st_size < 6 * MEGABYTE
    assert (RIGS / "demo_head.glb").stat().st_size < 6 * MEGABYTE
    assert SAMPLE.stat().st_size < 2 * MEGABYTE


def test_glb_has_all_shapes_by_name():
    data = (RIGS / "demo_head.glb").read_bytes()
    assert data[:4] == b"glTF"
    (length,) = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20 : 20 + length])
    named = {mesh["name"]: mesh.get("extras", {}).get("targetNames", []) for mesh in document["meshes"]}
    assert named["head"] == list(NAMES)
    assert "jawOpen" in named["teeth_lower"] and "tongueOut" in named["tongue"]
    assert {"eyeLookInLeft", "eyeLookUpLeft"} <= set(named["eye_left"])


def test_blend_opens_with_its_keys_in_canonical_order(bpy):
    bpy.ops.wm.open_mainfile(filepath=str(RIGS / "demo_head.blend"))
    keys = bpy.data.objects["head"].data.shape_keys.key_blocks
    assert [k.name for k in keys] == ["Basis", *NAMES]
    for name in ("teeth_lower", "tongue", "brows", "lashes", "eye_left", "eye_right", "hair"):
        assert name in bpy.data.objects
    assert {bone.name for bone in bpy.data.objects["demo_head"].data.bones} == {"spine", "neck", "head"}


def test_hair_lies_on_the_head_and_the_view_shows_the_face_in_its_colours(bpy):
    bpy.ops.wm.open_mainfile(filepath=str(RIGS / "demo_head.blend"))
    hair = bpy.data.objects["hair"]
    height = np.array([(hair.matrix_world @ vertex.co).z for vertex in hair.data.vertices])
    eyes = bpy.data.objects["eye_left"].matrix_world.translation.z
    assert height.min() > eyes - 0.12  # above the collar
    views = [a.spaces.active for s in bpy.data.screens for a in s.areas if a.type == "VIEW_3D"]
    assert views and all(view.shading.color_type == "VERTEX" for view in views)
    assert "paint.sl" in {view.shading.studio_light for view in views}
    assert (
        bpy.data.materials["cornea"].diffuse_color[3] < 0.1
        and not bpy.data.objects["cornea_left"].data.color_attributes
    )


@pytest.mark.soak
def test_head_is_built_anew_by_its_script(tmp_path):
    pytest.importorskip("bpy")
    script = RIGS / "build_demo_head.py"
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built, kept = tmp_path / "demo_head.glb", RIGS / "demo_head.glb"
    assert abs(built.stat().st_size - kept.stat().st_size) < 0.02 * kept.stat().st_size


def both(name, value=1.0):
    return {name + "Left": value, name + "Right": value}


POSES = {
    "rest": {},
    "turned left": {"yaw": 30.0},
    "turned right": {"yaw": -30.0},
    "jaw open": {"jawOpen": 1.0},
    "smile": both("mouthSmile"),
    "blink": both("eyeBlink"),
    "brows down": both("browDown"),
    "brows up": {"browInnerUp": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "gaze left": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The head in several poses, rendered: name -> uint8 [192, 192, 3]."""
    bpy = pytest.importorskip("bpy")
    pytest.importorskip("cv2")
    import demo_studio

    bpy.ops.wm.open_mainfile(filepath=str(RIGS / "demo_head.blend"))
    demo_studio.furnish(192, 2)
    stage = demo_studio.Stage(tmp_path_factory.mktemp("photographs"))
    taken = {}
    for name, pose in POSES.items():
        coefficients = {n: v for n, v in pose.items() if n != "yaw"}
        demo_studio.pose(coefficients, yaw=pose.get("yaw", 0.0))
        taken[name] = stage.shoot()
    return taken


@pytest.mark.soak
def test_mediapipe_finds_the_rendered_face_in_every_pose(photographs):
    mediapipe = pytest.importorskip("mediapipe")
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        lost = [name for name, picture in photographs.items() if not mesh.process(picture).multi_face_landmarks]
    assert not lost


@pytest.mark.slow
def test_an_independent_judge_reads_the_shapes_as_what_they_are(photographs, shared):
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(shared / "data" / "models" / "face_landmarker.task")),
        output_face_blendshapes=True,
    )
    read = {}
    with vision.FaceLandmarker.create_from_options(options) as judge:
        for name, picture in photographs.items():
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            read[name] = {c.category_name: c.score for c in judge.detect(image).face_blendshapes[0]}
    for pose, coefficient, least in (
        ("jaw open", "jawOpen", 0.4),
        ("smile", "mouthSmileLeft", 0.6),
        ("smile", "mouthSmileRight", 0.6),
        ("blink", "eyeBlinkLeft", 0.4),
        ("blink", "eyeBlinkRight", 0.4),
        ("brows down", "browDownLeft", 0.2),
        ("brows up", "browInnerUp", 0.5),
        ("pucker", "mouthPucker", 0.5),
        ("gaze left", "eyeLookOutLeft", 0.4),
    ):
        change = read[pose][coefficient] - read["rest"][coefficient]
        assert change > least, f"{pose}: {coefficient} rises by {change:.2f}"
    for name in ("jawOpen", "mouthSmileLeft", "browDownLeft", "browInnerUp", "mouthFrownLeft", "eyeBlinkLeft"):
        assert read["rest"][name] < 0.25, f"at rest {name} reads {read['rest'][name]:.2f}"


def test_sample_is_what_it_should_be():
    pytest.importorskip("av")
    from cmet_engine.media.probe import probe

    info = probe(SAMPLE)
    assert (info.width, info.height) == (512, 512)
    assert info.fps == 25
    assert 4 <= info.duration <= 8
    assert info.has_audio


def test_face_is_found_in_every_frame_of_the_sample_and_its_lips_move_with_the_sound():
    mediapipe = pytest.importorskip("mediapipe")
    from cmet_engine.media import audio
    from cmet_engine.media.reader import VideoReader

    openings = []
    with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True, max_num_faces=1) as mesh:
        for frame in itertools.islice(VideoReader(SAMPLE), 0, None, 2):
            found = mesh.process(frame.image).multi_face_landmarks
            assert found, f"no face in frame {frame.index}"
            points = found[0].landmark
            openings.append((points[14].y - points[13].y) / (points[152].y - points[10].y))
    assert max(openings) > 0.04  # it talks
    assert min(map(abs, openings)) < 0.01  # and its lips meet
    sound, step = audio.load(SAMPLE, 16000), 2 * 16000 // 25
    loud = np.array([np.sqrt((sound[i * step : (i + 1) * step] ** 2).mean()) for i in range(len(openings))])
    smooth = np.hanning(5) / np.hanning(5).sum()
    loud, opening = np.convolve(loud, smooth, "same"), np.convolve(openings, smooth, "same")
    assert np.corrcoef(loud, opening)[0, 1] > 0.4
