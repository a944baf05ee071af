"""Measures the refined renderer against the draft, on the held-out end of each clip. `cmet eval renderer`.

The last part of a clip is kept from bank and fit. In it, frames are drawn from other frames of it (5 to 50 away) with the
geometry of a frame that is there, and compared with that frame. Then frames are edited by every emotion and looked at:
does the picture flicker more than the source, is the edit in it, is it as sharp.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.evaluation import edit
from cmet_engine.media.video import VideoReader
from cmet_engine.progress import Progress
from cmet_engine.render import mesh
from cmet_engine.render.refine import reference_frames, training_pairs
from cmet_engine.render.refine.canonical_crop import rasterise, to_square
from cmet_engine.render.refine.renderer import RefinedRenderer, refine
from cmet_engine.render.refine.sources import Borrowed, Slot, remap
from cmet_engine.render.warp import WarpRenderer, warp
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.training.face_estimator import FaceEstimator

HELD_OUT = 0.3
"""Share of a clip, at its end, that bank and fit never see."""

GAPS = (5, 50)
"""Frames between the two of a pair."""

REGIONS = ("mouth", "eyes", "face")
METHODS = ("draft", "refined")


@dataclass(frozen=True)
class RendererFigures:
    """One clip. Every value is a pair: of the draft, and of the refined picture.

    Attributes:
        clip: its name.
        psnr, ssim: of `mouth`, `eyes` and `face`: dB, and structural similarity of the brightness; means over the pairs.
        pairs: how many pairs of frames.
        flicker: motion-compensated difference between neighbouring edited frames over that of the source, by emotion.
        realised: measured over asked change, as in `EditFigures`, by emotion; None where nothing could be read.
        sharpness: fine detail inside the face over the source's, by emotion.
        speed: frames a second that were drawn.
        fit_seconds: what the fit took.
    """

    clip: str
    psnr: dict[str, tuple[float, float]]
    ssim: dict[str, tuple[float, float]]
    pairs: int
    flicker: dict[str, tuple[float, float]]
    realised: dict[str, tuple[float | None, float | None]]
    sharpness: dict[str, tuple[float, float]]
    speed: tuple[float, float]
    fit_seconds: float

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def regions_of(landmarks: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Where mouth, eyes and face are: bool [H, W] each."""
    size = float(np.ptp(landmarks[: mesh.SKIN, :2], axis=0).max())

    def hull(points: Sequence[int], grow: float) -> np.ndarray:
        outline = cv2.convexHull(landmarks[list(points), :2].astype(np.float32))[:, 0]
        away = outline - outline.mean(0)
        outline = outline + away * (grow * size / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6))
        drawn = np.zeros(shape[:2], np.uint8)
        cv2.fillConvexPoly(drawn, np.round(outline).astype(np.int32), (1,))
        return drawn.astype(bool)

    return {
        "mouth": hull(mesh.UPPER_LIP_OUTER + mesh.LOWER_LIP_OUTER, 0.03),
        "eyes": hull(mesh.RIGHT_EYE_UPPER + mesh.RIGHT_EYE_LOWER, 0.04)
        | hull(mesh.LEFT_EYE_UPPER + mesh.LEFT_EYE_LOWER, 0.04),
        "face": hull(mesh.OVAL, 0.0),
    }


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures over the places of a mask; at most 60."""
    error = float(((a[where].astype(np.float64) - b[where]) ** 2).mean())
    return min(60.0, float(10 * np.log10(255**2 / max(error, 1e-9))))


def ssim(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004, equation 13) of the brightness of two uint8 pictures over a mask."""
    x, y = (cv2.cvtColor(v, cv2.COLOR_RGB2GRAY).astype(np.float64) for v in (a, b))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity[where].mean())


def best_slots(
    crops: reference_frames.Crops, here: reference_frames.Looks, wanted: reference_frames.Looks
) -> list[Slot]:
    """What a single face, made from one that looks like `here`, borrows from a bank: the best entry and the next for each part."""
    slots: list[dict[str, Sequence[Borrowed]]] = [{}, {}]
    for part in ("mouth", "eyes"):
        order = np.argsort(reference_frames.costs(wanted, wanted, crops.looks, part)[0])
        for k, slot in enumerate(slots):
            entry = int(order[min(k, len(order) - 1)])
            trust = reference_frames.trust(wanted[0], here[0], crops.looks[entry], part)
            slot[part] = [Borrowed(crops.images[entry], crops.landmarks[entry], 1.0, trust)]
    return slots  # type: ignore[return-value]


