"""The `edtalk` renderer: a clip's face taken to EDTalk's codes, its expression edited there, drawn anew and pasted back.

Two passes over the clip. The first (`EdtalkRenderer`'s constructor) cuts the head out of every frame and reads its codes,
each picture encoded once; the connector edits the expression on a grid of 25 frames a second, every frame of it, and the
change goes back to the clip's own frame times. The second is the caller's: `render(image, index)` for the frames of the
clip, in order or not; codes for the following frames are drawn in the same batch.

Pose is the clip's own, frame by frame. Lips come from the clip or from a voice. The looks come from one frame of each
shot, the most frontal and restful one, so nothing of the picture that EDTalk draws depends on a badly lit or turned frame.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cmet_engine import cache, fingerprint
from cmet_engine.emotion.connector import Connector, code_deltas
from cmet_engine.errors import CmetError
from cmet_engine.media.video import SEGMENT
from cmet_engine.models import registry, store
from cmet_engine.models.device import resolve
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.edtalk.audio2lip import Audio2Lip, smooth
from cmet_engine.render.edtalk.crop import SIZE, Crops, follow, squares
from cmet_engine.render.edtalk.generator import Generator, Source
from cmet_engine.render.edtalk.paste import alignment, border_mask, match_colour, outline_mask, paste, skin_mask
from cmet_engine.timeline import EmotionTimeline

if TYPE_CHECKING:
    from cmet_engine.face.tracker import FaceGeometry

log = logging.getLogger(__name__)

Enhancer = Callable[[np.ndarray], np.ndarray]

EDIT_RATE = 25  # frames a second on which the connector was trained
PRESET = "edtalk-"  # an emotion "edtalk-happy" is EDTalk's own preset of that name, where the user has it
BATCH = {"cpu": 4, "mps": 4, "cuda": 32}  # frames drawn at a time
CALIBRATION_FRAMES = 8  # frames of a shot that are drawn unedited to see where the drawn face lies


@dataclass
class Networks:
    """The published networks that the renderer works with.

    Attributes:
        generator: EDTalk.
        connector: C-MET's, 10 codes.
        audio2lip: lips from sound; None where lips come from the clip.
        identity: checksum of the generator's weights; None for weights from nowhere.
    """

    generator: Generator
    connector: Connector
    audio2lip: Audio2Lip | None = None
    identity: str | None = None

    @classmethod
    def load(cls, *, voice: bool) -> "Networks":
        """The published weights of this machine.

        Args:
            voice: lips are to be read from sound.

        Raises:
            CmetError: weights are missing or damaged; the sentence says what to do.
        """
        generator, connector = store.load("edtalk_generator", Generator), store.load("connector", Connector)
        audio2lip = store.load("audio2lip", Audio2Lip) if voice else None
        return cls(generator, connector, audio2lip, cache.content(registry.path_of("edtalk_generator")))

    def to(self, device: str) -> "Networks":
        """The same on another device."""
        with torch.inference_mode(False):  # weights moved within inference would not tell when they change
            for network in (self.generator, self.connector, self.audio2lip):
                if network is not None:
                    network.to(device)
        return self


@dataclass
class Codes:
    """What EDTalk needs to know of every frame.

    Attributes:
        expression: float32 [N, 10].
        pose: float32 [N, 6].
        lip: float32 [N, 20].
    """

    expression: np.ndarray
    pose: np.ndarray
    lip: np.ndarray


@dataclass
class _Shot:
    """What the frames between two cuts share: the crop uint8 [256, 256, 3] whose looks are kept, and where faces lie."""

    first: int
    last: int
    look: np.ndarray
    align: np.ndarray | None = None


class Drawer:
    """Runs the generator in batches on a device, in half precision on a GPU.

    When a GPU runs out of memory the batch is halved; when a single frame does not fit, the work goes on on the CPU. Both
    are said once.

    Args:
        networks: to draw with.
        device: see `models.device.resolve`.
        batch: frames at a time; None for the device's usual number.
        say: called with a sentence for the user.

    Raises:
        MissingWeights: the device is not there.
    """

    def __init__(self, networks: Networks, device: str, batch: int | None, say: Callable[[str], None]):
        device = resolve(device)
        self.networks, self.device, self.say = networks, device, say
        self.batch = batch or BATCH[torch.device(device).type]
        self._graph: _Graph | None = None
        self._said: set[str] = set()
        networks.to(device)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.say(sentence)

    @property
    def precision(self) -> torch.dtype:
        """What feature maps are computed in."""
        return torch.float16 if self.device.startswith("cuda") else torch.float32

    def read(self, images: Sequence[np.ndarray]) -> Codes:
        """Codes of crops uint8 [256, 256, 3]."""

        def work(part: slice) -> tuple[np.ndarray, ...]:
            pixels = _pixels(images[part], self.device).to(self.precision)
            return tuple(_numpy(value) for value in self.networks.generator.codes(pixels))

        expression, pose, lip = self._in_batches(len(images), work)
        return Codes(expression, pose, lip)

    def source(self, image: np.ndarray) -> Source:
        """Encode a crop uint8 [256, 256, 3] whose looks are kept."""

        def work(part: slice) -> tuple[Source]:
            del part
            return (self.networks.generator.source(_pixels([image], self.device)),)

        with torch.inference_mode():
            return self._guarded(work, slice(0, 1))[0].to(self.precision)

    def draw(self, source: Source, lip: np.ndarray, pose: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Frames uint8 [B, 256, 256, 3] from codes [B, …]."""

        def work(part: slice) -> tuple[np.ndarray]:
            codes = [torch.from_numpy(np.ascontiguousarray(c[part])).to(self.device) for c in (lip, pose, expression)]
            at = source if source.latent.device.type == torch.device(self.device).type else _moved(source, self.device)
            pictures = self._render(at, codes)
            levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            return (_numpy(levels.permute(0, 2, 3, 1)),)

        return self._in_batches(len(lip), work)[0]

    def _render(self, source: Source, codes: list[Tensor]) -> Tensor:
        if not self.device.startswith("cuda"):
            return self.networks.generator.render(source, *codes)
        if self._graph is None or not self._graph.fits(source, self.batch):
            self._graph = _Graph(self.networks.generator, source, self.batch)
        return self._graph(codes)

    def _in_batches(self, count: int, work: Callable[[slice], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        parts, start = [], 0
        with torch.inference_mode():
            while start < count:
                done = self._guarded(work, slice(start, min(start + self.batch, count)))
                parts.append(done)
                start += len(done[0])
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def _guarded(self, work: Callable[[slice], Any], part: slice) -> Any:
        """`work(part)`, of fewer frames or elsewhere if the memory does not do."""
        while True:
            try:
                return work(part)
            except torch.OutOfMemoryError as error:
                self._graph = None
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                if self.batch > 1:
                    self.batch //= 2
                    part = slice(part.start, min(part.stop, part.start + self.batch))
                    self._say_once("The memory does not hold the usual batch; fewer frames are drawn at a time.")
                elif self.device != "cpu":
                    self.device, self.batch = "cpu", BATCH["cpu"]
                    self.networks.to("cpu")
                    self._say_once(
                        "The GPU's memory does not hold one frame; the work goes on on the CPU, much slower."
                    )
                else:
                    raise CmetError(
                        "The memory of this machine does not hold one frame; close other programs."
                    ) from error


class _Graph:
    """The decoder captured as a CUDA graph: the hundreds of small launches of a batch become one."""

    def __init__(self, generator: Generator, source: Source, batch: int):
        self._source, self._batch = source, batch
        sizes = (generator.lip_dim, generator.pose_dim, generator.expression_dim)
        self._codes = [torch.zeros(batch, size, device=source.latent.device) for size in sizes]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is derived from the weights must exist before the capture
            for _ in range(3):
                generator.render(source, *self._codes)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._pictures = generator.render(source, *self._codes)

    def fits(self, source: Source, batch: int) -> bool:
        return self._source is source and self._batch == batch

    def __call__(self, codes: list[Tensor]) -> Tensor:
        count = len(codes[0])
        for kept, new in zip(self._codes, codes, strict=True):
            kept[:count].copy_(new)
        self._graph.replay()
        return self._pictures[:count].clone()


class EdtalkRenderer:
    """Draws the frames of a clip with another emotion.

    Args:
        clip: path of the footage (anything `VideoReader` takes).
        geometry: where the face is in each of its frames.
        timeline: which emotion, when, how strong (its strength included).
        vectors: for every name of the timeline an object with `.vector` [1024] in the emotion2vec+ space, or the vector
            itself. Names that begin with `edtalk-` are EDTalk's presets and need none.
        voice: a wave float [S] at 16 kHz that the lips shall speak; None keeps the lips of the clip.
        networks: to work with; None loads the published weights.
        device: see `models.device.resolve`.
        batch: frames drawn at a time; None for the device's usual number.
        enhancer: takes a drawn crop uint8 [256, 256, 3] to uint8 [512, 512, 3]; see `load_enhancer`.
        progress: called as ("encode", frames done, frames in all) while the clip is read.

    Attributes:
        times: float64 [N] seconds of the clip's frames.
        crops: the squares that are cut out and pasted back.
        codes: `Codes` of the clip as it is.
        expression: float32 [N, 10], the edited expression codes.
        drawer: runs the networks.
        messages: sentences for the user.

    Raises:
        CmetError: no frame shows the face, weights are missing, or an emotion is unknown.
    """

    def __init__(
        self,
        clip: str | Path,
        geometry: "FaceGeometry",
        timeline: EmotionTimeline,
        vectors: "dict[str, Any]",
        *,
        voice: np.ndarray | None = None,
        networks: Networks | None = None,
        device: str = "auto",
        batch: int | None = None,
        enhancer: Enhancer | None = None,
        progress: Progress | None = None,
    ):
        self.messages: list[str] = []
        self._geometry, self._enhancer = geometry, enhancer
        self.times = np.asarray(geometry.times, np.float64)
        wanted = _emotions(timeline, vectors)
        self.drawer = Drawer(networks or Networks.load(voice=voice is not None), device, batch, self._say)
        self.crops = follow(geometry)
        self.codes, self._shots = _read_once(clip, geometry, self.crops, self.drawer, progress)
        self._source: tuple[int, Source] | None = None  # of one shot at a time: its feature maps take 65 MB
        if voice is not None:
            self.codes.lip = lips_at(speech_lips(voice, self.drawer), geometry.times)
        self.expression = self._edited(timeline, wanted)
        self._calibrated: set[int] = set()
        self._drawn: dict[int, np.ndarray] = {}

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """Frame `index` with the edited expression.

        Args:
            image: uint8 [H, W, 3], the original frame.
            index: its number in the clip.

        Returns:
            uint8 [H, W, 3]; the very same array where there is no face to draw. Outside the face every pixel is the
            original's.
        """
        if not 0 <= index < len(self._geometry.valid) or float(self._geometry.fade[index]) <= 0:
            return image
        shot = self._shot(index)
        if shot is None:
            return image
        drawn = self._picture(shot, index)
        points = self.crops.points(self._geometry.landmarks[index], index)
        face = match_colour(drawn, self.crops.cut(image, index), skin_mask(points))
        mask = outline_mask(points) * np.float32(self._geometry.fade[index])
        return paste(image, self.enhanced(face), mask, self.crops, index, shot.align)

    @property
    def state(self) -> Iterator[Any]:
        """What the pictures depend on beside the clip, for a checksum."""
        yield from (self.expression, self.codes.pose, self.codes.lip)
        yield self.drawer.device, self.drawer.networks.identity, self._enhancer is not None

    def _say(self, sentence: str) -> None:
        if sentence not in self.messages:
            self.messages.append(sentence)
            log.warning("%s", sentence)

    def enhanced(self, face: np.ndarray) -> np.ndarray:
        """A drawn crop [256, 256, 3] in 0..255, larger and sharper where an enhancer is there."""
        if self._enhancer is None:
            return face
        return self._enhancer(np.clip(np.rint(face), 0, 255).astype(np.uint8))

    def _shot(self, index: int) -> _Shot | None:
        shot = next((s for s in self._shots if s.first <= index < s.last), None)
        if shot is not None and shot.first not in self._calibrated:
            self._calibrated.add(shot.first)
            shot.align = self._alignment(shot)
        return shot

    def _picture(self, shot: _Shot, index: int) -> np.ndarray:
        """The drawn crop of a frame; the following ones of the batch are drawn with it."""
        if index not in self._drawn:
            end = index - index % SEGMENT + SEGMENT  # batches keep to segments, so that resumed work has the same ones
            fade = self._geometry.fade[index : min(shot.last, end)]
            frames = index + np.flatnonzero(fade > 0)[: self.drawer.batch]
            pictures = self._draw(shot, frames, self.expression)
            self._drawn = dict(zip(frames.tolist(), pictures, strict=True))
        return self._drawn[index]

    def _draw(self, shot: _Shot, frames: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Crops uint8 [n, 256, 256, 3] of some frames of a shot."""
        if self._source is None or self._source[0] != shot.first:
            self._source = (shot.first, self.drawer.source(shot.look))
        return self.drawer.draw(self._source[1], self.codes.lip[frames], self.codes.pose[frames], expression[frames])

    def _alignment(self, shot: _Shot) -> np.ndarray | None:
        """How the drawn face lies beside the tracked one, from some frames of the shot drawn without an edit."""
        from cmet_engine.face.mesh import Box, Mesh

        frames = shot.first + np.flatnonzero(self._geometry.fade[shot.first : shot.last] > 0.99)
        frames = (
            frames[np.unique(np.linspace(0, len(frames) - 1, CALIBRATION_FRAMES).astype(int))]
            if len(frames)
            else frames
        )
        if not len(frames):
            return None
        pictures = self._draw(shot, frames, self.codes.expression)
        drawn, tracked = [], []
        mesh = Mesh()
        try:
            for index, picture in zip(frames.tolist(), pictures, strict=True):
                mesh.forget()
                found = mesh.find(picture, Box(SIZE / 2, SIZE / 2, SIZE / 2))
                if found is not None:
                    drawn.append(found[:, :2].astype(np.float64))
                    tracked.append(self.crops.points(self._geometry.landmarks[index], index))
        finally:
            mesh.close()
        return alignment(np.array(drawn), np.array(tracked))

    def _edited(self, timeline: EmotionTimeline, wanted: dict[str, np.ndarray]) -> np.ndarray:
        """The expression codes with the timeline's emotions added, frame by frame of the clip."""
        edited = self.codes.expression.copy()
        times = self.times
        duration = float(times[-1] + 1 / self._geometry.fps) if len(times) else 0.0
        weights = timeline.weights(times, duration)
        for shot in self._shots:
            part = slice(shot.first, shot.last)
            changes = expression_changes(
                self.drawer.networks.connector, wanted, self.codes.expression[part], times[part]
            )
            for name, change in changes.items():
                edited[part] += weights[name][part, None] * change
        return edited


def _read_once(
    clip: str | Path, geometry: "FaceGeometry", crops: Crops, drawer: Drawer, progress: Progress | None
) -> tuple[Codes, list[_Shot]]:
    """What `read_clip` gives, cached by the clip's content."""

    def read() -> dict[str, np.ndarray]:
        codes, shots = read_clip(clip, geometry, crops, drawer, progress)
        bounds = np.array([(shot.first, shot.last) for shot in shots], np.int64)
        return {**vars(codes), "bounds": bounds, "looks": np.array([shot.look for shot in shots])}

    name, path, identity = None, Path(clip), drawer.networks.identity
    if identity and path.is_file():
        # landmarks are exact where they were read back, unlike what is worked out from them
        landmarks = (part for _, part in geometry.chunks())
        where = fingerprint.data(landmarks, geometry.valid, geometry.fade, geometry.cuts, geometry.fps)
        name = cache.key("codes", path, fingerprint.code(__name__), where, identity, drawer.device, drawer.batch)
    found = cache.arrays(name, read)
    codes = Codes(found["expression"], found["pose"], found["lip"])
    shots = [_Shot(int(a), int(b), look) for (a, b), look in zip(found["bounds"], found["looks"], strict=True)]
    return codes, shots


def read_clip(
    clip: str | Path, geometry: "FaceGeometry", crops: Crops, drawer: Drawer, progress: Progress | None = None
) -> tuple[Codes, list[_Shot]]:
    """Codes of every frame of a clip, and its shots that show the face. Each picture is encoded once.

    Frames without the face take codes between those of their neighbours; NaN in shots that never show it.
    """
    from cmet_engine.media.video import VideoReader

    count = len(geometry.valid)
    codes = Codes(*(np.full((count, size), np.nan, np.float32) for size in (10, 6, 20)))
    looks = {best: bounds for bounds in geometry.shots() if (best := _restful(geometry, *bounds)) is not None}
    shots: list[_Shot] = []
    waiting: list[tuple[int, np.ndarray]] = []

    def flush() -> None:
        if not waiting:
            return
        index = [i for i, _ in waiting]
        read = drawer.read([crop for _, crop in waiting])
        codes.expression[index], codes.pose[index], codes.lip[index] = read.expression, read.pose, read.lip
        waiting.clear()

    for frame in VideoReader(clip):
        if frame.index >= count:
            break
        if geometry.valid[frame.index]:
            crop = crops.cut(frame.image, frame.index)
            waiting.append((frame.index, crop))
            if frame.index in looks:
                shots.append(_Shot(*looks[frame.index], crop))
            if len(waiting) >= drawer.batch:
                flush()
        if progress:
            progress(Stage.ENCODE, frame.index + 1, count)
    flush()
    for shot in shots:
        for values in (codes.expression, codes.pose, codes.lip):
            _fill(values[shot.first : shot.last])
    return codes, shots


def extract_codes(
    clip: str | Path,
    *,
    geometry: "FaceGeometry | None" = None,
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
    from cmet_engine.face.tracker import track

    geometry = geometry or track(clip, progress=progress)
    drawer = Drawer(networks or Networks.load(voice=False), device, None, lambda sentence: log.warning("%s", sentence))
    codes, shots = read_clip(clip, geometry, follow(geometry), drawer, progress)
    times = np.asarray(geometry.times, np.float64)
    extracted = []
    for shot in shots:
        seen = shot.first + np.flatnonzero(geometry.valid[shot.first : shot.last])
        part = slice(seen[0], seen[-1] + 1)
        grid = np.arange(np.ceil(times[seen[0]] * EDIT_RATE), times[seen[-1]] * EDIT_RATE + 1e-6) / EDIT_RATE
        columns = (_sampled(v[part], times[part], grid) for v in (codes.expression, codes.pose, codes.lip))
        extracted.append(Codes(*columns))
    return extracted


class PortraitRenderer:
    """Makes a portrait speak: its looks, the head motion and expression of a driving clip, lips of the clip or a voice.

    Args:
        portrait: uint8 [H, W, 3] RGB with one face.
        driving: the renderer of the driving clip; its codes are used, edited as its timeline says.
        fps: frames a second of the result.
        voice: a wave float [S] at 16 kHz; the result is as long as it. None: as long as the driving clip, with its lips.

    Attributes:
        count: frames of the result.
        messages: sentences for the user.

    Raises:
        CmetError: the portrait shows no face, or several.
    """

    def __init__(
        self, portrait: np.ndarray, driving: EdtalkRenderer, fps: Fraction, *, voice: np.ndarray | None = None
    ):
        from cmet_engine.media.audio import RATE

        self.messages = driving.messages
        self._portrait, self._drawer, self._enhance = portrait, driving.drawer, driving.enhanced
        centres, sides = squares(portrait_landmarks(portrait)[None])
        self.crops = Crops(centres, sides)
        self._source = self._drawer.source(self.crops.cut(portrait, 0))
        known = np.asarray(driving.times, np.float64)
        length = known[-1] + 1 / float(fps) if voice is None else len(voice) / RATE
        self.count = max(1, round(length * float(fps)))
        times = np.arange(self.count) / float(fps)
        if voice is not None and length > known[-1] + 1.5 / float(fps):
            self.messages.append(
                f"The voice lasts {length:.2f} s and the driving clip {known[-1]:.2f} s; the head rests where the clip ends."
            )
        self.codes = Codes(
            _sampled(driving.expression, known, times),
            _sampled(driving.codes.pose, known, times),
            _sampled(driving.codes.lip, known, times)
            if voice is None
            else lips_at(speech_lips(voice, self._drawer), times),
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames uint8 [H, W, 3], in order: the drawn square in the portrait, its edge soft."""
        for start in range(0, self.count, self._drawer.batch):
            part = slice(start, min(start + self._drawer.batch, self.count))
            codes = self.codes
            for drawn in self._drawer.draw(self._source, codes.lip[part], codes.pose[part], codes.expression[part]):
                yield paste(self._portrait, self._enhance(drawn.astype(np.float32)), border_mask(), self.crops, 0)


def portrait_landmarks(image: np.ndarray) -> np.ndarray:
    """Landmarks float32 [478, 3] of the one face in a picture uint8 [H, W, 3].

    Raises:
        CmetError: the picture shows no face, or several.
    """
    from cmet_engine.face.mesh import Detector, Mesh

    detector, mesh = Detector(), Mesh()
    try:
        faces = detector.find(image)
        if len(faces) > 1:
            raise CmetError(f"The portrait shows {len(faces)} faces; cut it to the one that shall speak.")
        points = mesh.find(image, faces[0]) if faces else None
    finally:
        detector.close()
        mesh.close()
    if points is None:
        raise CmetError("The portrait shows no face; choose a picture in which one is seen from the front.")
    return points


def read_portrait(path: str | Path) -> np.ndarray:
    """A picture file as uint8 [H, W, 3] RGB.

    Raises:
        CmetError: the file is missing or no picture.
    """
    import cv2

    path = Path(path)
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise CmetError(f"Cannot read the portrait {path}: {error.strerror}.") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise CmetError(f"{path} is no picture that can be read; give a PNG or JPEG file.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def render_portrait(
    portrait: str | Path,
    driving: str | Path,
    output: str | Path,
    timeline: EmotionTimeline,
    vectors: "dict[str, Any]",
    *,
    voice: str | Path | None = None,
    geometry: "FaceGeometry | None" = None,
    networks: Networks | None = None,
    device: str = "auto",
    metadata: dict[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Make a portrait speak and write the video.

    Args:
        portrait: a picture with one face.
        driving: the clip that gives head motion and expression.
        output: the video; its suffix chooses the format.
        timeline, vectors, networks, device: see `EdtalkRenderer`.
        voice: a file whose sound the lips speak and the video has; None takes lips and sound of the driving clip.
        geometry: of the driving clip, where it is known already.
        metadata: tags of the video.
        force: replace an earlier file.
        progress: called as ("tracking" | "encode" | "render", done, total).

    Returns:
        Sentences for the user.

    Raises:
        CmetError: anything that the user can mend.
    """
    from cmet_engine.face.tracker import track
    from cmet_engine.media import audio
    from cmet_engine.media.video import VideoWriter

    picture = read_portrait(portrait)
    portrait_landmarks(picture)  # before the long part
    wave = None if voice is None else audio.load(voice)
    geometry = geometry or track(driving, progress=progress)
    renderer = EdtalkRenderer(
        driving,
        geometry,
        timeline,
        vectors,
        networks=networks,
        device=device,
        enhancer=load_enhancer(),
        progress=progress,
    )
    speaking = PortraitRenderer(picture, renderer, geometry.fps, voice=wave)
    height, width = picture.shape[:2]
    sound = voice if voice is not None else driving
    with VideoWriter(output, width, height, geometry.fps, sound_from=sound, metadata=metadata, force=force) as writer:
        for number, frame in enumerate(speaking, 1):
            writer.write(frame)
            if progress:
                progress(Stage.RENDER, number, speaking.count)
    return [*speaking.messages, *writer.notes]


def expression_changes(
    connector: Connector, wanted: dict[str, np.ndarray], expression: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """The change of the expression codes that each emotion makes in one shot, at full strength.

    The codes are brought to 25 frames a second, on which the connector was trained, go through its window loop, and the
    change is brought back to the shot's own times.

    Args:
        connector: C-MET's.
        wanted: by name, an emotion vector [1024] or, for EDTalk's presets, expression codes [10] to reach.
        expression: float32 [n, 10].
        times: float64 [n] seconds.

    Returns:
        By name, float32 [n, 10].
    """
    changes = {name: codes[None] - expression for name, codes in wanted.items() if len(codes) == expression.shape[1]}
    spoken = [name for name in wanted if name not in changes]
    if spoken and len(times):
        steps = max(1, round((times[-1] - times[0]) * EDIT_RATE) + 1)
        grid = times[0] + np.arange(steps) / EDIT_RATE
        deltas = code_deltas(connector, np.stack([wanted[name] for name in spoken]), _sampled(expression, times, grid))
        for name, delta in zip(spoken, deltas, strict=True):
            changes[name] = _sampled(delta, grid, times)
    return changes


def speech_lips(wave: np.ndarray, drawer: Drawer) -> np.ndarray:
    """Lip codes of a wave float [S] at 16 kHz, smoothed as published: float32 [F, 20], 25 a second.

    Raises:
        CmetError: the wave is shorter than a frame.
    """
    from cmet_engine.media.audio import lip_mel

    mel = torch.from_numpy(lip_mel(wave))
    if not len(mel):
        raise CmetError("The voice for the lips is shorter than a frame (40 ms); give a longer recording.")
    network = drawer.networks.audio2lip
    if network is None:
        network = drawer.networks.audio2lip = store.load("audio2lip", Audio2Lip).to(drawer.device)
    assert network is not None
    with torch.inference_mode():
        lips = torch.cat([network(part.to(drawer.device)) for part in mel.split(256)])
        return _numpy(smooth(lips))


def lips_at(lips: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Lip codes [F, 20] of 25 a second at times [N] seconds: float32 [N, 20]; the last is held where the voice ends."""
    return _sampled(lips, np.arange(len(lips)) / EDIT_RATE, times)


def load_enhancer() -> Enhancer | None:
    """A face enhancer (GFPGAN and its like) where the user has one, else None.

    It is the file `enhancer.onnx` in the models' folder, with one input [1, 3, 512, 512] RGB in [-1, 1] and an output of the
    same kind, run by the package `onnxruntime` where that is installed.
    """
    path = registry.models_folder() / "enhancer.onnx"
    if not path.is_file():
        return None
    try:
        import onnxruntime
    except ImportError:
        log.warning("%s is there, but the package onnxruntime is not; faces are not enhanced.", path)
        return None
    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name

    def enhance(face: np.ndarray) -> np.ndarray:
        import cv2

        large = cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        out = session.run(None, {name: (large / 127.5 - 1).transpose(2, 0, 1)[None]})[0][0]
        return np.clip((out.transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)

    return enhance


def _emotions(timeline: EmotionTimeline, vectors: "dict[str, Any]") -> dict[str, np.ndarray]:
    """What the connector or a preset needs for every name of the timeline."""
    wanted: dict[str, np.ndarray] = {}
    presets = registry.load_presets()
    for name in timeline.names():
        if name.startswith(PRESET):
            preset = name.removeprefix(PRESET)
            if preset not in presets:
                known = f"there are {', '.join(sorted(presets))}" if presets else "there are none on this machine"
                raise CmetError(
                    f"EDTalk's preset '{preset}' is unknown, {known}; run `cmet models convert FOLDER` on EDTalk's presets."
                )
            wanted[name] = presets[preset]
        elif name in vectors:
            wanted[name] = np.asarray(getattr(vectors[name], "vector", vectors[name]), np.float32).reshape(-1)
        else:
            raise CmetError(f"The emotion '{name}' has no vector; add it to the library with `cmet vector`.")
    return wanted


def _restful(geometry: "FaceGeometry", first: int, last: int) -> int | None:
    """The frame of a shot whose looks are kept: head turned little, eyes open, lips closed; None without a face."""
    from cmet_engine.face.lips import eye_opening, lip_opening

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


def _sampled(values: np.ndarray, at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Columns [n, D] known at `at` [n], read at `times`, between neighbours in proportion; ends are held."""
    if len(at) == len(times) and np.allclose(at, times):
        return values
    return np.column_stack([np.interp(times, at, column) for column in values.T]).astype(np.float32)


def _fill(values: np.ndarray) -> None:
    """Rows of NaN take what lies between their neighbours, in place."""
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if 0 < len(known) < len(values):
        frames = np.arange(len(values))
        values[:] = np.column_stack([np.interp(frames, known, column) for column in values[known].T])


def _pixels(images: Sequence[np.ndarray], device: str) -> Tensor:
    """uint8 [B, S, S, 3] -> [B, 3, S, S] in [-1, 1]."""
    levels = torch.from_numpy(np.stack(list(images))).to(device)
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1


def _numpy(value: Tensor) -> np.ndarray:
    return value.cpu().numpy()


def _moved(source: Source, device: str) -> Source:
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    maps = (tuple(x.to(device, dtype) for x in group) for group in (source.features, source.normalised))
    return Source(source.latent.to(device), *maps)
