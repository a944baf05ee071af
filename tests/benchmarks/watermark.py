"""How the watermark survives, what it costs, and how often it is seen where there is none.

python tests/benchmarks/watermark.py attacks CLIP... [--emotion happy] [--seconds 3] [--work DIR]
python tests/benchmarks/watermark.py cost CLIP...
python tests/benchmarks/watermark.py look CLIP... --work DIR
python tests/benchmarks/watermark.py unmarked CLIP... [--keys 4] [--longest 60]

`attacks` edits clips into lossless files, cuts them into windows of 3 s, and reads each after each attack. `cost` compares edits
with and without the mark: PSNR of luma where it acts, change from frame to frame against the clip's own, milliseconds. `look` writes
a marked frame beside what the mark changed, 20 times as strong. `unmarked`
reads windows of clips as they are, altered, and again under other keys for the statistics of the scores.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.stats import chi2

from cmet_engine.errors import CmetError
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import normalise
from cmet_engine.face.tracker import track
from cmet_engine.media.reader import VideoReader
from cmet_engine.pipeline import edit_clip
from cmet_engine.provenance import mark_reader
from cmet_engine.provenance.mark_code import CHIPS, encode
from cmet_engine.provenance.mark_surface import unrolled
from cmet_engine.provenance.watermark import band, mark
from cmet_engine.spec import EditSpec

SECONDS = 3

ATTACKS: dict[str, tuple[str, int]] = {
    "crf 23": ("", 23),
    "crf 28": ("", 28),
    "half, crf 23": ("half", 23),
    "crop 8 %, crf 23": ("crop", 23),
    "other rate, crf 23": ("rate", 23),
    "gamma 1.2, crf 23": ("gamma", 23),
    "screen: gamma, 3/4, 60 fps, crf 23": ("gamma three-quarters sixty", 23),
    "half, crf 28": ("half", 28),
    "crop, other rate, gamma, crf 28": ("crop rate gamma", 28),
}
"""Filters, and the constant rate factor of H.264 (x264, medium)."""

IDS = 1000
"""Ids that unmarked clips are asked for."""

WINDOW = 4
WAYS = ((1, 1, 0, 0), (0.5, 1, 2, 0), (0.75, 1.2, 1, 0), (0.9, 0.8, 3, 5))
"""How unmarked clips are read: share of their size, gamma, seconds at which windows begin, and of how many frames one is missing."""


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("attacks", "cost", "look", "unmarked"))
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--longest", type=float, default=60, help="unmarked: seconds of a clip that are read")
    parser.add_argument("--work", type=Path, help="where edits are kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.work = options.work or Path(folder)
        {"attacks": attacks, "cost": cost, "look": look, "unmarked": unmarked}[options.what](options, Path(folder))


def edited(clip: Path, options: argparse.Namespace, watermark: bool = True) -> tuple[Path, int | None]:
    """A clip edited into a lossless file, and the id in it."""
    spec = EditSpec(
        clip=clip, emotions=(options.emotion,), quality="draft", range_to=f"{options.seconds:g}", format="mkv",
        codec="ffv1", watermark=watermark,
    )  # fmt: skip
    folder = options.work / f"{clip.stem}_{options.emotion}{'' if watermark else '_plain'}"
    if not (folder / "edited.mkv").exists():
        edit_clip(spec, folder)
    mark = json.loads((folder / "report.json").read_text())["provenance"]["watermark"]
    return folder / "edited.mkv", None if mark.startswith("none") else int(mark, 16)


def windows(path: Path) -> Iterator[list[av.VideoFrame]]:
    """The frames of every whole window of a file."""
    with av.open(str(path)) as file:
        rate = file.streams.video[0].average_rate or Fraction(25)
        size = round(SECONDS * rate)
        frames: list[av.VideoFrame] = []
        for frame in file.decode(video=0):
            frames.append(frame)
            if len(frames) == size:
                yield frames
                frames = []


def attacked(frames: list[av.VideoFrame], rate: Fraction, filters: str, factor: int, path: Path) -> Path:
    """Frames filtered and encoded into a file."""
    width, height = frames[0].width, frames[0].height
    source_rate, graph = rate, av.filter.Graph()
    last = graph.add_buffer(width=width, height=height, format=frames[0].format, time_base=1 / rate)
    for name in filters.split():
        if name == "crop":
            width, height = (round(v * 0.92) // 2 * 2 for v in (width, height))
            step = graph.add("crop", f"{width}:{height}:exact=1")
        elif name in ("half", "three-quarters"):
            share = 0.5 if name == "half" else 0.75
            width, height = (round(v * share) // 2 * 2 for v in (width, height))
            step = graph.add("scale", f"{width}:{height}:flags=bicubic")
        elif name == "gamma":
            step = graph.add("lutyuv", "y=gammaval(1.2)")
        else:
            rate = Fraction(60) if name == "sixty" else Fraction(30 if rate < 28 else 25)
            step = graph.add("fps", f"fps={rate}")
        last.link_to(step)
        last = step
    end = graph.add("buffersink")
    last.link_to(end)
    graph.configure()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": str(factor), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        number = 0
        for index, frame in enumerate([*frames, None]):
            if frame is not None:
                frame.pts, frame.time_base = index, 1 / source_rate
            graph.push(frame)
            while True:
                try:
                    out = graph.pull()
                except (BlockingIOError, EOFError):
                    break
                out.pts, out.time_base, number = number, 1 / rate, number + 1
                out.pict_type = 0
                file.mux(stream.encode(out))
        file.mux(stream.encode())
    return path


def attacks(options: argparse.Namespace, folder: Path) -> None:
    """A line for every window and attack, and a table."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ledger = [int(number) for number in np.random.default_rng(0).integers(0, 2**63, 100)]
    for clip in options.clips:
        path, number = edited(clip, options)
        rate = VideoReader(path).info.fps
        for place, frames in enumerate(windows(path)):
            for name, (filters, factor) in ATTACKS.items():
                file = attacked(frames, rate, filters, factor, folder / "attacked.mp4")
                found, asked = looked_for(file, (ledger, [*ledger, number]))
                said = None if found is None else found.number
                known = asked is not None and asked.number == number
                these = (1, found is not None, said == number, said not in (None, number), known)
                counts[name] = [a + b for a, b in zip(counts[name], these, strict=True)]
                scores[name].append((asked.score, asked.match) if asked else (0, 0))
                print(
                    f"{clip.stem} {place}: {name}: found {found is not None}, read {said == number}, known {known}, "
                    f"{scores[name][-1][0]:.1f} {scores[name][-1][1]:.1f}",
                    flush=True,
                )
    print(f"{'attack':36} windows  found  id read  wrong id  among known ids  scores: median, lowest")
    for name, (all_of, *rest) in counts.items():
        middle, low = np.median(scores[name], 0), np.min(scores[name], 0)
        print(
            f"{name:36} {all_of:7}  {rest[0]:5}  {rest[1]:7}  {rest[2]:8}  {rest[3]:15}  {middle.round(1)}, {low.round(1)}"
        )


