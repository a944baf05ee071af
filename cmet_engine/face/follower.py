"""Keeping to one person from frame to frame, and choosing who that is."""

import cv2
import numpy as np

from cmet_engine.errors import NotFound
from cmet_engine.face.mesh import SAME_FACE, Box, Detector, Mesh, box_of, cut_window, turned, turned_back
from cmet_engine.face.person import FEWEST, OTHER, SAME, SURELY_OTHER, Person, covered_or_another, seen_clearly, verdict
from cmet_engine.media.info import Frame
from cmet_engine.media.reader import VideoReader

FIRST_SECONDS = 1.0
"""Faces are counted and ordered over this much of the clip, from the first frame that shows one."""
FIRST_EVERY = 3
"""Of these frames, every third is searched."""
LEAST_SHARE = 3
"""Someone who is detected less than once for every three detections of the one seen most is a false detection."""
TILED_EVERY = 5
"""Frames between searches for very small faces while nobody is found."""
SURE_SCORE, BETTER_SCORE = 0.87, 0.08
"""Detections of upright faces have this score or more (of 42 clips all); below, another way up is taken where it scores so much
better. An upside-down head scores 0.65, a lying one 0.66 to 0.86."""
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
WATCH_EVERY, DOUBT_EVERY = 10, 2
"""Frames from one look at whose face is followed to the next: as long as it is the person's, and while that is in doubt."""
STRANGE_WEIGHT = 4.0
"""How much a face that looks somewhat unlike the person is put back in the choice among several."""
STRANGER_FRAMES = 10
"""Frames for which a face that was found to be somebody else's is passed over at the same place."""


def upright_turns(reader: VideoReader, detector: Detector) -> int:
    """Quarters by which the clip must be turned counter-clockwise for heads to stand upright where it begins."""
    for frame in reader.frames(whole=False):
        if frame.index % FIRST_EVERY:
            continue
        scores = []
        for turns in range(4):
            scores.append(max((box.score for box in detector.find(turned(frame.image, turns))), default=0.0))
            if scores[0] >= SURE_SCORE:
                return 0
        if max(scores) > 0:
            return int(np.argmax(scores)) if max(scores) > scores[0] + BETTER_SCORE else 0
        if float(frame.time) > FIRST_SECONDS:
            break
    return 0


