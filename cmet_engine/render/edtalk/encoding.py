"""Driving frames to EDTalk's codes: of every frame of a clip once, cached by the clip's content, and lip codes from a voice."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cmet_engine import cache, fingerprint
from cmet_engine.errors import InvalidInput
from cmet_engine.face.lips import eye_opening, lip_opening
from cmet_engine.face.tracker import FaceGeometry, track
from cmet_engine.media.audio import lip_mel
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.models import store
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.base import Renderer
from cmet_engine.render.edtalk.audio2lip import Audio2Lip, smooth
from cmet_engine.render.edtalk.crop import Crops, follow
from cmet_engine.render.edtalk.expression import EDIT_RATE, resampled
from cmet_engine.render.edtalk.networks import Codes, NetworkRunner, Networks

log = logging.getLogger(__name__)


@dataclass
class Shot:
    """What the frames between two cuts share.

    Attributes:
        first, last: the first frame, and the one after the last.
        source: uint8 [256, 256, 3], the crop whose appearance the rendered frames keep.
        align: float64 [2, 3], the similarity that moves rendered faces onto tracked ones; None to leave them.
    """

    first: int
    last: int
    source: np.ndarray
    align: np.ndarray | None = None


def encode_clip_cached(
    clip: str | Path | Source, geometry: FaceGeometry, crops: Crops, runner: NetworkRunner, progress: Progress | None
) -> tuple[Codes, list[Shot]]:
    """What `encode_clip` gives, cached by the clip's content."""

    def encode() -> dict[str, np.ndarray]:
        codes, shots = encode_clip(clip, geometry, crops, runner, progress)
        bounds = np.array([(shot.first, shot.last) for shot in shots], np.int64)
        return {**vars(codes), "bounds": bounds, "sources": np.array([shot.source for shot in shots])}

    name, footage, identity = None, Source.of(clip), runner.networks.identity
    if identity and footage.path.is_file():
        # landmarks read back from a file are exact; values computed from them are not
        landmarks = (part for _, part in geometry.chunks())
        where = fingerprint.data(landmarks, geometry.valid, geometry.fade, geometry.cuts, geometry.fps)
        about = (where, identity, runner.device, runner.batch, footage.reading)
        name = cache.key("edtalk_codes", footage.path, fingerprint.code(__name__), *about)
    found = cache.arrays(name, encode)
    codes = Codes(found["expression"], found["pose"], found["lip"])
    shots = [Shot(int(a), int(b), source) for (a, b), source in zip(found["bounds"], found["sources"], strict=True)]
    return codes, shots


def encode_clip(
    clip: str | Path | Source,
    geometry: FaceGeometry,
    crops: Crops,
    runner: NetworkRunner,
    progress: Progress | None = None,
) -> tuple[Codes, list[Shot]]:
    """Codes of every frame of a clip, and its shots that show the face. Each frame is encoded once.

    Frames without the face take codes between those of their neighbours; NaN in shots that never show it.
    """
    count = len(geometry.valid)
    codes = Codes(*(np.full((count, size), np.nan, np.float32) for size in (10, 6, 20)))
    sources = {best: bounds for bounds in geometry.shots() if (best := _source_frame(geometry, *bounds)) is not None}
    shots: list[Shot] = []
    waiting: list[tuple[int, np.ndarray]] = []

    def flush() -> None:
        if not waiting:
            return
        index = [i for i, _ in waiting]
        part = runner.encode([crop for _, crop in waiting])
        codes.expression[index], codes.pose[index], codes.lip[index] = part.expression, part.pose, part.lip
        waiting.clear()

    for frame in VideoReader(clip):
        if frame.index >= count:
            break
        if geometry.valid[frame.index]:
            crop = crops.cut(frame.image, frame.index)
            waiting.append((frame.index, crop))
            if frame.index in sources:
                shots.append(Shot(*sources[frame.index], crop))
            if len(waiting) >= runner.batch:
                flush()
        if progress:
            progress(Stage.ENCODE, frame.index + 1, count)
    flush()
    for shot in shots:
        for values in (codes.expression, codes.pose, codes.lip):
            _interpolate(values[shot.first : shot.last])
    return codes, shots


