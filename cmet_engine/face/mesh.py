"""MediaPipe's face mesh and face detector, kept quiet and given windows of a frame. The only module that uses MediaPipe."""

import contextlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.media.info import Frame, cut

CROP = 384
"""Pixels, about: the face takes half of it, which is the 192 pixels of MediaPipe's own input."""
WINDOW = 2.0
"""Side of the window in face sizes: room for a tilted head and for a step between two frames."""
DETECTION_SIZE = 640
"""Pixels on the long side of what the detector is given; it works on 192."""
LEAST_SCORE = 0.5
"""Of a detection; MediaPipe's own default."""
SAME_FACE = 0.3
"""Overlap (intersection over union) of two boxes that are one face; MediaPipe's own default."""


@dataclass(frozen=True)
class Box:
    """A square around a face, in pixels: centre and side, and the detector's score."""

    x: float
    y: float
    side: float
    score: float = 1.0

    def overlap(self, other: "Box") -> float:
        """Intersection over union."""
        width = min(self.x + self.side / 2, other.x + other.side / 2) - max(
            self.x - self.side / 2, other.x - other.side / 2
        )
        height = min(self.y + self.side / 2, other.y + other.side / 2) - max(
            self.y - self.side / 2, other.y - other.side / 2
        )
        shared = max(0.0, width) * max(0.0, height)
        return shared / (self.side**2 + other.side**2 - shared)


def box_of(landmarks: np.ndarray) -> Box:
    """The square around landmarks [478, 3]."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    centre = (low + high) / 2
    return Box(float(centre[0]), float(centre[1]), float((high - low).max()))


def turned(image: np.ndarray, turns: int) -> np.ndarray:
    """A picture [H, W, 3] turned counter-clockwise by quarters; the very same array for none."""
    return np.ascontiguousarray(np.rot90(image, turns)) if turns % 4 else image


def turned_back(landmarks: np.ndarray, turns: int, size: tuple[int, int]) -> np.ndarray:
    """Landmarks [478, 3] found in a `turned` picture in pixels of the picture itself, whose (width, height) is `size`."""
    x, y, z = landmarks.T
    width, height = size
    places = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[turns % 4]
    return np.stack([*places, z], 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send the process's standard error away for a moment.

    MediaPipe's graphs and TensorFlow Lite write to file descriptor 2 from C++ threads when they start, whatever
    the logging level says.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no standard error at all (a service, a window without console)
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def load_mediapipe() -> Any:
    """The package mediapipe, imported without what only its drawing and sound helpers need.

    Those import matplotlib and sounddevice, which cost more time than all the rest and are not used here.
    """
    unused = [name for name in ("matplotlib", "matplotlib.pyplot", "sounddevice") if name not in sys.modules]
    sys.modules.update({name: ModuleType(name) for name in unused})
    try:
        import mediapipe
    finally:
        for name in unused:
            del sys.modules[name]
    return mediapipe


class Mesh:
    """Landmarks of the one face in a square window of a frame.

    Args:
        follow: pictures are the frames of one clip, in order, and the face is followed; off searches each window anew.
    """

    def __init__(self, *, follow: bool = True) -> None:
        with quiet():
            mediapipe = load_mediapipe()
            self._graph: Any = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=not follow, refine_landmarks=True, max_num_faces=1
            )
            self._graph.process(np.zeros((CROP, CROP, 3), np.uint8))  # the first call starts the threads that write
        self._writes = True  # to standard error, until the first face: only then the landmark network starts

    def close(self) -> None:
        """Close the graph."""
        with quiet():
            self._graph.close()

    def forget(self) -> None:
        """Forget the face: the next call searches the whole window."""
        self._graph.process(np.zeros((CROP, CROP, 3), np.uint8))

    def find(self, image: np.ndarray | Frame, around: Box) -> np.ndarray | None:
        """Landmarks float32 [478, 3] in pixels of `image` of the face in the window around a box, or None."""
        crop, left, top, side = cut_window(image, around.x, around.y, max(around.side, 8.0) * WINDOW, CROP)
        with quiet() if self._writes else contextlib.nullcontext():
            result = self._graph.process(crop).multi_face_landmarks
        if not result:
            return None
        self._writes = False
        points = np.array([(p.x, p.y, p.z) for p in result[0].landmark], np.float32) * side
        return points + np.array([left, top, 0], np.float32)


class Landmarker:
    """MediaPipe's face landmarker: landmarks and blendshape scores of the one face in a whole picture.

    Args:
        task: `face_landmarker.task`; None takes the bundled face mesh, which gives no scores.
        clip: pictures are the frames of one clip, in order, and the face is followed.

    Raises:
        NotFound: the file is missing.
        InvalidInput: it is no face landmarker.
    """

    def __init__(self, task: Path | None, *, clip: bool = False) -> None:
        self._clip, self._task = clip, task is not None
        if task is not None and not task.is_file():
            raise NotFound(f"The face landmarker {task} is missing; give the path of face_landmarker.task.")
        with quiet():
            mediapipe = load_mediapipe()
            self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
            self._graph: Any
            if task is None:
                self._graph = mediapipe.solutions.face_mesh.FaceMesh(
                    static_image_mode=not clip, refine_landmarks=True, max_num_faces=1
                )
            else:
                vision = mediapipe.tasks.vision
                options = vision.FaceLandmarkerOptions(
                    base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(task)),
                    running_mode=vision.RunningMode.VIDEO if clip else vision.RunningMode.IMAGE,
                    output_face_blendshapes=True,
                    num_faces=1,
                )
                try:
                    self._graph = vision.FaceLandmarker.create_from_options(options)
                except (RuntimeError, ValueError) as error:
                    raise InvalidInput(
                        f"{task} is not MediaPipe's face_landmarker.task; give the path of that file."
                    ) from error
            if not clip:  # whose time stamps begin with the first frame
                self.detect(np.zeros((CROP, CROP, 3), np.uint8))  # the first call starts the threads that write

    def close(self) -> None:
        """Close the graph."""
        with quiet():
            self._graph.close()

    def detect(self, image: np.ndarray, milliseconds: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
        """Landmarks float32 [478, 3] in pixels and 52 scores in MediaPipe's order (0 without a task), or None."""
        scores = np.zeros(52, np.float32)
        if self._task:
            picture = self._image(image_format=self._format, data=np.ascontiguousarray(image))
            found = self._graph.detect_for_video(picture, milliseconds) if self._clip else self._graph.detect(picture)
            if not found.face_landmarks:
                return None
            face = found.face_landmarks[0]
            scores = np.array([c.score for c in found.face_blendshapes[0]], np.float32)
        else:
            faces = self._graph.process(np.ascontiguousarray(image)).multi_face_landmarks
            if not faces:
                return None
            face = faces[0].landmark
        height, width = image.shape[:2]
        points = np.array([(p.x, p.y, p.z) for p in face], np.float32) * np.array([width, height, width], np.float32)
        return points, scores


