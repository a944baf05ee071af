"""Measures the refined renderer against the draft, on the held-out end of each clip. `cmet eval renderer`.

Neither the reference frames nor the fit use the last part of a clip. In it, frames are rendered from other frames of it (5 to 50
away) with the geometry of a frame that is there, and compared with that frame. Then frames are edited by every emotion: does the
picture flicker more than the source, is the edit in it, is it as sharp. Every figure is defined in `quality.metrics`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.emotion.clip_emotions import basic_emotion_deltas
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.occlusion import find_occlusion
from cmet_engine.media.reader import VideoReader
from cmet_engine.progress import Progress
from cmet_engine.quality import metrics
from cmet_engine.quality.alignment import neighbours
from cmet_engine.quality.regions import face_regions
from cmet_engine.render.refine import fitting, reference_frames
from cmet_engine.render.refine.renderer import RefinedRenderer, refine
from cmet_engine.render.refine.sources import Reference, Slot
from cmet_engine.render.warp import WarpRenderer, warp
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack
from cmet_engine.training.face_estimator import FaceEstimator

HELD_OUT = 0.3
"""Share of a clip, at its end, that neither reference frames nor fit use."""

LEAST_FRAMES = 20
"""Frames with the face below which a clip is not measured."""

GAPS = (5, 50)
"""Frames between the two of a pair, least and most."""

REGIONS = ("mouth", "eyes", "face")
Pair = tuple[float | None, float | None]
"""Of the draft, and of the refined picture."""


@dataclass(frozen=True)
class RendererFigures:
    """One clip. Every value is a pair: of the draft, and of the refined picture; see `quality.metrics`.

    Attributes:
        clip: its name.
        psnr, ssim: of `mouth`, `eyes` and `face`: dB over all pairs together, and mean structural similarity.
        pairs: how many pairs of frames.
        flicker: `metrics.flicker`, by emotion.
        realised: share of `metrics.realised`, by emotion; None where nothing could be read.
        sharpness: `metrics.detail_kept` inside the face, by emotion.
        speed: frames rendered a second.
        fit_seconds: what the fit took.
    """

    clip: str
    psnr: dict[str, Pair]
    ssim: dict[str, Pair]
    pairs: int
    flicker: dict[str, Pair]
    realised: dict[str, Pair]
    sharpness: dict[str, Pair]
    speed: tuple[float, float]
    fit_seconds: float

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def best_slots(
    crops: reference_frames.ReferenceFrames, here: reference_frames.Appearance, wanted: reference_frames.Appearance
) -> list[Slot]:
    """The reference frames for a single face: the best match and the next for each part.

    Args:
        crops: the reference frames.
        here: appearance of the face that is rendered from.
        wanted: appearance of the face that is rendered.
    """
    slots: list[dict[str, Sequence[Reference]]] = [{}, {}]
    for part in ("mouth", "eyes"):
        order = np.argsort(reference_frames.matching_costs(wanted, wanted, crops.appearance, part)[0])
        for k, slot in enumerate(slots):
            entry = int(order[min(k, len(order) - 1)])
            trust = reference_frames.trust(wanted[0], here[0], crops.appearance[entry], part)
            slot[part] = [Reference(crops.images[entry], crops.landmarks[entry], 1.0, trust)]
    return slots  # type: ignore[return-value]


def reconstruct(
    geometry: FaceGeometry,
    images: dict[int, np.ndarray],
    pairs: Sequence[tuple[int, int]],
    crops: reference_frames.ReferenceFrames,
    network: Any,
    size: int,
) -> tuple[dict[str, Pair], dict[str, Pair]]:
    """PSNR and SSIM by region of frames rendered from others, of draft and refined.

    Args:
        geometry: of the clip.
        images: its frames by number.
        pairs: (from, to): which frame is rendered from, and the one whose geometry it is given and which it is compared with.
        crops: reference frames.
        network: of the refinement.
        size: side of the canonical face crop, pixels.
    """
    compared: dict[str, tuple[list[metrics.Pair], list[metrics.Pair]]] = {name: ([], []) for name in REGIONS}
    for i, j in pairs:
        own, target = (np.asarray(geometry.landmarks[k], np.float64) for k in (i, j))
        draft = warp(images[i], own, target - own)
        looks = [reference_frames.appearance_of(p[None], teeth=geometry.teeth[k]) for p, k in ((own, i), (target, j))]
        refined = refine(draft, own, target, best_slots(crops, *looks), network, size)
        for name, where in face_regions(target, draft.shape).items():
            for of_method, made in zip(compared[name], (draft, refined), strict=True):
                of_method.append((made, images[j], where))

    def mean_ssim(of_method: list[metrics.Pair]) -> float | None:
        known = [v for pair in of_method if (v := metrics.ssim(*pair)) is not None]
        return round(float(np.mean(known)), 4) if known else None

    def psnr(of_method: list[metrics.Pair]) -> float | None:
        value = metrics.psnr(of_method)
        return None if value is None else round(value, 4)

    return (
        {name: (psnr(draft), psnr(refined)) for name, (draft, refined) in compared.items()},
        {name: (mean_ssim(draft), mean_ssim(refined)) for name, (draft, refined) in compared.items()},
    )


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


@dataclass
class _Held:
    """The held-out frames of a clip.

    Attributes:
        geometry, source: the tracked clip.
        pairs: see `reconstruct`.
        spread: evenly spaced frames that are edited and read.
        middle: neighbouring frames that are compared in time.
        images: all of these by number.
        filmed: `middle` aligned, as `metrics.flicker` takes it.
        scores: [K, 52] read from `spread` before any edit.
        seconds: rendering time of draft and refined so far; `rendered` frames of each.
    """

    geometry: FaceGeometry
    source: CoefficientTrack
    pairs: list[tuple[int, int]]
    spread: np.ndarray
    middle: np.ndarray
    images: dict[int, np.ndarray]
    filmed: list[metrics.Pair]
    scores: np.ndarray
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    rendered: int = 0


def _hold_out(
    path: Path,
    geometry: FaceGeometry,
    source: CoefficientTrack,
    held: np.ndarray,
    frames: int,
    run: int,
    estimator: FaceEstimator,
) -> _Held:
    """Choose and read what is measured of the held-out frames."""
    pairs = choose_pairs(held, frames)
    spread = held[np.linspace(0, len(held) - 1, min(frames, len(held))).round().astype(int)]
    middle = held[len(held) // 2 - min(run, len(held)) // 2 :][:run]
    wanted = {int(i) for i in (*spread, *middle)} | {i for pair in pairs for i in pair}
    images = {frame.index: frame.image for frame in VideoReader(path) if frame.index in wanted}
    landmarks = [np.asarray(geometry.landmarks[int(i)], np.float64) for i in middle]
    filmed = list(neighbours([images[int(i)] for i in middle], landmarks))
    scores = estimator([images[int(i)] for i in spread])[1]
    return _Held(geometry, source, pairs, spread, middle, images, filmed, scores)


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
    """Measure one clip; None where fewer than `LEAST_FRAMES` frames show the face.

    Args:
        path: the clip.
        emotions: names from the library.
        quality: `standard` or `best`.
        fit: fit the network to the part that is not held out; else the generic weights are used as they are.
        landmarker: MediaPipe's `face_landmarker.task`; None measures with the embedded tracker and solver.
        device: where the network runs.
        frames: how many frames are rendered in each way.
        run: how many neighbouring frames are compared in time.
        progress: called with the fit's progress.
    """
    geometry, source = track_clip(path)
    usable = reference_frames.usable_frames(geometry)
    if len(usable) < LEAST_FRAMES:
        return None
    edge = round(len(usable) * (1 - HELD_OUT))
    started = time.perf_counter()
    refiner = fitting.prepare(
        path, geometry, partial(basic_emotion_deltas, source), quality,
        device=device, among=usable[:edge], steps=None if fit else 0, progress=progress,
    )  # fmt: skip
    fit_seconds = time.perf_counter() - started
    library, estimator = load_library(), FaceEstimator(landmarker)
    occlusion = find_occlusion(path, geometry)
    held = _hold_out(path, geometry, source, usable[edge:], frames, run, estimator)
    refined = refiner.references, refiner.network, refiner.size
    psnr, ssim = reconstruct(geometry, held.images, held.pairs, *refined)
    result = RendererFigures(path.stem, psnr, ssim, len(held.pairs), {}, {}, {}, (0.0, 0.0), round(fit_seconds, 1))
    for emotion in emotions:
        edited = edit_track(source, EmotionTimeline.parse([emotion]), library)
        renderers = (
            WarpRenderer(geometry, source, edited, occlusion=occlusion),
            RefinedRenderer(geometry, source, edited, refiner, occlusion),
        )
        figures = [_measure(held, edited, renderer, which, estimator) for which, renderer in enumerate(renderers)]
        held.rendered += len(held.spread) + len(held.middle)
        for name, values in zip(("flicker", "realised", "sharpness"), zip(*figures, strict=True), strict=True):
            getattr(result, name)[emotion] = tuple(None if v is None else round(v, 3) for v in values)
    speeds = [round(held.rendered / max(seconds, 1e-6), 1) for seconds in held.seconds]
    return replace(result, speed=(speeds[0], speeds[1]))


def _measure(
    held: _Held, edited: CoefficientTrack, renderer: WarpRenderer, which: int, estimator: FaceEstimator
) -> tuple[float | None, float | None, float | None]:
    """Flicker, realised share and sharpness of one renderer (`which`: 0 draft, 1 refined) and one edit."""
    geometry, images, spread, middle = held.geometry, held.images, held.spread, held.middle
    renderer.render(images[int(spread[0])], int(spread[0]))  # the first call prepares; it is not timed
    begun = time.perf_counter()
    made = [renderer.render(images[int(i)], int(i)) for i in spread]
    near = [renderer.render(images[int(i)], int(i)) for i in middle]
    held.seconds[which] += time.perf_counter() - begun
    flicker = metrics.flicker(held.filmed, neighbours(near, [renderer.target(int(i)) for i in middle]))
    detail = metrics.detail_kept(
        (images[int(i)], picture, face_regions(np.asarray(geometry.landmarks[int(i)]), picture.shape)["face"])
        for i, picture in zip(spread, made, strict=True)
    )
    asked = (edited.coefficients - held.source.coefficients)[spread]
    realised = metrics.realised(asked, estimator(made)[1] - held.scores)
    return flicker, None if realised is None else realised.share, detail


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


def _gain(values: dict[str, Pair], name: str) -> float:
    draft, refined = values.get(name, (None, None))
    return float("nan") if draft is None or refined is None else refined - draft


def _row(row: Sequence[float]) -> str:
    text = "".join(f"{row[2 * k]:>+10.2f}{row[2 * k + 1]:>+8.3f}" for k in range(len(REGIONS)))
    flicker, was, now, sharp, speed, fit = row[2 * len(REGIONS) :]
    return text + f"{flicker:>9.2f}{was:>8.2f} >{now:>5.2f} {sharp:>7.2f}{speed:>6.1f}{fit:>7.1f}"
