"""Samples for the occlusion network: faces, occluders drawn over them, and what a camera does to the picture."""

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from cmet_engine.errors import InvalidInput
from cmet_engine.face.crop import apply, crop_transform
from cmet_engine.face.mesh import Detector, Mesh, box_of, cut_window
from cmet_engine.face.occlusion_network import SIDE
from cmet_engine.face.pose import mirrored
from cmet_engine.files import whole_file
from cmet_engine.media.picture import read_picture
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.labelled_pictures import group_of, read_masks, read_people
from cmet_engine.training.occlusion import objects
from cmet_engine.training.occlusion.glasses import draw_glasses
from cmet_engine.training.occlusion.layers import CANVAS, Scene

WINDOW = 224
"""Pixels of the window around a face that is kept of a picture, nearly twice as wide as the face."""

SOLID: tuple[tuple[float, objects.Draw], ...] = (
    (0.5, objects.draw_hand), (0.2, objects.draw_thing), (0.15, objects.draw_microphone), (0.08, objects.draw_cup),
    (0.07, objects.draw_veil),
)  # fmt: skip
"""How often each of the large occluders is drawn where one is."""

GLASSES, HAIR, LARGE, WRITING, SHADOW, BARE = 0.5, 0.06, 0.42, 0.03, 0.15, 0.15
"""Shares of the samples with each kind; `BARE` get nothing but shadows."""

MARKED = 0.4
"""Share of the samples that begin with a face before which something lies already, where there are such faces."""

UNKNOWN = 128
"""Value of pixels of a stored mask of which nobody can say whether they are covered."""


@dataclass(frozen=True)
class Faces:
    """Faces: `pictures` uint8 [N, 224, 224, 3], `landmarks` float32 [N, 478, 3] in them, and whose they are, text [N].

    `covered` uint8 [N, 224, 224] is 255 where something lies before the face, `UNKNOWN` or 0.
    """

    pictures: np.ndarray
    landmarks: np.ndarray
    person: np.ndarray
    covered: np.ndarray

    def chosen(self, keep: np.ndarray) -> "Faces":
        """Only those where `keep` is True."""
        return Faces(self.pictures[keep], self.landmarks[keep], self.person[keep], self.covered[keep])

    @cached_property
    def marked(self) -> np.ndarray:
        """Numbers of the faces before which something lies."""
        return np.flatnonzero((self.covered == 255).any((1, 2)))

    @property
    def held_out(self) -> np.ndarray:
        """bool [N], faces of every fifth person."""
        return np.array([group_of(person) == 0 for person in self.person])


def read_faces(index: Path, stored: Path, progress: Progress | None = None) -> Faces:
    """The faces of a table of pictures, from `stored` where that is there.

    Args:
        index: columns `path` (beside the table) and `person`, and `mask`, if there is one: a picture of the same size that is
            255 where something lies before the face, 128 where nobody can say, else 0; empty for a bare face.
        stored: a file that keeps the windows.
        progress: called with ("observe", pictures done, in all).

    Raises:
        CmetError: the table or a picture cannot be read, or no face was found.
    """
    if not stored.is_file():
        found = _find(index, progress)
        with whole_file(stored) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(found))
    with np.load(stored) as arrays:
        return Faces(**arrays)


def _find(index: Path, progress: Progress | None) -> Faces:
    rows, masks = read_people(index), read_masks(index)
    pictures, landmarks, person, covered = [], [], [], []
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        for done, (path, who) in enumerate(rows, 1):
            mask = read_picture(index.parent / masks[path]) if path in masks else None
            if (face := window_of(read_picture(index.parent / path), detector, mesh, mask)) is not None:
                pictures.append(face[0])
                landmarks.append(face[1])
                person.append(who)
                covered.append(face[2])
            if progress:
                progress(Stage.OBSERVE, done, len(rows))
    if not pictures:
        raise InvalidInput(f"{index}: no face was found in any of its {len(rows)} pictures.")
    return Faces(np.array(pictures), np.array(landmarks), np.array(person), np.array(covered))


