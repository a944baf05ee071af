"""Check of a result: some frames are tracked again before and after the edit, to measure what is really in the picture."""

import numpy as np

from cmet_engine.face.blendshapes import load_solver
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.lips import lip_opening
from cmet_engine.face.mesh import Mesh, box_of, turned, turned_back
from cmet_engine.media.info import Frame
from cmet_engine.quality import metrics
from cmet_engine.track import CoefficientTrack

CHECKED_FRAMES = 32
"""Frames that are tracked again, evenly spread: under a second of work, and each figure rests on some thirty readings."""

FEWEST_CHECKED = 8
"""Of a clip so short that every second frame makes fewer than `CHECKED_FRAMES`: neighbours are too alike to be worth the work."""

FULL_EDIT = 0.99
"""Only frames in which the edit is applied at least this far are checked; around lost faces it fades."""


class ResultCheck:
    """Tracks some frames again, before and after the edit.

    Let it `observe` the frames that it wants, then ask for `figures`, and `close` it at the end. What it measured so far is in its attributes:
    whoever goes on after an interruption puts them back.

    Attributes:
        index: frames that were tracked, ascending.
        before, after: landmarks [478, 3] in pixels of each, in the source and in the edited picture.
    """

    def __init__(self, geometry: FaceGeometry, frames: int = CHECKED_FRAMES) -> None:
        usable = np.flatnonzero(geometry.valid & (geometry.fade > FULL_EDIT))
        count = min(frames, max(FEWEST_CHECKED, len(usable) // 2), len(usable))
        picks = np.linspace(0, max(len(usable) - 1, 0), count).round().astype(int)
        self._wanted = {int(i) for i in usable[picks]}
        self._geometry = geometry
        self._mesh = Mesh(follow=False) if self._wanted else None
        self.index: list[int] = []
        self.before: list[np.ndarray] = []
        self.after: list[np.ndarray] = []

    def wants(self, index: int) -> bool:
        """Whether a frame is among those to be checked."""
        return index in self._wanted

    def observe(self, before: Frame, after: Frame) -> None:
        """Track one frame before and after the edit, if it is among those to be checked; only the face's region is looked at."""
        index = before.index
        if not self.wants(index) or self._mesh is None:
            return
        landmarks, size = self._geometry.landmarks[index], self._geometry.size
        # the mesh sees heads upright only
        turns = -round(float(self._geometry.head_rotation[index, 2]) / 90) % 4
        box = box_of(turned_back(landmarks, -turns, size if turns % 2 == 0 else size[::-1]) if turns else landmarks)
        found = []
        for frame in (before, after):
            seen = self._mesh.find(turned(frame.image, turns) if turns else frame, box)
            found.append(seen if seen is None or not turns else turned_back(seen, turns, size))
        if found[0] is not None and found[1] is not None:
            self.index.append(index)
            self.before.append(found[0])
            self.after.append(found[1])

    def close(self) -> None:
        """Let go of the tracker."""
        if self._mesh is not None:
            self._mesh.close()

    def figures(self, source: CoefficientTrack, edited: CoefficientTrack) -> dict[str, float]:
        """What was asked against what is measured, under the names of `report.EditReport`; see `metrics`.

        Args:
            source, edited: the tracks before and after the edit.

        Returns:
            `edit_realised`, `same_sign`, `lips_closed_kept`, `lip_correlation`; those that cannot be measured are left out.
        """
        if not self.index:
            return {}
        before, after = np.stack(self.before), np.stack(self.after)
        solver = load_solver()
        measured = solver.coefficients(after) - solver.coefficients(before)
        realised = metrics.realised((edited.coefficients - source.coefficients)[self.index], measured)
        lips = lip_opening(before), lip_opening(after)
        speech = metrics.Speech.of(source).at(self.index)
        figures = {
            "edit_realised": None if realised is None else realised.share,
            "same_sign": None if realised is None else realised.right_way,
            "lips_closed_kept": metrics.lips_closed_kept(*lips, speech),
            "lip_correlation": metrics.lip_correlation(*lips, speech),
        }
        return {name: round(value, 3) for name, value in figures.items() if value is not None}
