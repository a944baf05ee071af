"""Several people in one picture: renderers one after another, each on the picture that the one before it gave."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cmet_engine import fingerprint
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.planes import Box
from cmet_engine.render.base import PartRenderer

HEAD = 1.3
"""Radius of what an edit may change over that of the face: the outermost ring of `render.mesh`, about."""
SAME_PLACE = 0.25
"""Distance of two faces in one place, in sizes of the face."""


class ChainedRenderer(PartRenderer):
    """Renders the edits of several people of one clip.

    Args:
        renderers: by what the person is called in messages, at least one; drawn in this order.
    """

    def __init__(self, renderers: Mapping[str, PartRenderer]) -> None:
        self._renderers = dict(renderers)
        first = next(iter(self._renderers.values()))
        self.name, self.geometry = first.name, first.geometry
        self.workers = min(renderer.workers for renderer in self._renderers.values())

    def half_later(self) -> "ChainedRenderer":
        """See `Renderer.half_later`."""
        return ChainedRenderer({name: renderer.half_later() for name, renderer in self._renderers.items()})

    def region(self, index: int) -> Box | None:
        """See `PartRenderer.region`; it holds everyone's."""
        boxes = [box for renderer in self._renderers.values() if (box := renderer.region(index)) is not None]
        if not boxes:
            return None
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def render_part(self, part: np.ndarray, index: int, corner: tuple[int, int]) -> np.ndarray:
        """See `PartRenderer.render_part`."""
        for renderer in self._renderers.values():
            part = renderer.render_part(part, index, corner)
        return part

    @property
    def messages(self) -> Sequence[str]:
        """See `Renderer.messages`; what several say alike is said once, with whose it is where only some do."""
        said: dict[str, list[str]] = {}
        for name, renderer in self._renderers.items():
            for message in renderer.messages:
                said.setdefault(message, []).append(name)
        everyone = len(self._renderers)
        told = [m if len(who) == everyone else f"{', '.join(who)}: {m}" for m, who in said.items()]
        pairs = itertools.combinations(self._renderers.items(), 2)
        return [*told, *(m for (a, one), (b, other) in pairs for m in overlap(a, one.geometry, b, other.geometry))]

    @property
    def state(self) -> Iterator[object]:
        """See `Renderer.state`."""
        for name, renderer in self._renderers.items():
            yield name
            yield fingerprint.code(type(renderer).__module__)
            yield renderer.geometry.fade
            yield (part for _, part in renderer.geometry.chunks())
            yield from renderer.state

    def notes(self) -> dict[str, np.ndarray]:
        """See `Renderer.notes`."""
        return {f"{n}_{k}": v for n, r in enumerate(self._renderers.values()) for k, v in r.notes().items()}

    def recall(self, notes: Mapping[str, np.ndarray], frames: int) -> None:
        """See `Renderer.recall`."""
        for number, renderer in enumerate(self._renderers.values()):
            mark = f"{number}_"
            renderer.recall({k.removeprefix(mark): v for k, v in notes.items() if k.startswith(mark)}, frames)

    def close(self) -> None:
        """See `Renderer.close`."""
        for renderer in self._renderers.values():
            renderer.close()


def overlap(a: str, first: FaceGeometry, b: str, second: FaceGeometry) -> list[str]:
    """A sentence about where the edits of two people, drawn in this order, lie over one another."""
    touching = np.zeros(len(first), bool)
    for (part, one), (_, other) in zip(first.chunks(), second.chunks(), strict=True):
        low, high = (np.stack([edge(points[..., :2], 1) for points in (one, other)]) for edge in (np.min, np.max))
        middle, half = (low + high) / 2, (high - low) / 2 * HEAD
        apart = (np.abs(middle[0] - middle[1]) > half.sum(0)).any(1)
        touching[part] = ~apart & (first.fade[part] > 0) & (second.fade[part] > 0)
    if not touching.any():
        return []
    return [
        f"The faces of {a} and {b} come so near at {first.spans(touching)} that the edit of {b} is drawn over that of {a}."
    ]


def same_face(first: FaceGeometry, second: FaceGeometry) -> bool:
    """Whether two geometries follow one face: where both have found theirs, it is mostly in one place."""
    both = np.flatnonzero(first.valid & second.valid)
    if not len(both):
        return False
    middles = np.stack([g.landmarks[both].mean(1)[:, :2] for g in (first, second)])
    sizes = np.ptp(first.landmarks[both][..., :2], axis=1).max(1)
    return float((np.linalg.norm(middles[0] - middles[1], axis=1) < SAME_PLACE * sizes).mean()) > 0.5