def first_faces(reader: VideoReader, detector: Detector, turns: int = 0) -> list[Box]:
    """Faces over the first second that shows any, largest first; each with its box where it was first seen.

    Args:
        reader: of the clip.
        detector: finds them.
        turns: quarters by which pictures are turned; see `upright_turns`. Boxes are in the turned pictures.
    """
    seen: list[list[Box]] = []
    end = None
    for frame in reader.frames(whole=False):
        if end is None:
            boxes = detector.find(turned(frame.image, turns), tiles=frame.index % TILED_EVERY == 0)
            if not boxes:
                continue
            end = float(frame.time) + FIRST_SECONDS
        elif float(frame.time) > end:
            break
        elif frame.index % FIRST_EVERY:
            continue
        else:
            boxes = detector.find(turned(frame.image, turns))
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

    Within a shot the face that is nearest to where the person was is the person, unless it turns out to be somebody else's.
    After a cut, places say nothing: the face that looks most like the person is followed. Whose face it is shows over several
    frames, so a `step` may say that frames before it were `rejected`.

    Args:
        person: whom to follow, where that is known beforehand.

    Attributes:
        turns: quarters by which pictures are turned counter-clockwise to see heads upright.
        rejected: number of frames directly before the last step whose landmarks were of somebody else.
        stranger: somebody else was seen at the last step.
    """

    def __init__(self, person: Person | None = None) -> None:
        self.detector = Detector()
        self.rejected, self.stranger = 0, False
        self.turns = 0
        self._mesh = Mesh()
        self._person = Person() if person is None else person
        self._box: Box | None = None  # where the face was last, or where to begin
        self._appearance: np.ndarray | None = None  # over the last seconds; see `appearance_of`
        self._lost = 0
        self._frames = 0
        self._forgotten = False
        self._wait = 0  # frames until the next look at whose face this is
        self._unsure = 0  # frames directly before this one in which that was not looked at, or stayed in doubt
        self._sure: tuple[int, Box | None, np.ndarray | None] = (0, None, None)  # before them: frames, box, appearance
        self._doubted = False  # the face may be somebody else's
        self._searched = (
            False  # because it was found by a search; otherwise because it has changed while it was followed
        )
        self._distances: list[float] = []  # of the doubted face from the person
        self._others = False  # other people are in the clip
        self._placeless = False  # the person was not seen since the last cut
        self._strangers: list[tuple[Box, int]] = []  # where somebody else was seen, and in which frame

    def forget_graph(self) -> None:
        """Drop what only MediaPipe's graph knows: what follows depends on nothing but `state` and the frames.

        Call `settle` before.
        """
        self._mesh.forget()
        self._wait, self._forgotten = 0, True
        self._strangers = []

    def state(self) -> dict[str, np.ndarray]:
        """Everything known after `forget_graph`, for `restore`."""
        box = [] if self._box is None else [self._box.x, self._box.y, self._box.side, self._box.score]
        appearance = np.empty(0, np.float32) if self._appearance is None else self._appearance
        return {
            "box": np.array(box, np.float64),
            "appearance": appearance,
            "lost": np.array([self._lost, self._frames, self._others, self._placeless, self.turns], np.int64),
            **self._person.state(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self._box = Box(*state["box"].tolist()) if len(state["box"]) else None
        self._appearance = state["appearance"] if len(state["appearance"]) else None
        self._lost, self._frames, others, placeless, self.turns = state["lost"].tolist()
        self._others, self._placeless = bool(others), bool(placeless)
        self._person.restore(state)
        self._sure = (self._frames, self._box, self._appearance)
        self._wait, self._forgotten = 0, True

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
        self._others = len(people) > 1

    def step(self, frame: Frame, cut: bool) -> np.ndarray | None:
        """Landmarks [478, 3] of the person in this frame, or None; as a rule only the face's region of it is looked at."""
        if not self.turns:
            return self._step(frame, cut)
        landmarks = self._step(Frame(frame.index, frame.time, turned(frame.image, self.turns)), cut)
        return None if landmarks is None else turned_back(landmarks, self.turns, (frame.shape[1], frame.shape[0]))

    def _step(self, frame: Frame, cut: bool) -> np.ndarray | None:
        self.rejected, self.stranger = 0, False
        if cut:
            self._mesh.forget()
            self._placeless, self._strangers = True, []
        landmarks = None
        if not cut and not self._lost and self._box:
            # the second call searches the whole window anew when the place that the mesh followed is lost
            landmarks = self._find(frame, self._box)
            if landmarks is None or self._forgotten:
                again = self._find(frame, self._box)
                landmarks = landmarks if again is None else again
        self._forgotten = False
        if landmarks is not None and self._is_someone_else(frame, landmarks):
            self.rejected = self._reject(box_of(landmarks))
            landmarks = self._search(frame, cut)
        elif landmarks is None:
            self.rejected = self.settle()
            landmarks = self._search(frame, cut)
        self._frames += 1
        if landmarks is None:
            self._lost += 1
            return None
        self._follow(frame, landmarks)
        return landmarks

    def _follow(self, frame: Frame, landmarks: np.ndarray) -> None:
        """Take note of where the face is, and now and then of how it looks."""
        self._lost, self._placeless = 0, False
        self._box = box_of(landmarks)
        if self._appearance is None or self._frames % APPEARANCE_EVERY == 0:
            new = appearance_of(frame, self._box)
            old = self._appearance
            self._appearance = new if old is None else (1 - APPEARANCE_SHARE) * old + APPEARANCE_SHARE * new
        self._wait -= 1
        self._unsure += 1
        if self._unsure == 0:
            self._sure = (self._frames, self._box, self._appearance)

    def settle(self) -> int:
        """Decide now whose face was followed up to here; returns how many of the last frames were somebody else's.

        A face that was never seen well counts as the person's unless other people are in the clip.
        """
        if self._doubted and self._searched:
            decidable = self._others or len(self._distances) >= FEWEST
            mine = not decidable or bool(verdict(self._distances, settled=True))
        else:
            mine = (
                not self._doubted or covered_or_another(self._distances, others=self._others, settled=True) is not False
            )
        if not mine:
            return self._reject(self._box)
        self._doubted, self._distances, self._unsure = False, [], 0
        self._sure = (self._frames, self._box, self._appearance)
        return 0

    def _reject(self, box: Box | None) -> int:
        """The face in a box is somebody else's: go back to what was sure; returns for how many frames it was followed."""
        count = self._unsure
        if box is not None:
            self._strangers.append((box, self._frames))
        sure, self._box, self._appearance = self._sure
        self._lost = self._frames - sure
        self._doubted, self._distances, self._unsure = False, [], 0
        self._others = self.stranger = True
        return count

    def _is_someone_else(self, frame: Frame, landmarks: np.ndarray) -> bool:
        """Look at whose face is followed, every few frames; True once it has turned out to be somebody else's."""
        if self._wait > 0:
            return False
        self._wait = DOUBT_EVERY if self._doubted else WATCH_EVERY
        picture = seen_clearly(frame, landmarks)
        if picture is None:
            return False
        if not self._doubted and (not self._person.known or self._person.familiar(picture)):
            self._recognise(picture, landmarks)
            return False
        unlike = self._person.distance(picture, landmarks)
        if unlike < (SAME if self._doubted else OTHER):
            self._recognise(picture if unlike <= SAME else None, landmarks)
            return False
        if not self._doubted:
            self._doubted, self._searched = True, False
        self._distances.append(unlike)
        self._wait = DOUBT_EVERY
        if self._searched:
            found = verdict(self._distances)
        else:
            self._others = self._others or self._another_is_here(frame, landmarks)
            found = covered_or_another(self._distances, others=self._others)
        if found:
            self._recognise(None, landmarks)
        return found is False

    def _another_is_here(self, frame: Frame, landmarks: np.ndarray) -> bool:
        """Whether a face beside the one that is followed is in the picture."""
        place = box_of(landmarks)
        return any(box.overlap(place) < SAME_PLACE / 2 for box in self.detector.find(frame.image))

    def _recognise(self, picture: np.ndarray | None, landmarks: np.ndarray) -> None:
        """The face is the person's; remember how it looks, where a texture is given."""
        if picture is not None:
            self._person.learn(picture, landmarks)
        self._doubted, self._distances, self._wait = False, [], WATCH_EVERY
        self._unsure = -1  # this frame is sure, too

    def _find(self, frame: Frame, box: Box) -> np.ndarray | None:
        landmarks = self._mesh.find(frame, box)
        if landmarks is None:
            return None
        height, width = frame.shape[:2]
        inside = (landmarks[:, 0] > 0) & (landmarks[:, 0] < width) & (landmarks[:, 1] > 0) & (landmarks[:, 1] < height)
        return landmarks if inside.mean() > LEAST_INSIDE else None

    def _search(self, frame: Frame, cut: bool) -> np.ndarray | None:
        """Look for the person in the whole frame; faces that are surely somebody else's are passed over."""
        found: list[tuple[float, np.ndarray, float | None]] = []
        tried = 0
        for box in self.detector.find(frame.image, tiles=cut or self._lost % TILED_EVERY == TILED_EVERY - 1):
            near = self._distance(box)
            if (not cut and near > FURTHEST_STEP * (1 + self._lost / STEP_GROWTH)) or self._is_stranger(box):
                continue
            self._mesh.forget()
            tried += 1
            landmarks = self._find(frame, box)
            if landmarks is None:
                continue
            strange = self._strangeness(frame, landmarks, box)
            if strange is not None and strange >= SURELY_OTHER:
                self._strangers.append((box, self._frames))
                self._others = self.stranger = True
                continue
            unlike = 0.0
            if self._appearance is not None:
                unlike = float(np.linalg.norm(appearance_of(frame, box_of(landmarks)) - self._appearance))
            unlike += STRANGE_WEIGHT * max(0.0, (SAME if strange is None else strange) - SAME)
            found.append((unlike if cut else near + unlike, landmarks, strange))
        if not found:
            self._mesh.forget()
            return None
        self._others |= len(found) > 1
        _, best, strange = min(found, key=lambda f: f[0])
        if tried > 1:  # the mesh follows the last face it saw: bring it back to the chosen one
            self._mesh.forget()
            best = best if (again := self._find(frame, box_of(best))) is None else again
        if self._person.known:
            self._doubted, self._searched, self._wait = True, True, DOUBT_EVERY
            self._distances = [] if strange is None else [strange]
            if strange is not None and strange <= SAME:
                self._doubted, self._distances, self._unsure = False, [], -1
        return best

    def _strangeness(self, frame: Frame, landmarks: np.ndarray, box: Box) -> float | None:
        """How unlike the person a face that was just found in a box is; None where that cannot be said."""
        picture = seen_clearly(frame, landmarks) if self._person.known else None
        if picture is None:
            return None
        strange = self._person.distance(picture, landmarks)
        if strange <= SAME:
            return strange
        again = self._find(frame, box_of(landmarks))  # the second time the landmarks lie better
        picture = None if again is None else seen_clearly(frame, again)
        if again is not None and picture is not None:
            strange = self._person.distance(picture, again)
        self._mesh.forget()
        self._find(frame, box)  # what follows is the same as if nobody had looked
        return strange

    def _is_stranger(self, box: Box) -> bool:
        """Whether a face was found to be somebody else's just now, about here; if so it is followed to its new place."""
        for i, (place, frame) in enumerate(self._strangers):
            if self._frames - frame < STRANGER_FRAMES and place.overlap(box) > SAME_FACE:
                self._strangers[i] = box, frame
                self.stranger = True
                return True
        return False

    def _distance(self, box: Box) -> float:
        """Distance from where the person was last seen, in face sizes, plus the change of size; 0 where no place is known."""
        if self._box is None or (self._placeless and self._others):
            return 0.0
        distance = np.hypot(box.x - self._box.x, box.y - self._box.y) / max(box.side, self._box.side)
        return float(distance + abs(np.log(box.side / self._box.side)))


def appearance_of(image: np.ndarray | Frame, box: Box) -> np.ndarray:
    """Descriptor that tells people apart: a coarse picture of head, hair and collar without brightness and contrast.

    Returns:
        float32 [771]; distances run from 0 to about 2.
    """
    window = cut_window(image, box.x, box.y, box.side * 1.6, 32)[0]
    small = np.log(cv2.resize(window, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) + 16)
    pattern = small - small.mean((0, 1))
    tint = (small - small.mean(2, keepdims=True)).mean((0, 1))
    return np.concatenate([pattern.ravel() / max(float(np.linalg.norm(pattern)), 1e-6), 4 * tint]).astype(np.float32)