def looked_for(file: Path, ledgers: Sequence[list[int | None]]) -> list[mark_reader.Found | None]:
    """What is found in a file with each list of known ids."""
    try:
        geometry = track(file)
    except CmetError:
        return [None] * len(ledgers)
    readings = [mark_reader.evidence(*window) for window in mark_reader.windows(file, geometry)]
    return [mark_reader.find_in(readings, [n for n in known if n is not None]) for known in ledgers]


def cost(options: argparse.Namespace, folder: Path) -> None:
    """PSNR, flicker and time, a line for every clip."""
    for clip in options.clips:
        marked, plain = (edited(clip, options, watermark)[0] for watermark in (True, False))
        errors, pixels, moves = 0.0, 0, np.zeros(2)
        before = None
        with av.open(str(marked)) as one, av.open(str(plain)) as other:
            for a, b in zip(one.decode(video=0), other.decode(video=0), strict=True):
                luma = [f.to_ndarray()[: f.height].astype(np.float32) for f in (a, b)]
                difference = luma[0] - luma[1]
                acts = cv2.morphologyEx((difference != 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9))) > 0
                errors, pixels = errors + float((difference[acts] ** 2).sum()), pixels + int(acts.sum())
                if before is not None and acts.any():
                    moves += [np.abs(v - w)[acts].mean() for v, w in zip(luma, before, strict=True)]
                before = luma
        psnr = 10 * np.log10(255**2 * pixels / max(errors, 1e-9))
        print(
            f"{clip.stem}: PSNR {psnr:.1f} dB where it acts; change from frame to frame {moves[0] / moves[1]:.3f} times "
            f"that without; {milliseconds(clip):.1f} ms a frame of processor time",
            flush=True,
        )


def look(options: argparse.Namespace, folder: Path) -> None:
    """A marked frame of every clip, and the change by the mark: 20 times as strong, around grey."""
    for clip in options.clips:
        one, other = (
            list(itertools.islice(VideoReader(edited(clip, options, watermark)[0]).frames(), 20))[-1].image
            for watermark in (True, False)
        )
        change = np.clip(128 + 20.0 * (one.astype(int) - other), 0, 255).astype(np.uint8)
        cv2.imwrite(str(options.work / f"{clip.stem}_look.png"), np.concatenate([one, change], 1)[..., ::-1])


