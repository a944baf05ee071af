"""Measure the guide of the demo head: the median neutral face of many people, made symmetric.

    python rigs/measure_face_guide.py PICTURES_FOLDER

The folder holds pictures of faces and an `index.csv` with the columns path, person, emotion. What is kept is one statistic over
all of them: the median position of each landmark that MediaPipe's face mesh sees, after pose and size are taken out. No single
face can be read back from it. The guide is committed; this script is here so that it can be measured again.
"""

import csv
import sys
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python.vision import FaceLandmarksConnections
from scipy.optimize import linear_sum_assignment

OUT = Path(__file__).with_name("face_guide.npz")
OUTER_EYES = (33, 263)
EYES_APART_MM = 92.0  # outer canthal breadth of an adult; Farkas, Anthropometry of the Head and Face, 1994: 86 to 97 mm
MOUTH_CORNERS, INNER_LIPS, FOREHEAD, CHIN = (61, 291), (13, 14), 10, 152
UPPER_INNER_LIP, LOWER_INNER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415), (95, 88, 178, 87, 14, 317, 402, 318, 324)
POINTS = 468
HELD_OUT = 5  # every fifth person of the pictures is kept for tests throughout the project and measured nowhere


def landmarks(folder: Path) -> np.ndarray:
    """Landmarks [M, 468, 3] (x right, y up, z to the viewer; pixels) of the neutral, frontal faces, one per person."""
    mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    found: dict[str, np.ndarray] = {}
    with (folder / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] == "neutral"]
    rows = [row for row in rows if int(row["person"][1:], 16) % HELD_OUT]
    for row in rows:
        if row["person"] in found:
            continue
        image = cv2.cvtColor(cv2.imread(str(folder / row["path"])), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        faces = mesh.process(image).multi_face_landmarks
        if not faces:
            continue
        points = np.array([(p.x * width, -p.y * height, -p.z * width) for p in faces[0].landmark][:POINTS])
        if frontal(points) and lips_closed(points):
            found[row["person"]] = points
    return np.stack(list(found.values()))


def frontal(points: np.ndarray) -> bool:
    """Whether the line through the outer eye corners points at most 8 degrees into the picture."""
    across = points[OUTER_EYES[1]] - points[OUTER_EYES[0]]
    return abs(np.degrees(np.arctan2(across[2], across[0]))) < 8


def lips_closed(points: np.ndarray) -> bool:
    """Whether the inner lips are nearer than 4 % of the mouth's width."""
    width = np.linalg.norm(points[MOUTH_CORNERS[1]] - points[MOUTH_CORNERS[0]])
    return bool(np.linalg.norm(points[INNER_LIPS[0]] - points[INNER_LIPS[1]]) < 0.04 * width)


def median_face(faces: np.ndarray) -> np.ndarray:
    """Median of faces [M, 468, 3] after generalised Procrustes alignment (Gower 1975), unit size."""
    faces = faces - faces.mean(axis=1, keepdims=True)
    faces /= np.sqrt((faces**2).sum(axis=(1, 2), keepdims=True))
    mean = faces[0]
    for _ in range(6):
        u, _, vt = np.linalg.svd(np.einsum("ki,nkj->nij", mean, faces))
        u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        mean = np.median(np.einsum("nij,nkj->nki", u @ vt, faces), axis=0)
        mean /= np.sqrt((mean**2).sum())
    return mean


def symmetric(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Face [468, 3] with its mirror plane at x = 0, and each point's partner on the other side."""
    across = points[OUTER_EYES[1]] - points[OUTER_EYES[0]]
    across /= np.linalg.norm(across)
    up = points[FOREHEAD] - points[CHIN]
    up -= across * (up @ across)
    up /= np.linalg.norm(up)
    points = (points - points.mean(axis=0)) @ np.stack([across, up, np.cross(across, up)]).T
    for _ in range(10):
        other = points * [-1, 1, 1]
        distance = np.linalg.norm(points[:, None] - other[None], axis=2)
        distance[np.ix_(UPPER_INNER_LIP, LOWER_INNER_LIP)] = distance[np.ix_(LOWER_INNER_LIP, UPPER_INNER_LIP)] = 1e3
        partner = linear_sum_assignment(distance**2)[
            1
        ]  # one to one: thin lips lie nearer to each other than to their partners
        u, _, vt = np.linalg.svd((points - points.mean(axis=0)).T @ (other[partner] - other[partner].mean(axis=0)))
        points = ((points - points.mean(axis=0)) @ (u @ vt) + other[partner] - other[partner].mean(axis=0)) / 2
    if (partner[partner] != np.arange(POINTS)).any():
        raise SystemExit("The faces found are too few or too one-sided to pair left and right; use more pictures.")
    points[:, 0] -= points[partner == np.arange(POINTS), 0].mean()
    return (points + (points * [-1, 1, 1])[partner]) / 2, partner


def triangles(points: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The landmarks' triangles [T, 3], seen from the front counter-clockwise, the same on both sides."""
    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    found = []
    for first, second in zip(edges[::3], edges[1::3], strict=True):
        corners = list(dict.fromkeys((first.start, first.end, second.start, second.end)))
        centre = points[corners, 0].mean()
        if centre > 0:
            found.append(corners)
            found.append([int(partner[c]) for c in reversed(corners)])
    return np.array(found)


def main() -> None:
    """Measure and write `face_guide.npz`."""
    faces = landmarks(Path(sys.argv[1]))
    points, partner = symmetric(median_face(faces))
    points *= EYES_APART_MM / np.linalg.norm(points[OUTER_EYES[1]] - points[OUTER_EYES[0]])
    corners = triangles(points, partner)
    np.savez_compressed(
        OUT, points=points.astype(np.float32), mirror=partner.astype(np.int16), triangles=corners.astype(np.int16)
    )
    print(f"{OUT.name}: median of {len(faces)} faces, {len(corners)} triangles")


if __name__ == "__main__":
    main()