def drafted_changes(
    clip: str | Path | Source, geometry: FaceGeometry, crops: Crops, draft: Renderer, runner: NetworkRunner
) -> Codes:
    """How the codes of a clip's frames change from the frames to those that another renderer drafts; 0 where nothing does."""
    changes = Codes(*(np.zeros((len(geometry), size), np.float32) for size in (10, 6, 20)))
    waiting: list[tuple[int, np.ndarray, np.ndarray]] = []

    def flush() -> None:
        if not waiting:
            return
        index, sources, drafts = zip(*waiting, strict=True)
        own, drafted = runner.encode(sources), runner.encode(drafts)
        for change, before, after in zip(
            vars(changes).values(), vars(own).values(), vars(drafted).values(), strict=True
        ):
            change[list(index)] = after - before
        waiting.clear()

    for frame in VideoReader(clip):
        if frame.index >= len(geometry):
            break
        drafted = draft.render(frame.image, frame.index)
        if drafted is not frame.image:
            waiting.append((frame.index, crops.cut(frame.image, frame.index), crops.cut(drafted, frame.index)))
        if len(waiting) >= runner.batch:
            flush()
    flush()
    return changes


def extract_codes(
    clip: str | Path,
    *,
    geometry: FaceGeometry | None = None,
    networks: Networks | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Codes]:
    """EDTalk's codes of a clip at 25 frames a second, to train a connector on.

    Returns:
        One entry for every shot that shows the face, without its ends where the face is lost.

    Raises:
        CmetError: no frame shows the face, or weights are missing.
    """
    geometry = geometry or track(clip, progress=progress)
    runner = NetworkRunner(
        networks or Networks.load(voice=False), device, None, lambda sentence: log.warning("%s", sentence)
    )
    codes, shots = encode_clip(clip, geometry, follow(geometry), runner, progress)
    times = np.asarray(geometry.times, np.float64)
    extracted = []
    for shot in shots:
        seen = shot.first + np.flatnonzero(geometry.valid[shot.first : shot.last])
        part = slice(seen[0], seen[-1] + 1)
        grid = np.arange(np.ceil(times[seen[0]] * EDIT_RATE), times[seen[-1]] * EDIT_RATE + 1e-6) / EDIT_RATE
        columns = (resampled(v[part], times[part], grid) for v in (codes.expression, codes.pose, codes.lip))
        extracted.append(Codes(*columns))
    return extracted


def speech_lips(wave: np.ndarray, runner: NetworkRunner) -> np.ndarray:
    """Lip codes of a wave float [S] at 16 kHz, smoothed as published: float32 [F, 20], 25 a second.

    Raises:
        InvalidInput: the wave is shorter than a frame.
    """
    mel = torch.from_numpy(lip_mel(wave))
    if not len(mel):
        raise InvalidInput("The voice for the lips is shorter than a frame (40 ms); give a longer recording.")
    network = runner.networks.audio2lip
    if network is None:
        network = runner.networks.audio2lip = store.load("audio2lip", Audio2Lip).to(runner.device)
    assert network is not None
    with torch.inference_mode():
        lips = torch.cat([network(part.to(runner.device)) for part in mel.split(256)])
        return smooth(lips).cpu().numpy()


def lips_at(lips: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Lip codes [F, 20] of 25 a second at times [N] seconds: float32 [N, 20]; the last is held where the voice ends."""
    return resampled(lips, np.arange(len(lips)) / EDIT_RATE, times)


def _source_frame(geometry: FaceGeometry, first: int, last: int) -> int | None:
    """The frame of a shot whose appearance is kept: head turned little, eyes open, lips closed; None without a face."""
    usable = first + np.flatnonzero(geometry.valid[first:last] & (geometry.fade[first:last] > 0))
    if not len(usable):
        return None
    candidates = usable[np.unique(np.linspace(0, len(usable) - 1, 200).astype(int))]
    landmarks = np.stack([geometry.landmarks[int(i)] for i in candidates])
    turned = np.abs(geometry.head_rotation[candidates]).sum(axis=1)  # degrees
    lips, eyes = lip_opening(landmarks), eye_opening(landmarks).min(axis=1)
    # one outer-eye distance of open lips, or of eyes closed below their usual opening, weighs like 200 degrees
    cost = turned + 200 * np.maximum(lips, 0) + 200 * np.maximum(np.median(eyes) - eyes, 0)
    return int(candidates[np.argmin(np.nan_to_num(cost, nan=np.inf))])


def _interpolate(values: np.ndarray) -> None:
    """Fill rows of NaN by linear interpolation between their neighbours, in place."""
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if 0 < len(known) < len(values):
        frames = np.arange(len(values))
        values[:] = np.column_stack([np.interp(frames, known, column) for column in values[known].T])
