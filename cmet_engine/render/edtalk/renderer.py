"""The `edtalk` renderer: a clip's face taken to EDTalk's codes, its expression edited there, drawn anew and pasted back.

Two passes over the clip. The first (`EdtalkRenderer`'s constructor) cuts the head out of every frame and reads its codes,
each picture encoded once; the connector edits the expression on a grid of 25 frames a second, every frame of it, and the
change goes back to the clip's own frame times. The second is the caller's: `render(image, index)` for the frames of the
clip, in order or not; codes for the following frames are drawn in the same batch.

Pose is the clip's own, frame by frame. Lips come from the clip or from a voice. The looks come from one frame of each
shot, the most frontal and restful one, so nothing of the picture that EDTalk draws depends on a badly lit or turned frame.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.face.mesh import Box, Mesh
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.video import SEGMENT
from cmet_engine.progress import Progress
from cmet_engine.render.base import Renderer
from cmet_engine.render.edtalk.crop import SIZE, follow
from cmet_engine.render.edtalk.encoding import Shot, encode_clip_cached, lips_at, speech_lips
from cmet_engine.render.edtalk.enhancer import Enhancer
from cmet_engine.render.edtalk.expression import emotion_inputs, expression_changes
from cmet_engine.render.edtalk.generator import Source
from cmet_engine.render.edtalk.networks import NetworkRunner, Networks
from cmet_engine.render.edtalk.paste import alignment, match_colour, outline_mask, paste, skin_mask
from cmet_engine.timeline import EmotionTimeline

log = logging.getLogger(__name__)

CALIBRATION_FRAMES = 8
"""Frames of a shot that are rendered unedited to see where the rendered face lies."""


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
        device: `cpu`, `cuda` or `auto`.
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


