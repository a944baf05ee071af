"""Keeping to one person from frame to frame, and choosing who that is."""

import cv2
import numpy as np

from cmet_engine.errors import NotFound
from cmet_engine.face.mesh import Box, Detector, Mesh, box_of, cut_window
from cmet_engine.media.reader import VideoReader

FIRST_SECONDS = 1.0
"""Faces are counted and ordered over this much of the clip, from the first frame that shows one."""
FIRST_EVERY = 3
"""Of these frames, every third is searched."""
LEAST_SHARE = 3
"""Someone who is detected less than once for every three detections of the one seen most is a false detection."""
TILED_EVERY = 5
"""Frames between searches for very small faces while nobody is found."""
SAME_PLACE = 0.2
"""Overlap (intersection over union) of two boxes in neighbouring frames that are one face."""
SIZE_STEP = 8
"""Pixels of box size that count as equal when faces are ordered."""
FURTHEST_STEP = 2.5
"""Largest step from one frame to the next: distance in face sizes plus the logarithm of the change of size."""
STEP_GROWTH = 25
"""Frames without the person over which that step grows by itself once more."""
APPEARANCE_EVERY, APPEARANCE_SHARE = 10, 0.2
"""Frames between two updates of the person's appearance, and the share of the new one in it: it covers the last seconds."""
LEAST_INSIDE = 0.5
"""Share of the landmarks that must lie in the picture."""


def first_faces(reader: VideoReader, detector: Detector) -> list[Box]:
    """Faces over the first second that shows any, largest first; each with its box where it was first seen."""
    seen: list[list[Box]] = []
    end = None
    for frame in reader:
        if end is None:
            boxes = detector.find(frame.image, tiles=frame.index % TILED_EVERY == 0)
            if not boxes:
                continue
            end = float(frame.time) + FIRST_SECONDS
        elif float(frame.time) > end:
            break
        elif frame.index % FIRST_EVERY:
            continue
        else:
            boxes = detector.find(frame.image)
        for box in boxes:
            same = [track for track in seen if track[-1].overlap(box) > SAME_PLACE]
            if same:
                same[0].append(box)
            else:
                seen.append([box])
    most = max((len(track) for track in seen), default=0)
    people = [track for track in seen if len(track) * LEAST_SHARE >= most]
    people.sort(key=lambda track: (-round(float(np.median([b.side for b in track])) / SIZE_STEP), track[0].x))
    return [track[0] for track in people]


