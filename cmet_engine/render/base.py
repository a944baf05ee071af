"""What every renderer offers: it is prepared once for a clip, then fed the clip's frames.

A renderer is a class whose constructor does all that needs the whole clip (see `render.choose.open_renderer`). Afterwards
`render_batch` turns frames into pictures of the same person in the same frame with the new expression.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.info import Frame
from cmet_engine.media.planes import Box
from cmet_engine.render.crops import CropPath


class Renderer(Protocol):
    """Renders the frames of one clip with another expression.

    Classes that inherit from it need to write `render` only.

    Attributes:
        name: as in `EditSpec.renderer` and in the metadata of the video.
        geometry: where the face is in every frame of the clip.
        batch_size: frames that are best rendered together.
        workers: batches that may be rendered at the same time, each on a thread of its own.
    """

    name: str
    geometry: FaceGeometry
    batch_size: int = 1
    workers: int = 1

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """One frame with the edited expression.

        Args:
            image: uint8 [H, W, 3], the original frame.
            index: its number in the clip.

        Returns:
            uint8 [H, W, 3]; the very same array where nothing is to change. Outside the face every pixel is the original's.
        """
        ...

    def render_batch(self, frames: Sequence[Frame]) -> list[np.ndarray]:
        """The pictures of some frames, in their order; see `render`."""
        return [self.render(frame.image, frame.index) for frame in frames]

    @property
    def messages(self) -> Sequence[str]:
        """Sentences for the user, about the preparation and about the frames rendered so far."""
        return ()

    @property
    def state(self) -> Iterator[object]:
        """Everything that the pictures depend on beside the clip and its geometry, for a checksum (`resume.fingerprint`)."""
        yield from ()

    def notes(self) -> dict[str, np.ndarray]:
        """What must be known of the frames rendered so far to go on after an interruption, as arrays."""
        return {}

    def recall(self, notes: Mapping[str, np.ndarray], frames: int) -> None:
        """Take up earlier `notes` as far as they are about the first `frames` frames."""
        return

    def half_later(self) -> "Renderer":
        """The renderer of the second moments of an interlaced clip's frames; itself where it does not tell them apart."""
        return self

    def close(self) -> None:
        """Let go of what the renderer holds."""
        return


class Generator(Protocol):
    """Draws a face anew whose expression is that of a draft: a picture of the same person in the same frame.

    A clip is gone through twice. First every pair of crops, the source's and the draft's, is read (`read`), and what was read of a
    shot may be smoothed (`settled`). Then the crops are drawn from what was read, in any order.

    Attributes:
        name: as in `RenderSpec.renderer`.
        identity: checksum of its weights; None for weights that come from no file.
        device: that it works on.
        batch: crops that are best drawn together.
    """

    name: str
    identity: str | None
    device: str
    batch: int

    def crops(self, geometry: FaceGeometry) -> CropPath:
        """The square around the face that it wants to see of every frame."""
        ...

    def read(self, sources: Sequence[np.ndarray], drafts: Sequence[np.ndarray]) -> np.ndarray:
        """What drives the drawing of some frames, float32 [B, …], from their crops uint8 [S, S, 3] as they are and as drafted."""
        ...

    def settled(self, readings: np.ndarray) -> np.ndarray:
        """The readings [N, …] of the frames of a shot, made steady."""
        ...

    def draw(self, sources: Sequence[np.ndarray], readings: np.ndarray) -> np.ndarray:
        """Drawn crops uint8 [B, S, S, 3] of frames with the crops `sources` and the readings [B, …]."""
        ...


class PartRenderer(Renderer):
    """A renderer that needs to see no more of a frame than the face, in any precision."""

    def half_later(self) -> "PartRenderer":
        """See `Renderer.half_later`."""
        return self

    @abstractmethod
    def region(self, index: int) -> Box | None:
        """The part of frame `index` that is looked at and may change; None where nothing does."""

    @abstractmethod
    def render_part(self, part: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """`render` for a part of a frame.

        Args:
            part: uint8 [h, w, 3], or float32 in 0 to 255 and beyond, a part of the frame that holds `region(index)`.
            index: number of the frame.
            corner: x and y of the part's first pixel.

        Returns:
            The same type and shape; the very same array where nothing is to change.
        """

    def render_parts(self, parts: Sequence[tuple[np.ndarray, int, tuple[int, int]]]) -> list[np.ndarray]:
        """`render_part` for parts of several frames, which some renderers draw together."""
        return [self.render_part(*part) for part in parts]

    def render(self, image: np.ndarray, index: int) -> np.ndarray:
        """See `Renderer.render`."""
        return self.render_part(image, index, (0, 0))