def reconstruct(
    geometry: Any,
    images: dict[int, np.ndarray],
    pairs: Sequence[tuple[int, int]],
    crops: reference_frames.Crops,
    network: Any,
    size: int,
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """PSNR and SSIM by region of pairs (from, to), of draft and refined."""
    signal: dict[str, list[tuple[float, float]]] = {name: [] for name in REGIONS}
    structure: dict[str, list[tuple[float, float]]] = {name: [] for name in REGIONS}
    for i, j in pairs:
        own, target = (np.asarray(geometry.landmarks[k], np.float64) for k in (i, j))
        draft = warp(images[i], own, target - own)
        looks = [reference_frames.looks_of(p[None], teeth=geometry.teeth[k]) for p, k in ((own, i), (target, j))]
        made = (draft, refine(draft, own, target, best_slots(crops, *looks), network, size))
        for name, where in regions_of(target, draft.shape).items():
            if where.any():
                signal[name].append(tuple(psnr(m, images[j], where) for m in made))  # type: ignore[arg-type]
                structure[name].append(tuple(ssim(m, images[j], where) for m in made))  # type: ignore[arg-type]

    def means(values: dict[str, list[tuple[float, float]]]) -> dict[str, tuple[float, float]]:
        return {n: tuple(np.mean(v, axis=0).round(4).tolist()) for n, v in values.items() if v}  # type: ignore[misc]

    return means(signal), means(structure)


def choose_pairs(frames: np.ndarray, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Pairs (from, to) of the given frames, `GAPS` apart; the second ones evenly spread."""
    random = np.random.default_rng(seed)
    known = {int(f) for f in frames}
    result = []
    for j in frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]:
        near = [i for d in range(GAPS[0], GAPS[1] + 1) for i in (int(j) - d, int(j) + d) if i in known]
        if near:
            result.append((int(random.choice(near)), int(j)))
    return result


def motion_compensated(pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray]) -> float:
    """Mean difference inside the face between each picture and the one before it, brought to its geometry by the mesh."""
    total = []
    for before, after, old, new in zip(pictures, pictures[1:], landmarks, landmarks[1:], strict=False):
        size = 16 * max(4, round(float(np.ptp(new[: mesh.SKIN, :2], axis=0).max()) * 1.2 / 16))
        raster = rasterise(new, to_square(new, size), size)
        places = raster.inward() > 0.3
        a, b = (remap(v, raster.sources(p)).astype(np.float32) for v, p in ((before, old), (after, new)))
        total.append(float(np.abs(a - b)[places].mean()))
    return float(np.mean(total)) if total else 0.0


def fine_detail(image: np.ndarray, where: np.ndarray) -> float:
    """Mean size of the Laplacian of the brightness over a mask."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F))[where].mean())


def evaluate_clip(
    path: Path,
    emotions: Sequence[str],
    quality: str,
    *,
    fit: bool = True,
    landmarker: Path | None = None,
    device: str = "auto",
    frames: int = 16,
    run: int = 12,
    progress: Progress | None = None,
) -> RendererFigures | None:
    """Measure one clip; None where fewer than 20 frames show the face.

    Args:
        path: the clip.
        emotions: names from the library.
        quality: `standard` or `best`.
        fit: fit to the part that is not held out; else the generic start alone.
        landmarker: MediaPipe's `face_landmarker.task`; None reads with the embedded tracker and solver.
        device: where the network runs.
        frames: how many frames are drawn in each way.
        run: how many neighbouring frames are compared in time.
        progress: called with the fit's progress.
    """
    from cmet_engine.face.clip import track_clip
    from cmet_engine.render.refine import fitting

    geometry, source = track_clip(path)
    usable = training_pairs.usable_frames(geometry)
    if len(usable) < 20:
        return None
    edge = round(len(usable) * (1 - HELD_OUT))
    known, held = usable[:edge], usable[edge:]
    started = time.perf_counter()
    refiner = fitting.prepare(
        path, geometry, source, quality, device=device, among=known, steps=None if fit else 0, progress=progress
    )
    fit_seconds = time.perf_counter() - started
    pairs = choose_pairs(held, frames)
    spread = held[np.linspace(0, len(held) - 1, min(frames, len(held))).round().astype(int)]
    middle = held[len(held) // 2 - min(run, len(held)) // 2 :][:run]
    wanted = {int(i) for i in (*spread, *middle)} | {i for pair in pairs for i in pair}
    images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
    signal, structure = reconstruct(geometry, images, pairs, refiner.crops, refiner.network, refiner.size)
    library, reader = load_library(), FaceEstimator(landmarker)
    before = reader([images[int(i)] for i in spread])
    flicker, realised, sharpness = {}, {}, {}
    seconds, drawn = [0.0, 0.0], 0
    for emotion in emotions:
        edited = edit_track(source, EmotionTimeline.parse([emotion]), library)
        renderers: list[Any] = [
            WarpRenderer(geometry, source, edited),
            RefinedRenderer(geometry, source, edited, refiner.crops, refiner.network, refiner.size),
        ]
        moving, sharp, shares = [], [], []
        rest = [np.asarray(geometry.landmarks[int(i)], np.float64) for i in middle]
        still = motion_compensated([images[int(i)] for i in middle], rest)
        for which, renderer in enumerate(renderers):
            renderer.render(images[int(spread[0])], int(spread[0]))
            begun = time.perf_counter()
            made = [renderer.render(images[int(i)], int(i)) for i in spread]
            near = [renderer.render(images[int(i)], int(i)) for i in middle]
            seconds[which] += time.perf_counter() - begun
            moved = [renderer.target(int(i)) for i in middle]
            moving.append(motion_compensated(near, moved) / max(still, 1e-6))
            detail = [
                (fine_detail(m, where), fine_detail(images[int(i)], where))
                for m, i in zip(made, spread, strict=True)
                for where in (regions_of(np.asarray(geometry.landmarks[int(i)]), m.shape)["face"],)
            ]
            sharp.append(sum(a for a, _ in detail) / max(sum(b for _, b in detail), 1e-6))
            shares.append(edit.realised(source, edited, spread, before[1], reader(made)[1])[0])
        drawn += len(spread) + len(middle)
        flicker[emotion] = (round(moving[0], 3), round(moving[1], 3))
        sharpness[emotion] = (round(sharp[0], 3), round(sharp[1], 3))
        realised[emotion] = (shares[0], shares[1])
    speed = [drawn / max(s, 1e-6) for s in seconds]
    return RendererFigures(
        path.stem, signal, structure, len(pairs), flicker, realised, sharpness,
        (round(speed[0], 1), round(speed[1], 1)), round(fit_seconds, 1),
    )  # fmt: skip


def format_figures(figures: Sequence[RendererFigures]) -> str:
    """A table for people: gains over the draft clip by clip, their means, and what the edited frames look like."""
    head = f"{'clip':<28}" + "".join(f"{name + ' dB':>10}{'SSIM':>8}" for name in REGIONS)
    head += f"{'flicker':>9}{'realised':>16}{'sharp':>7}{'fps':>6}{'fit s':>7}"
    lines = [head]

    def mean(values: Sequence[float | None]) -> float:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else float("nan")

    rows = []
    for f in figures:
        gains = [g for name in REGIONS for g in (_gain(f.psnr, name), _gain(f.ssim, name))]
        row = [
            *gains,
            mean([v[1] for v in f.flicker.values()]),
            mean([v[0] for v in f.realised.values()]),
            mean([v[1] for v in f.realised.values()]),
            mean([v[1] for v in f.sharpness.values()]),
            f.speed[1],
            f.fit_seconds,
        ]
        rows.append(row)
        lines.append(f"{f.clip:<28}" + _row(row))
    if rows:
        lines.append(f"{'mean':<28}" + _row(np.nanmean(np.array(rows, float), axis=0).tolist()))
        lines.append(
            "Gains are refined over draft on held-out frames; realised is draft > refined; sharp and flicker are over the source."
        )
    return "\n".join(lines)


def _gain(values: dict[str, tuple[float, float]], name: str) -> float:
    return values[name][1] - values[name][0] if name in values else float("nan")


def _row(row: Sequence[float]) -> str:
    text = "".join(f"{row[2 * k]:>+10.2f}{row[2 * k + 1]:>+8.3f}" for k in range(len(REGIONS)))
    flicker, was, now, sharp, speed, fit = row[2 * len(REGIONS) :]
    return text + f"{flicker:>9.2f}{was:>8.2f} >{now:>5.2f} {sharp:>7.2f}{speed:>6.1f}{fit:>7.1f}"