class Follower:
    """Keeps to one person from frame to frame.

    Within a shot the face that is nearest to where the person was is the person. After a cut, places say nothing: the
    face that looks most like the person is followed.
    """

    def __init__(self) -> None:
        self.detector = Detector()
        self._mesh = Mesh()
        self._box: Box | None = None  # where the face was last, or where to begin
        self._appearance: np.ndarray | None = None  # over the last seconds; see `appearance_of`
        self._lost = 0
        self._frames = 0
        self._forgotten = False

    def forget_graph(self) -> None:
        """Drop what only MediaPipe's graph knows: what follows depends on nothing but `state` and the frames."""
        self._mesh.forget()
        self._forgotten = True

    def state(self) -> dict[str, np.ndarray]:
        """Everything known after `forget_graph`, for `restore`."""
        box = [] if self._box is None else [self._box.x, self._box.y, self._box.side, self._box.score]
        appearance = np.empty(0, np.float32) if self._appearance is None else self._appearance
        return {
            "box": np.array(box, np.float64),
            "appearance": appearance,
            "lost": np.array([self._lost, self._frames]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._box = Box(*state["box"].tolist()) if len(state["box"]) else None
        self._appearance = state["appearance"] if len(state["appearance"]) else None
        self._lost, self._frames = state["lost"].tolist()
        self._forgotten = True

    def close(self) -> None:
        """Let go of MediaPipe's graphs."""
        self._mesh.close()
        self.detector.close()

    def choose(self, people: list[Box], face: int, name: str) -> None:
        """Begin with one of the faces found first.

        Raises:
            NotFound: there are fewer.
        """
        if people and face >= len(people):
            several = "face" if len(people) == 1 else "faces"
            choice = "leave the choice out" if len(people) == 1 else f"choose 0 to {len(people) - 1}"
            raise NotFound(
                f"{name} shows {len(people)} {several} where it begins; face {face} does not exist, {choice}."
            )
        self._box = people[face] if people else None

    def step(self, image: np.ndarray, cut: bool) -> np.ndarray | None:
        """Landmarks [478, 3] in this frame, or None."""
        if cut:
            self._mesh.forget()
        landmarks = None
        if not cut and not self._lost and self._box:
            # the second call searches the whole window anew when the place that the mesh followed is lost
            landmarks = self._find(image, self._box)
            if landmarks is None or self._forgotten:
                again = self._find(image, self._box)
                landmarks = landmarks if again is None else again
        self._forgotten = False
        if landmarks is None:
            landmarks = self._search(image, cut)
        self._frames += 1
        if landmarks is None:
            self._lost += 1
            return None
        self._lost = 0
        self._box = box_of(landmarks)
        if self._appearance is None or self._frames % APPEARANCE_EVERY == 0:
            new = appearance_of(image, self._box)
            old = self._appearance
            self._appearance = new if old is None else (1 - APPEARANCE_SHARE) * old + APPEARANCE_SHARE * new
        return landmarks

    def _find(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        landmarks = self._mesh.find(image, box)
        if landmarks is None:
            return None
        height, width = image.shape[:2]
        inside = (landmarks[:, 0] > 0) & (landmarks[:, 0] < width) & (landmarks[:, 1] > 0) & (landmarks[:, 1] < height)
        return landmarks if inside.mean() > LEAST_INSIDE else None

    def _search(self, image: np.ndarray, cut: bool) -> np.ndarray | None:
        """Look for the person in the whole frame."""
        found = []
        for box in self.detector.find(image, tiles=cut or self._lost % TILED_EVERY == TILED_EVERY - 1):
            near = self._distance(box)
            if not cut and near > FURTHEST_STEP * (1 + self._lost / STEP_GROWTH):
                continue
            self._mesh.forget()
            landmarks = self._find(image, box)
            if landmarks is not None:
                unlike = 0.0
                if self._appearance is not None:
                    unlike = float(np.linalg.norm(appearance_of(image, box_of(landmarks)) - self._appearance))
                found.append((unlike if cut else near + unlike, landmarks))
        if not found:
            self._mesh.forget()
            return None
        best = min(found, key=lambda f: f[0])[1]
        if len(found) > 1:  # the mesh follows the last face it saw: bring it back to the chosen one
            self._mesh.forget()
            best = best if (again := self._find(image, box_of(best))) is None else again
        return best

    def _distance(self, box: Box) -> float:
        """Distance from where the person was last seen, in face sizes, plus the change of size; 0 when nobody was seen yet."""
        if self._box is None:
            return 0.0
        distance = np.hypot(box.x - self._box.x, box.y - self._box.y) / max(box.side, self._box.side)
        return float(distance + abs(np.log(box.side / self._box.side)))


def appearance_of(image: np.ndarray, box: Box) -> np.ndarray:
    """Descriptor that tells people apart: a coarse picture of head, hair and collar without brightness and contrast.

    Returns:
        float32 [771]; distances run from 0 to about 2.
    """
    window = cut_window(image, box.x, box.y, box.side * 1.6, 32)[0]
    small = np.log(cv2.resize(window, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) + 16)
    pattern = small - small.mean((0, 1))
    tint = (small - small.mean(2, keepdims=True)).mean((0, 1))
    return np.concatenate([pattern.ravel() / max(float(np.linalg.norm(pattern)), 1e-6), 4 * tint]).astype(np.float32)
