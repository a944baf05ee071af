"""The `edtalk` renderer: a clip's face encoded to EDTalk's codes, its expression edited there, decoded and pasted back.

Two passes over the clip. The first (`EdtalkRenderer`'s constructor) crops the head out of every frame and encodes it once.
The connector edits the expression on a grid of 25 frames a second, every frame of it, and the change is brought back to the
clip's own frame times. The second is the caller's: `render(image, index)` for the frames of the clip, in any order; the
codes of the following frames are decoded in the same batch.

Pose is the clip's own, frame by frame. Lips come from the clip or from a voice. The appearance comes from one frame of each
shot, the most frontal one with a face at rest, so no rendered picture depends on a badly lit or turned frame.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.face.mesh import Box, Mesh
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.segments import SEGMENT
from cmet_engine.media.source import Source as Footage
from cmet_engine.progress import Progress
from cmet_engine.render.base import Renderer
from cmet_engine.render.edtalk.crop import SIZE, follow
from cmet_engine.render.edtalk.encoding import Shot, drafted_changes, encode_clip_cached, lips_at, speech_lips
from cmet_engine.render.edtalk.enhancer import Enhancer
from cmet_engine.render.edtalk.expression import emotion_inputs, expression_changes
from cmet_engine.render.edtalk.generator import Source
from cmet_engine.render.edtalk.networks import NetworkRunner, Networks
from cmet_engine.render.edtalk.paste import alignment, match_colour, outline_mask, paste, skin_mask
from cmet_engine.timeline import EmotionTimeline

log = logging.getLogger(__name__)

CALIBRATION_FRAMES = 8
"""Frames of a shot that are rendered unedited to see where the rendered face lies."""


class EdtalkRenderer(Renderer):
    """Renders the frames of a clip with another emotion.

    Args:
        clip: path of the footage (anything `VideoReader` takes).
        geometry: where the face is in each of its frames.
        timeline: which emotion, when, how strong (its strength included).
        vectors: for every name of the timeline an object with `.vector` (see `expression.emotion_inputs`), or the vector
            itself. Names that begin with `edtalk-` are EDTalk's presets and need none.
        voice: a wave float [S] at 16 kHz that the lips shall speak; None keeps the lips of the clip.
        draft: a renderer of the same clip whose pictures say how expression and lips change, beside the timeline.
        networks: to work with; None loads the published weights.
        device: see `models.device.resolve`.
        batch: frames rendered at a time; None for the device's usual number.
        enhancer: takes a rendered crop uint8 [256, 256, 3] to uint8 [512, 512, 3]; see `enhancer.load_enhancer`.
        progress: called as ("encode", frames done, frames in all) while the clip is encoded.

    Attributes:
        geometry: see above.
        times: float64 [N] seconds of the clip's frames.
        crops: the squares that are cut out and pasted back.
        codes: `Codes` of the clip as it is.
        shots: the clip's shots that show the face.
        expression: float32 [N, 10], the edited expression codes.
        runner: runs the networks.

    Raises:
        CmetError: no frame shows the face, weights are missing, or an emotion is unknown.
    """

    name = "edtalk"

    def __init__(
        self,
        clip: str | Path | Footage,
        geometry: FaceGeometry,
        timeline: EmotionTimeline,
        vectors: Mapping[str, Any],
        *,
        voice: np.ndarray | None = None,
        draft: Renderer | None = None,
        networks: Networks | None = None,
        device: str = "auto",
        batch: int | None = None,
        enhancer: Enhancer | None = None,
        progress: Progress | None = None,
    ):
        self._messages: list[str] = []
        self.geometry, self._enhancer = geometry, enhancer
        self.times = np.asarray(geometry.times, np.float64)
        wanted = emotion_inputs(timeline, vectors)
        networks = networks or Networks.load(voice=voice is not None, connector=draft is None)
        self.runner = NetworkRunner(networks, device, batch, self.warn)
        self.crops = follow(geometry)
        self.codes, self.shots = encode_clip_cached(clip, geometry, self.crops, self.runner, progress)
        self._source: tuple[int, Source] | None = None  # of one shot at a time: its feature maps take 65 MB
        if voice is not None:
            self.codes.lip = lips_at(speech_lips(voice, self.runner), geometry.times)
        self.expression = self._edited(timeline, wanted)
        if draft is not None:
            change = drafted_changes(clip, geometry, self.crops, draft, self.runner)
            self.expression += change.expression
            self.codes.lip = self.codes.lip + change.lip
        self._calibrated: set[int] = set()
        self._rendered: dict[int, np.ndarray] = {}

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """Frame `index` with the edited expression; see `Renderer.render`."""
        if not 0 <= index < len(self.geometry.valid) or float(self.geometry.fade[index]) <= 0:
            return image
        shot = self._shot(index)
        if shot is None:
            return image
        crop = self._crop(shot, index)
        points = self.crops.points(self.geometry.landmarks[index], index)
        face = match_colour(crop, self.crops.cut(image, index), skin_mask(points))
        mask = outline_mask(points) * np.float32(self.geometry.fade[index])
        return paste(image, self.enhanced(face), mask, self.crops, index, shot.align)

    @property
    def messages(self) -> list[str]:
        """See `Renderer.messages`."""
        return self._messages

    @property
    def state(self) -> Iterator[object]:
        """See `Renderer.state`."""
        yield from (self.expression, self.codes.pose, self.codes.lip)
        yield self.runner.device, self.runner.networks.identity, self._enhancer is not None

    def warn(self, sentence: str) -> None:
        """Add a sentence to the messages, once."""
        if sentence not in self._messages:
            self._messages.append(sentence)
            log.warning("%s", sentence)

    def enhanced(self, face: np.ndarray) -> np.ndarray:
        """A rendered crop [256, 256, 3] in 0..255, larger and sharper where there is an enhancer."""
        if self._enhancer is None:
            return face
        return self._enhancer(np.clip(np.rint(face), 0, 255).astype(np.uint8))

    def _shot(self, index: int) -> Shot | None:
        shot = next((s for s in self.shots if s.first <= index < s.last), None)
        if shot is not None and shot.first not in self._calibrated:
            self._calibrated.add(shot.first)
            shot.align = self._alignment(shot)
        return shot

    def _crop(self, shot: Shot, index: int) -> np.ndarray:
        """The rendered crop of a frame; the following ones of the batch are rendered with it."""
        if index not in self._rendered:
            end = index - index % SEGMENT + SEGMENT  # batches keep to segments, so that resumed work has the same ones
            fade = self.geometry.fade[index : min(shot.last, end)]
            frames = index + np.flatnonzero(fade > 0)[: self.runner.batch]
            crops = self._decode(shot, frames, self.expression)
            self._rendered = dict(zip(frames.tolist(), crops, strict=True))
        return self._rendered[index]

    def _decode(self, shot: Shot, frames: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Crops uint8 [n, 256, 256, 3] of some frames of a shot."""
        if self._source is None or self._source[0] != shot.first:
            self._source = (shot.first, self.runner.encode_source(shot.source))
        return self.runner.decode(self._source[1], self.codes.lip[frames], self.codes.pose[frames], expression[frames])

    def _alignment(self, shot: Shot) -> np.ndarray | None:
        """How the rendered face lies beside the tracked one, from some frames of the shot rendered without an edit."""
        frames = shot.first + np.flatnonzero(self.geometry.fade[shot.first : shot.last] > 0.99)
        if not len(frames):
            return None
        frames = frames[np.unique(np.linspace(0, len(frames) - 1, CALIBRATION_FRAMES).astype(int))]
        crops = self._decode(shot, frames, self.codes.expression)
        rendered, tracked = [], []
        mesh = Mesh()
        try:
            for index, crop in zip(frames.tolist(), crops, strict=True):
                mesh.forget()
                found = mesh.find(crop, Box(SIZE / 2, SIZE / 2, SIZE / 2))
                if found is not None:
                    rendered.append(found[:, :2].astype(np.float64))
                    tracked.append(self.crops.points(self.geometry.landmarks[index], index))
        finally:
            mesh.close()
        return alignment(np.array(rendered), np.array(tracked))

    def _edited(self, timeline: EmotionTimeline, wanted: dict[str, np.ndarray]) -> np.ndarray:
        """The expression codes with the timeline's emotions added, frame by frame of the clip."""
        edited = self.codes.expression.copy()
        times = self.times
        duration = float(times[-1] + 1 / self.geometry.fps) if len(times) else 0.0
        weights = timeline.weights(times, duration)
        if self.runner.networks.connector is None:
            return edited
        for shot in self.shots:
            part = slice(shot.first, shot.last)
            changes = expression_changes(
                self.runner.networks.connector, wanted, self.codes.expression[part], times[part]
            )
            for name, change in changes.items():
                edited[part] += weights[name][part, None] * change
        return edited