def milliseconds(clip: Path) -> float:
    """Processor time of marking one frame's face, all of which was edited."""
    frame = next(iter(VideoReader(clip).frames()))
    pose = normalise(track(clip).landmarks[0][None])[1]
    x, y, reach = pose.offset[0, 0], -pose.offset[0, 1], pose.scale[0]
    left, top = max(int(x - reach), 0), max(int(y - reach), 0)
    part = frame.image[top : int(y + reach), left : int(x + reach), 1].astype(np.float32)
    started = time.process_time()
    for _ in range(10):
        mark(1, 0.0, pose, part, np.ones(part.shape, bool), (left, top))
    return (time.process_time() - started) * 100


def unmarked(options: argparse.Namespace, folder: Path) -> None:
    """How often a mark is seen that is not there; a reading is all that is done to a window under one key."""
    random, scores, matches, begun = np.random.default_rng(0), [], [], 0
    ids = np.stack([encode(int(number)) for number in random.integers(0, 2**63, IDS)])
    for clip in options.clips:
        try:
            geometry, _ = track_clip(clip)
        except CmetError as error:
            print(f"{clip.stem}: {error}", flush=True)
            continue
        for window in altered(clip, geometry, options.longest):
            begun += 1
            for score, match in under_keys(mark_reader.evidence(*window), options.keys, random, ids):
                scores.append(score)
                matches.append(match)
        print(f"{clip.stem}: {statistics(np.array(scores), np.array(matches), begun)}", flush=True)


def altered(clip: Path, geometry: FaceGeometry, longest: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows of a clip in each of `WAYS`, with the face where it is in the clip as it is: see `mark_reader.evidence`."""
    known: list[tuple[list[np.ndarray], list[float]]] = [([], []) for _ in WAYS]
    for frame in VideoReader(clip).frames():
        if frame.time > longest or frame.index >= len(geometry):
            break
        if geometry.valid[frame.index]:
            luma = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
            for (share, gamma, begin, missing), (surfaces, times) in zip(WAYS, known, strict=True):
                if frame.time >= begin and not (missing and frame.index % missing == 0):
                    shown = cv2.resize(luma, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
                    shown = np.rint(255 * (shown / 255) ** gamma).astype(np.uint8)
                    pose = normalise(geometry.landmarks[frame.index][None] * share)[1]
                    surfaces.append(unrolled(shown, pose, 0))
                    times.append(float(frame.time) - begin)
    for surfaces, times in known:
        for _, group in itertools.groupby(range(len(times)), key=lambda index: times[index] // WINDOW):
            part = list(group)
            if times[part[-1]] - times[part[0]] > SECONDS / 2:
                yield np.stack([surfaces[index] for index in part]), np.array([times[index] for index in part])


def under_keys(
    turns: Sequence[mark_reader.Evidence], keys: int, random: np.random.Generator, ids: np.ndarray
) -> Iterator[tuple[float, float]]:
    """The best score of the pilot and of some ids under each key: another key is the picture moved and mirrored.

    Args:
        turns: the evidence of a window.
        keys: how many.
        random: of the keys.
        ids: float32 [I, CHIPS], the chips of ids.
    """
    chips = band()[1]
    size = np.sqrt((chips < CHIPS).sum())
    for key in range(keys):
        shift = tuple(random.integers(0, turns[0].sum.shape)) if key else (0, 0)
        flips = tuple(slice(None, None, int(step)) for step in random.choice((-1, 1), 2)) if key else ()
        heard = [
            mark_reader.pilot(
                mark_reader.Evidence(*(np.roll(part[flips], shift, (0, 1)) for part in (one.sum, one.noise)))
            )
            for one in turns
        ]
        soft = np.stack([np.bincount(chips, parts, CHIPS + 1)[:CHIPS] for _, parts in heard])
        yield max(score for score, _ in heard), float((soft @ ids.T).max() / size)


def statistics(scores: np.ndarray, matches: np.ndarray, begun: int) -> str:
    """What the best scores of readings say of false alarms.

    Noise is Rayleigh's at every displacement, so a score of t comes in N exp(-t² / 2) readings, with N independent displacements.
    """
    seen = int((scores >= mark_reader.SURE).sum())
    bound = chi2.ppf(0.95, 2 * (seen + 1)) / 2 / len(scores)  # of a count that is Poisson's
    tail = [
        f"N {(scores >= t).mean() * np.exp(t * t / 2):.1f} from {(scores >= t).sum()} of {t} on" for t in (3.5, 4, 4.5)
    ]
    return (
        f"{len(scores)} readings of {begun} windows so far, {seen} false alarms (below {bound:.1e} with 95 %). Scores: mean "
        f"{scores.mean():.2f}, largest {np.sort(scores)[-3:].round(2)}; {', '.join(tail)}: {np.exp(-(mark_reader.SURE**2) / 2):.1e} N from "
        f"{mark_reader.SURE} on. Best of {IDS} ids: mean {matches.mean():.2f}, largest {matches.max():.2f}"
    )


if __name__ == "__main__":
    main()
