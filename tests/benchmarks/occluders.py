"""What an edit does where a hand or a thing passes before the face.

    python tests/benchmarks/occluders.py CLIP [CLIP …] [--kinds hand microphone cup writing] [--emotions happy angry] [--to 3]
        [--sheet FOLDER]

No clip with a hand before the mouth is at hand, so things are drawn over real clips: each comes from below, stays before the
mouth, goes on to an eye and away, with a soft edge and a shadow. A hand has the colour of the actor's own skin. The mattes are
exact, and none of this was trained on. Printed for each thing and emotion:

    moved   grey levels between source and result where the thing is opaque, after encoding; in brackets without an edit
    IoU     of what the engine marks within the face with the exact matte, at one half, over all frames that are edited
    mouth   when the exact matte covers the mouth, and what the engine says

`--sheet` writes pictures: source, edited, and what the engine marks (red) and leaves out (blue).
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face import occlusion
from cmet_engine.face.clip import track_clip
from cmet_engine.face.crop import crop_transform
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.landmarks import CHIN_TIP, FOREHEAD, INNER_LIPS, OUTER_EYE_CORNERS
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline

SIDE, FACE = 640, 320
"""Pixels of a drawing, in which the face is `FACE` high; what lies in its middle comes to lie before mouth and eye."""

WAY = (
    (0.0, 1.5, 0.3),
    (0.1, 1.5, 0.3),
    (0.25, 0.0, 0.0),
    (0.5, 0.03, 0.03),
    (0.65, -1.0, -1.0),
    (0.8, -1.0, -1.0),
    (0.95, 1.2, 1.8),
)
"""Share of the clip, and how far below and beside the mouth the middle is, in heights of the face; -1 is the left eye."""

SHADOW, OFFSET = 0.35, (0.02, 0.05)
SHOWN = (0.02, 0.3, 0.42, 0.6, 0.72)
"""Shares of the clip that a sheet shows."""

Drawing = tuple[np.ndarray, np.ndarray]
"""Colours float32 [SIDE, SIDE, 3] and alpha [SIDE, SIDE] in 0..1."""


def _capsule(mask: np.ndarray, start: tuple[float, float], end: tuple[float, float], width: float) -> None:
    points = [np.round(np.array(p) * FACE + SIDE / 2).astype(int).tolist() for p in (start, end)]
    cv2.line(mask, *points, 255, max(1, round(width * FACE)))


def _round(mask: np.ndarray, reach: float) -> np.ndarray:
    """Brightness of a round body: darker towards its edge, lit from above."""
    depth = np.clip(cv2.distanceTransform(mask, cv2.DIST_L2, 5) / (reach * FACE), 0, 1)
    lit = cv2.Sobel(cv2.GaussianBlur(depth, (0, 0), 3), cv2.CV_32F, 0, 1, ksize=5)
    return 0.72 + 0.28 * np.sqrt(depth) + np.clip(0.15 * lit, -0.12, 0.12)


def hand(skin: np.ndarray, random: np.random.Generator) -> Drawing:
    """Four fingers across the middle, thumb, back of the hand, and a forearm that goes down."""
    colours, whole = np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    parts = [((0.12, 0.3), (0.25, 1.2), 0.26), ((0.02, 0.2), (0.2, 0.3), 0.34)]
    parts += [((0.18, 0.05 + 0.1 * k), (-0.3 + 0.05 * abs(k - 1), -0.16 + 0.105 * k), 0.098) for k in range(4)]
    parts += [((0.1, 0.2), (0.16, -0.22), 0.1)]
    for start, end, width in parts:
        part = np.zeros_like(whole)
        _capsule(part, start, end, width)
        shade = _round(part, width / 2)
        colours[part > 0] = (shade[..., None] * skin * (0.9, 0.86, 0.86))[part > 0]
        whole |= part
        if width < 0.1:
            for share in (0.35, 0.65):  # knuckles
                x, y = np.array(start) + share * (np.array(end) - np.array(start))
                _crease(colours, (x, y), 0.6 * width, random)
    pores = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)), (0, 0), 1.2)
    return colours * (1 + 0.05 * pores[..., None]).astype(np.float32), _soft(whole)


def _crease(colours: np.ndarray, at: tuple[float, float], length: float, random: np.random.Generator) -> None:
    for _ in range(3):
        x = at[0] + random.normal(0, 0.008)
        points = [
            np.round(np.array((x, at[1] + s * length / 2)) * FACE + SIDE / 2).astype(int).tolist() for s in (-1, 1)
        ]
        line = np.zeros((SIDE, SIDE), np.uint8)
        cv2.line(line, *points, 255, 2, cv2.LINE_AA)
        colours *= 1 - 0.07 * (line / 255.0)[..., None].astype(np.float32)


def microphone(skin: np.ndarray, random: np.random.Generator) -> Drawing:
    """A ball of wire mesh on a dark handle."""
    colours = np.full((SIDE, SIDE, 3), 28, np.float32)
    whole = np.zeros((SIDE, SIDE), np.uint8)
    _capsule(whole, (0.0, 0.1), (0.1, 1.2), 0.13)
    colours *= _round(whole, 0.065)[..., None]
    ball = np.zeros_like(whole)
    _capsule(ball, (0, 0), (0.01, 0.01), 0.3)
    y, x = np.indices(ball.shape)
    mesh = 95 + 60 * ((x + y) % 7 < 3) - 40 * ((x - y) % 7 < 3)
    colours[ball > 0] = (mesh * _round(ball, 0.15))[..., None].repeat(3, 2)[ball > 0]
    return colours, _soft(whole | ball)


def cup(skin: np.ndarray, random: np.random.Generator) -> Drawing:
    """A patterned mug with its handle, held by two fingers."""
    colours, body = np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    low, high = (np.round(np.array(p) * FACE + SIDE / 2).astype(int) for p in ((-0.2, -0.08), (0.2, 0.42)))
    cv2.rectangle(body, low.tolist(), high.tolist(), 255, -1)
    handle = np.zeros_like(body)
    cv2.ellipse(handle, [int(high[0]), int((low[1] + high[1]) / 2)], (40, 50), 0, -90, 90, 255, 16)
    across = np.linspace(-1, 1, SIDE) * SIDE / (0.4 * FACE)
    shade = np.clip(1.05 - 0.35 * across**2 + 0.15 * across, 0.3, 1.2)[None, :, None]
    pattern = np.where((np.indices(body.shape)[0] // 26 % 2)[..., None] > 0, (205, 60, 50), (235, 230, 220))
    colours[:] = pattern * shade
    for k in range(2):
        finger = np.zeros_like(body)
        _capsule(finger, (0.32, 0.12 + 0.1 * k), (0.05, 0.1 + 0.1 * k), 0.09)
        colours[finger > 0] = (_round(finger, 0.045)[..., None] * skin)[finger > 0]
        handle |= finger
    return colours, _soft(body | handle)


def writing(skin: np.ndarray, random: np.random.Generator) -> Drawing:
    """Two lines of white letters on a dark strip, sharp as titles are."""
    colours = np.zeros((SIDE, SIDE, 3), np.float32)
    colours[:] = (18, 30, 90)
    strip = np.zeros((SIDE, SIDE), np.uint8)
    strip[SIDE // 2 - 44 : SIDE // 2 + 44] = 255
    for k, line in enumerate(("EVENING NEWS - LIVE", "our reporter on the scene tells")):
        cv2.putText(
            colours, line, (20, SIDE // 2 - 8 + 40 * k), cv2.FONT_HERSHEY_DUPLEX, 1.15, (245, 245, 245), 2, cv2.LINE_AA
        )
    return colours, strip / np.float32(255)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], Drawing]] = {
    "hand": hand, "microphone": microphone, "cup": cup, "writing": writing,
}  # fmt: skip


def _soft(mask: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32) / 255


def placed(drawing: Drawing, landmarks: np.ndarray, share: float, size: tuple[int, int]) -> Drawing:
    """A drawing in a frame with a face [478, 3], when `share` of the clip is over; `size` is width and height."""
    mouth = landmarks[list(INNER_LIPS[2]), :2].mean(0)
    eye = landmarks[[OUTER_EYE_CORNERS[1], 362], :2].mean(0)
    up = landmarks[FOREHEAD, :2] - landmarks[CHIN_TIP, :2]
    height = float(np.linalg.norm(up))
    across = np.array([-up[1], up[0]]) / height
    places = [eye if down == -1 else mouth - down * up + beside * height * across for _, down, beside in WAY]
    at = [np.interp(share, [row[0] for row in WAY], [p[k] for p in places]) for k in (0, 1)]
    turn = np.degrees(np.arctan2(up[0], -up[1])) + 6 * np.sin(9 * share)
    to = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), -turn, height / FACE)
    to[:, 2] += np.array(at) - SIDE / 2
    flags = cv2.INTER_AREA if height < FACE else cv2.INTER_LINEAR
    return tuple(cv2.warpAffine(layer, to, size, flags=flags) for layer in drawing)


def composited(clip: Source, geometry: FaceGeometry, kind: str, path: Path) -> np.ndarray:
    """Write the clip with a thing before the face: exact mattes uint8 [N, H, W]."""
    random = np.random.default_rng(0)
    mattes, drawing = np.zeros((len(geometry), geometry.size[1], geometry.size[0]), np.uint8), None
    with VideoWriter(path, *geometry.size, geometry.fps) as writer:
        for frame in VideoReader(clip):
            if drawing is None:
                x, y = np.round(geometry.landmarks[frame.index][[50, 280, 101, 330], :2]).astype(int).T
                drawing = KINDS[kind](np.median(frame.image[y, x].astype(np.float32), axis=0), random)
            colours, alpha = placed(
                drawing, geometry.landmarks[frame.index], frame.index / len(geometry), geometry.size
            )
            reach = float(np.ptp(geometry.landmarks[frame.index][:468, 1]))
            move = np.float32([[1, 0, OFFSET[0] * reach], [0, 1, OFFSET[1] * reach]])
            shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, move, geometry.size), (0, 0), 0.025 * reach)
            picture = frame.image * (1 - SHADOW * shadow * (kind != "writing"))[..., None]
            mixed = picture + (colours - picture) * alpha[..., None]
            writer.write(np.clip(np.round(mixed), 0, 255).astype(np.uint8))
            mattes[frame.index] = np.round(alpha * 255)
    return mattes


def cropped(mattes: np.ndarray, geometry: FaceGeometry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The exact matte of every frame on its canonical crop, and the face there: bool [128, 128] each."""
    side = occlusion.SIDE
    for matte, points in zip(mattes, geometry.landmarks, strict=True):
        small = cv2.warpAffine(matte, crop_transform(points, side), (side, side), flags=cv2.INTER_AREA)
        yield small > 127, occlusion._face(occlusion._in_crop(points)) > 0


