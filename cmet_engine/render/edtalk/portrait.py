"""A portrait that speaks: its appearance, the head motion and expression of a driving clip, lips of the clip or of a voice."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.face.mesh import Detector, Mesh
from cmet_engine.media.audio import RATE
from cmet_engine.media.video import VideoWriter
from cmet_engine.progress import Progress, Stage
from cmet_engine.render.edtalk.crop import Crops, squares
from cmet_engine.render.edtalk.encoding import lips_at, speech_lips
from cmet_engine.render.edtalk.expression import resampled
from cmet_engine.render.edtalk.networks import Codes
from cmet_engine.render.edtalk.paste import border_mask, paste
from cmet_engine.render.edtalk.renderer import EdtalkRenderer


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