def window_of(
    image: np.ndarray, detector: Detector, mesh: Mesh, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The largest face of a picture: a window around it uint8 [224, 224, 3], landmarks float32 [478, 3] in it, and the same window
    of its mask, uint8 [224, 224]."""
    for box in detector.find(image):
        mesh.forget()
        points = mesh.find(image, box)
        if points is None or (points := mesh.find(image, box_of(points))) is None:
            continue
        place = box_of(points)
        window, left, top, side = cut_window(image, place.x, place.y, 1.9 * place.side, WINDOW)
        window = cv2.resize(window, (WINDOW, WINDOW), interpolation=cv2.INTER_AREA)
        covered = np.zeros((WINDOW, WINDOW), np.uint8)
        if mask is not None:
            cut = cut_window(mask, place.x, place.y, 1.9 * place.side, WINDOW)[0][..., 0]
            covered = np.asarray(cv2.resize(cut, (WINDOW, WINDOW), interpolation=cv2.INTER_NEAREST), np.uint8)
        return window, ((points - np.array([left, top, 0])) * (WINDOW / side)).astype(np.float32), covered
    return None


def draw_scene(faces: Faces, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Somebody's face with occluders before it.

    Args:
        faces: to choose from; the others lend their textures.
        random: decides everything.

    Returns:
        uint8 [192, 192, 3], the canonical crop, and uint8 [192, 192, 2]: what of it lies before the face, and where that is known.
    """
    marked = len(faces.marked) > 0 and random.random() < MARKED
    number = random.choice(faces.marked) if marked else random.integers(len(faces.person))
    scene, known = _scene(faces, int(number), random)
    if random.random() < SHADOW:
        objects.cast_shadow(scene, random)
    if random.random() > BARE:
        if random.random() < HAIR:
            objects.draw_hair(scene, random)
        if random.random() < GLASSES and not scene.covered.any():
            draw_glasses(scene, random)
        if random.random() < LARGE:
            chances, draws = zip(*SOLID, strict=True)
            draws[random.choice(len(draws), p=np.array(chances))](scene, random)
        if random.random() < WRITING:
            objects.draw_writing(scene, random)
    covered = cv2.dilate(scene.covered, np.ones((3, 3), np.uint8))  # with its soft edge
    known = np.maximum(known, covered)
    return np.clip(scene.picture, 0, 255).astype(np.uint8), np.round(255 * np.dstack([covered, known])).astype(np.uint8)


def photograph(scene: tuple[np.ndarray, np.ndarray], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A `draw_scene` as some camera sees it: the crop uint8 [128, 128, 3], what lies before the face and where that is known, float32
    [128, 128, 2]."""
    picture, covered = scene
    if random.random() < 0.5:
        picture, covered = (np.ascontiguousarray(layer[:, ::-1]) for layer in scene)
    place = _jitter(random, 0.03)
    size = (CANVAS, CANVAS)
    picture = cv2.warpAffine(picture, place, size, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpAffine(covered, place, size, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.resize(covered, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if random.random() < 0.3:
        picture = _tight(picture, random)
    return _photographed(picture, random), covered.astype(np.float32) / 255


def _tight(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture as if the frame ended near the face: what lies beyond is the last row or column again."""
    left, top, right, bottom = (random.uniform(0, 0.2, 4) * CANVAS * [1, 0.6, 1, 0.6]).astype(int)
    inner = picture[top : CANVAS - bottom, left : CANVAS - right]
    return cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE)


def _jitter(random: np.random.Generator, amount: float) -> np.ndarray:
    """A similarity [2, 3] of the canvas near the identity."""
    angle, scale = random.normal(0, amount), np.exp(random.normal(0, amount))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    half = np.full(2, CANVAS / 2)
    return np.column_stack([turn, half - turn @ half + random.normal(0, amount / 2 * CANVAS, 2)])


def _scene(faces: Faces, number: int, random: np.random.Generator) -> tuple[Scene, np.ndarray]:
    """The canonical crop of a face, a little off, now and then mirrored, and where it is known what covers it, float32 [192, 192]."""
    picture, landmarks = faces.pictures[number], faces.landmarks[number].astype(np.float64)
    mask = faces.covered[number]
    if random.random() < 0.5:
        picture, mask = np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        landmarks = mirrored(landmarks[None], picture.shape[1] - 1)[0]
    transform = crop_transform(landmarks, CANVAS)
    jitter = _jitter(random, 0.05)
    linear = jitter[:, :2] @ transform[:, :2]
    place = np.column_stack([linear, apply(jitter, transform[:, 2])])
    drawn = cv2.warpAffine(picture, place, (CANVAS, CANVAS), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    size = float(np.sqrt(np.linalg.det(linear)))
    points = np.column_stack([apply(place, landmarks), landmarks[:, 2] * size])
    others = [faces.pictures[k] for k in random.integers(len(faces.pictures), size=2)]
    covered, unknown = (
        cv2.warpAffine((mask == value).astype(np.float32), place, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)
        for value in (255, UNKNOWN)
    )
    return Scene(drawn.astype(np.float32), points, covered, others), (unknown < 0.25).astype(np.float32)


def _photographed(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What cameras, light and codecs do: uint8 [128, 128, 3] of a picture [192, 192, 3]."""
    if random.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 2.0))
    if random.random() < 0.25:
        small = int(random.integers(60, 128))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    picture = cv2.resize(
        picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA if len(picture) > SIDE else cv2.INTER_LINEAR
    )
    tones = np.clip(np.arange(256) / 255, 0, 1) ** np.exp(random.normal(0, 0.25)) * 255
    tones = (tones - 128) * random.uniform(0.7, 1.2) + 128 + random.normal(0, 18) + random.normal(0, 8, (3, 1))
    coloured = cv2.LUT(np.clip(picture, 0, 255).astype(np.uint8), np.ascontiguousarray(tones.T[None], np.float32))
    saturation = 0.0 if random.random() < 0.35 else random.uniform(0.4, 1.4)
    gray = coloured.mean(2, keepdims=True)
    picture = gray + (coloured - gray) * np.float32(saturation)
    if random.random() < 0.5:
        picture += random.standard_normal(picture.shape, np.float32) * np.float32(random.uniform(0, 8))
    result = np.clip(picture, 0, 255).astype(np.uint8)
    if random.random() < 0.35:
        coded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))])[1]
        result = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return result