def seen(found: occlusion.Occlusion, mattes: np.ndarray, geometry: FaceGeometry) -> tuple[float, str, str]:
    """IoU of all frames; when the exact matte covers the mouth; when the engine says so."""
    both = either = 0
    covered = np.zeros(len(geometry), bool)
    for k, (exact, face) in enumerate(cropped(mattes, geometry)):
        if geometry.fade[k] <= 0:
            continue
        matte = found.matte(k)
        marked = np.zeros_like(exact) if matte is None else matte > 0.5
        both += int((exact & marked & face).sum())
        either += int(((exact | marked) & face).sum())
        covered[k] = (
            occlusion._shares(exact.astype(np.float32), geometry.landmarks[k])[occlusion.MOUTH] >= occlusion.HIDDEN
        )
    said = found.covered[:, occlusion.MOUTH] >= occlusion.HIDDEN
    return both / max(either, 1), geometry.spans(covered), geometry.spans(said) or "never"


def moved(source: dict[int, np.ndarray], path: Path, mattes: np.ndarray) -> tuple[float, dict[int, np.ndarray]]:
    """Mean grey levels between a source and a video of it where the thing is opaque; and the video's frames."""
    made = {frame.index: frame.image for frame in VideoReader(path)}
    levels = []
    for k, picture in made.items():
        opaque = cv2.erode(mattes[k], np.ones((3, 3), np.uint8)) > 250
        gray = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(float) for p in (picture, source[k])]
        levels.append(np.abs(gray[0] - gray[1])[opaque])
    return float(np.concatenate(levels).mean()), made


