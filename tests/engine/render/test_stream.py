"""A clip streamed through any renderer: order, observers, and an interruption that leaves no trace."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from soak_cases import soak

from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.segments import SEGMENT
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.base import Renderer
from cmet_engine.render.matte import _filled
from cmet_engine.render.metadata import edit_description, video_metadata
from cmet_engine.render.stream import KeptFrames, VideoOutput, render_video
from cmet_engine.resume import Segments
from cmet_engine.timeline import EmotionTimeline

FRAMES, SIZE = SEGMENT + 10, 64


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, SIZE, SIZE, Fraction(25)) as writer:
        for index in range(FRAMES):
            writer.write(np.full((SIZE, SIZE, 3), 40 + index, np.uint8))
    return path


class Brighter(Renderer):
    """Makes every frame brighter by an amount, and remembers the odd ones."""

    name = "brighter"

    def __init__(self, amount: int = 60, batch_size: int = 1, workers: int = 1) -> None:
        self.amount, self.batch_size, self.workers = amount, batch_size, workers
        self.odd: set[int] = set()
        self.geometry = FaceGeometry(
            np.zeros((FRAMES, 478, 3), np.float32), np.ones(FRAMES, bool), (SIZE, SIZE), Fraction(25),
            np.arange(FRAMES) / 25, np.zeros((FRAMES, 3), np.float32), np.zeros((FRAMES, 4), np.float32),
        )  # fmt: skip

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        if index % 2:
            self.odd.add(index)
        return image + np.uint8(self.amount)

    @property
    def messages(self) -> list[str]:
        return [f"{len(self.odd)} odd frames"]

    @property
    def state(self) -> Iterator[object]:
        yield self.amount

    def notes(self) -> dict[str, np.ndarray]:
        return {"odd": np.array(sorted(self.odd), np.int64)}

    def recall(self, notes: Mapping[str, np.ndarray], frames: int) -> None:
        self.odd.update(notes["odd"][notes["odd"] < frames].tolist())


def levels(path: Path) -> np.ndarray:
    return np.array([frame.image.mean() for frame in VideoReader(path)])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 3), *soak((4, 1), (1, 3))])
def test_batches_and_threads_keep_the_order(clip, tmp_path, batch_size, workers):
    kept, done = KeptFrames(frozenset({2, FRAMES - 1}), 32), []
    messages = render_video(
        clip, Brighter(batch_size=batch_size, workers=workers), VideoOutput(tmp_path / "out.mp4"),
        observers={"kept": kept}, progress=lambda stage, count, total: done.append((count, total)),
    )  # fmt: skip
    assert done == [(index + 1, FRAMES) for index in range(FRAMES)]
    np.testing.assert_allclose(levels(tmp_path / "out.mp4"), levels(clip) + 60, atol=3)
    assert kept.index == [2, FRAMES - 1] and kept.after[0].shape == (32, 32, 3)
    assert kept.after[1].mean() - kept.before[1].mean() == pytest.approx(60, abs=1)
    assert messages[0] == f"{FRAMES // 2} odd frames"


class Killed(BaseException):
    """Stands for kill -9."""


def test_an_interrupted_rendering_equals_an_uninterrupted_one(clip, tmp_path):
    def stop(stage: str, done: int, total: int | None) -> None:
        if done == FRAMES - 2:
            raise Killed

    def rendered(name: str, pieces: Path, **options) -> tuple[KeptFrames, list[str]]:
        kept = KeptFrames(frozenset({2, FRAMES - 1}), 32)
        output = VideoOutput(tmp_path / name)
        output.path.parent.mkdir(exist_ok=True)
        return kept, render_video(
            clip, Brighter(), output, observers={"kept": kept}, pieces=Segments(tmp_path / pieces), **options
        )

    whole = rendered("a/out.mp4", Path("calm"))
    with pytest.raises(Killed):
        rendered("b/out.mp4", Path("rough"), progress=stop)
    done: list[int] = []
    again = rendered("b/out.mp4", Path("rough"), progress=lambda stage, count, total: done.append(count))
    assert done[0] == SEGMENT + 1
    assert (tmp_path / "a" / "out.mp4").read_bytes() == (tmp_path / "b" / "out.mp4").read_bytes()
    assert again[0].index == whole[0].index and again[1] == whole[1]
    for one, other in zip(whole[0].after, again[0].after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "matte"), [("out.mkv", "matte.mkv"), *soak(("shot/%04d.png", "matte/%04d.png"))])
def test_an_interrupted_matte_equals_an_uninterrupted_one(clip, tmp_path, name, matte):
    def stop(stage: str, done: int, total: int | None) -> None:
        if done == FRAMES - 2:
            raise Killed

    def rendered(folder: str, **options) -> dict[str, bytes]:
        output = VideoOutput(tmp_path / folder / name, matte=tmp_path / folder / matte)
        output.path.parent.parent.mkdir(exist_ok=True)
        output.path.parent.mkdir(exist_ok=True)
        render_video(clip, Brighter(), output, pieces=Segments(tmp_path / f"{folder} pieces"), **options)
        found = (path for path in (tmp_path / folder).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / folder).as_posix(): path.read_bytes() for path in found}

    whole = rendered("a")
    with pytest.raises(Killed):
        rendered("b", progress=stop)
    # as if the first segment of the matte had been lost: both go on where the shorter one ends
    lost = sorted((tmp_path / "b pieces" / "render" / "matte").iterdir())
    lost[0].unlink()
    done: list[int] = []
    assert rendered("b", progress=lambda stage, count, total: done.append(count)) == whole
    assert done[0] == 1 and len(whole) == (2 if name == "out.mkv" else 2 * FRAMES)
    assert {
        frame.image.min()
        for frame in VideoReader((tmp_path / "a" / matte).parent if "%" in matte else tmp_path / "a" / matte)
    } == {255}


def test_the_matte_has_no_holes_and_no_gaps():
    changed = np.zeros((400, 400), bool)
    changed[100:200, 100:200] = (
        np.random.default_rng(0).random((100, 100)) < 0.5
    )  # pixels that happen to stay as they were
    changed[100:200, [100, 199]] = changed[[100, 199], 100:200] = True
    changed[300, 300] = True
    matte = _filled(changed)
    assert (matte[changed] == 255).all() and (matte[100:200, 100:200] == 255).all()
    assert (matte == 255).sum() < 1.1 * 100 * 100


def test_the_video_says_that_it_was_edited_and_how():
    description = edit_description(EmotionTimeline.parse(["happy=0.8@1-", "sad"]), "add")
    assert description == "happy 0.8 from 1 s to end, sad 1 (add)"
    tags = video_metadata("warp", description)
    assert description in tags["comment"] and "does not show what was filmed" in tags["comment"]