def cut_window(
    image: np.ndarray | Frame, x: float, y: float, side: float, size: int
) -> tuple[np.ndarray, int, int, int]:
    """A square window of `image`, shrunk by a whole factor to about `size` pixels; black beyond the picture.

    Averaging whole blocks keeps fine texture from turning into jitter of the landmarks when a large face is shrunk, and
    is several times faster than any other factor; MediaPipe scales the rest.

    Returns:
        uint8 [S, S, 3], and left, top and side of the window in whole pixels.
    """
    factor = max(1, round(side / size))
    whole = max(8, round(side / factor)) * factor
    left, top = round(x - whole / 2), round(y - whole / 2)
    height, width = image.shape[:2]
    x0, x1, y0, y1 = max(0, left), min(width, left + whole), max(0, top), min(height, top + whole)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((size, size, 3), np.uint8), left, top, whole
    window = cut(image, (x0, y0, x1, y1))
    if window.shape[:2] != (whole, whole):
        window = cv2.copyMakeBorder(
            window, y0 - top, top + whole - y1, x0 - left, left + whole - x1, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
    if factor > 1:
        window = cv2.resize(window, (whole // factor, whole // factor), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(window), left, top, whole


class Detector:
    """Every face in a frame, roughly, with MediaPipe's full-range and short-range detectors."""

    def __init__(self) -> None:
        with quiet():
            detection = load_mediapipe().solutions.face_detection
            self._graphs: list[Any] = [
                detection.FaceDetection(model_selection=k, min_detection_confidence=LEAST_SCORE) for k in (1, 0)
            ]
            for graph in self._graphs:
                graph.process(np.zeros((64, 64, 3), np.uint8))
        self._beside = ThreadPoolExecutor(1)  # both look at a picture at the same time

    def close(self) -> None:
        """Close the graphs."""
        self._beside.shutdown()
        with quiet():
            for graph in self._graphs:
                graph.close()

    def find(self, image: np.ndarray, *, tiles: bool = False) -> list[Box]:
        """Faces in a frame [H, W, 3], largest first.

        Args:
            image: uint8 RGB.
            tiles: also search overlapping parts of the frame, for faces too small to be found in the whole.
        """
        height, width = image.shape[:2]
        boxes = self._detect(image, 0, 0)
        if tiles:
            side = min(height, width)
            for part in (side, side // 2):
                if part < 64:
                    break
                for top in _steps(height, part):
                    for left in _steps(width, part):
                        boxes += self._detect(image[top : top + part, left : left + part], left, top)
        return distinct(boxes)

    def _detect(self, image: np.ndarray, left: int, top: int) -> list[Box]:
        height, width = image.shape[:2]
        shrink = min(1.0, DETECTION_SIZE / max(height, width))
        small = image
        if shrink < 1:
            small = cv2.resize(
                image, (max(1, round(width * shrink)), max(1, round(height * shrink))), interpolation=cv2.INTER_AREA
            )
        small = np.ascontiguousarray(small)
        second = self._beside.submit(self._graphs[1].process, small)
        boxes = []
        for result in (self._graphs[0].process(small), second.result()):
            for found in result.detections or []:
                b = found.location_data.relative_bounding_box
                side = max(b.width * width, b.height * height)
                if side >= 8:
                    x, y = (b.xmin + b.width / 2) * width, (b.ymin + b.height / 2) * height
                    boxes.append(Box(left + x, top + y, side, float(found.score[0])))
        return boxes


def distinct(boxes: list[Box]) -> list[Box]:
    """Boxes without those that show the same face as one with a higher score; largest first, of equal ones the left one first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if all(box.overlap(other) < SAME_FACE for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda b: (-b.side, b.x))


def _steps(length: int, part: int) -> list[int]:
    """Where parts of a side begin so that neighbours overlap by at least a third."""
    if length <= part:
        return [0]
    count = int(np.ceil((length - part) / (part * 2 / 3))) + 1
    return [round(s) for s in np.linspace(0, length - part, count)]