def sheet(
    source: dict[int, np.ndarray], made: dict[int, np.ndarray], found: occlusion.Occlusion, geometry: FaceGeometry
) -> np.ndarray:
    """Rows of source, edited and marked pictures of some frames."""
    rows = []
    for k in (round(share * (len(geometry) - 1)) for share in SHOWN):
        points = geometry.landmarks[k][:468, :2]
        room = 0.25 * np.ptp(points[:, 1])
        left, top = np.maximum(points.min(0) - room, 0).astype(int)
        right, bottom = np.ceil(points.max(0) + room).astype(int)
        marked = source[k].astype(np.float32)
        if (matte := found.matte(k)) is not None:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            where = cv2.warpAffine(matte, crop_transform(geometry.landmarks[k], len(matte)), geometry.size, flags=flags)
            marked[..., 0] += (255 - marked[..., 0]) * 0.6 * where
        marked[..., 2] += 80 * max(found.lower[k], found.upper[k])
        tiles = [p[top:bottom, left:right] for p in (source[k], made[k], np.clip(marked, 0, 255).astype(np.uint8))]
        rows.append(np.hstack([cv2.resize(tile, (300, 360), interpolation=cv2.INTER_AREA) for tile in tiles]))
    return np.vstack(rows)


def measure(clip: Path, options: argparse.Namespace) -> None:
    """Print the figures of a clip."""
    footage = part_of(clip, None, options.to)
    bare, _ = track_clip(footage)
    library = load_library()
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path, edited_path = Path(folder) / f"{kind}.mp4", Path(folder) / "edited.mp4"
            mattes = composited(footage, bare, kind, path)
            source = {frame.index: frame.image for frame in VideoReader(path)}
            geometry, track = track_clip(path)
            found = occlusion.find_occlusion(path, geometry)
            iou, covered, said = seen(found, mattes, geometry)
            print(f"{clip.stem} {kind}: IoU {iou:.2f}, mouth covered {covered}; said: {said}", flush=True)
            for message in found.messages(geometry):
                print(f"    {message}")
            output = VideoOutput(edited_path, force=True)
            render_video(Source(path), WarpRenderer(geometry, track, track), output)
            codec = moved(source, edited_path, mattes)[0]
            for emotion in options.emotions:
                edited = edit_track(track, EmotionTimeline.parse([emotion]), library)
                render_video(Source(path), WarpRenderer(geometry, track, edited, occlusion=found), output)
                levels, made = moved(source, edited_path, mattes)
                print(f"    {emotion:<10} moved {levels:5.2f} ({codec:.2f})", flush=True)
                if options.sheet is not None:
                    options.sheet.mkdir(parents=True, exist_ok=True)
                    name = options.sheet / f"{clip.stem}_{kind}_{emotion}.png"
                    cv2.imwrite(str(name), sheet(source, made, found, geometry)[..., ::-1])


def main() -> None:
    """Measure every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--emotions", nargs="+", default=["happy", "angry"])
    parser.add_argument("--to", default="3", help="end of the part that is measured, seconds")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for clip in options.clips:
        measure(clip, options)


if __name__ == "__main__":
    main()
