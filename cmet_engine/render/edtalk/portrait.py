"""A portrait that speaks: its appearance, the head motion and expression of a driving clip, lips of the clip or of a voice."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.face.mesh import Detector, Mesh
from cmet_engine.media.audio import RATE
from cmet_engine.media.picture import read_picture
from cmet_engine.media.writer import RATE_FACTOR, VideoWriter
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.edtalk.crop import Crops, squares
from cmet_engine.render.edtalk.encoding import lips_at, speech_lips
from cmet_engine.render.edtalk.expression import resampled
from cmet_engine.render.edtalk.networks import Codes
from cmet_engine.render.edtalk.paste import border_mask, paste
from cmet_engine.render.edtalk.renderer import EdtalkRenderer
from cmet_engine.render.stream import VideoOutput


class PortraitRenderer:
    """Makes a portrait speak.

    Args:
        portrait: uint8 [H, W, 3] RGB with one face.
        driving: the renderer of the driving clip; its codes are used, edited as its timeline says.
        fps: frames a second of the result.
        voice: a wave float [S] at 16 kHz; the result is as long as it. None: as long as the driving clip, with its lips.

    Attributes:
        count: frames of the result.

    Raises:
        InvalidInput: the portrait shows no face, or several.
    """

    def __init__(
        self, portrait: np.ndarray, driving: EdtalkRenderer, fps: Fraction, *, voice: np.ndarray | None = None
    ):
        self._portrait, self._driving = portrait, driving
        centres, sides = squares(portrait_landmarks(portrait)[None])
        self.crops = Crops(centres, sides)
        self._source = driving.runner.encode_source(self.crops.cut(portrait, 0))
        known = np.asarray(driving.times, np.float64)
        length = known[-1] + 1 / float(fps) if voice is None else len(voice) / RATE
        self.count = max(1, round(length * float(fps)))
        times = np.arange(self.count) / float(fps)
        if voice is not None and length > known[-1] + 1.5 / float(fps):
            driving.warn(
                f"The voice lasts {length:.2f} s and the driving clip {known[-1]:.2f} s; the head rests where the clip ends."
            )
        self.codes = Codes(
            resampled(driving.expression, known, times),
            resampled(driving.codes.pose, known, times),
            resampled(driving.codes.lip, known, times)
            if voice is None
            else lips_at(speech_lips(voice, driving.runner), times),
        )

    @property
    def messages(self) -> list[str]:
        """Sentences for the user."""
        return self._driving.messages

    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames uint8 [H, W, 3], in order: the rendered square in the portrait, its edge soft."""
        runner, codes = self._driving.runner, self.codes
        for start in range(0, self.count, runner.batch):
            part = slice(start, min(start + runner.batch, self.count))
            for crop in runner.decode(self._source, codes.lip[part], codes.pose[part], codes.expression[part]):
                face = self._driving.enhanced(crop.astype(np.float32))
                yield paste(self._portrait, face, border_mask(), self.crops, 0)


def portrait_landmarks(image: np.ndarray) -> np.ndarray:
    """Landmarks float32 [478, 3] of the one face in a picture uint8 [H, W, 3].

    Raises:
        InvalidInput: the picture shows no face, or several.
    """
    detector, mesh = Detector(), Mesh()
    try:
        faces = detector.find(image)
        if len(faces) > 1:
            raise InvalidInput(f"The portrait shows {len(faces)} faces; cut it to the one that shall speak.")
        points = mesh.find(image, faces[0]) if faces else None
    finally:
        detector.close()
        mesh.close()
    if points is None:
        raise InvalidInput("The portrait shows no face; choose a picture in which one is seen from the front.")
    return points


def read_portrait(path: str | Path) -> np.ndarray:
    """A picture file as uint8 [H, W, 3] RGB.

    Raises:
        InvalidInput: the file is missing or no picture.
    """
    return read_picture(Path(path))


def render_portrait(
    portrait: str | Path,
    driving: EdtalkRenderer,
    output: VideoOutput,
    *,
    voice: np.ndarray | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Make a portrait speak and write the video.

    Args:
        portrait: a picture with one face.
        driving: the renderer of the clip that gives head motion and expression.
        output: the video to write; its `sound` is the file of the voice, or the driving clip.
        voice: a wave float [S] at 16 kHz that the lips speak; None takes the lips of the driving clip.
        progress: called as ("render", done, total).

    Returns:
        Sentences for the user.

    Raises:
        CmetError: the portrait shows no face or several, or the video cannot be written.
    """
    picture = read_portrait(portrait)
    fps = driving.geometry.fps
    speaking = PortraitRenderer(picture, driving, fps, voice=voice)
    height, width = picture.shape[:2]
    with VideoWriter(
        output.path, width, height, fps, sound_from=output.sound, metadata=output.metadata,
        rate_factor=RATE_FACTOR if output.rate_factor is None else output.rate_factor, force=output.force, seal=output.seal,
    ) as writer:  # fmt: skip
        for number, frame in enumerate(speaking, 1):
            writer.write(frame)
            if progress:
                progress(Stage.RENDER, number, speaking.count)
    return [*speaking.messages, *writer.notes]
