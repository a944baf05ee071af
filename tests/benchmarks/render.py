"""Milliseconds a frame of the warp renderer alone, on one thread, by size of picture and face.

python tests/benchmarks/render.py [--repeat 15]
"""

import argparse
import time

import cv2
import numpy as np

from cmet_engine import arkit
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.warp import facing_weights, warp

SIZES = ((256, 256, 140), (512, 512, 250), (1920, 1080, 600), (3840, 2160, 1200))  # width, height, face
CHANGE = {"mouthSmile": 0.6, "eyeSquint": 0.3, "browInnerUp": 0.4, "jawOpen": 0.2}


def main() -> None:
    """Print a line for every size: processor time, so that other programs do not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    repeat = parser.parse_args().repeat
    cv2.setNumThreads(1)
    delta = np.zeros((1, arkit.COUNT), np.float32)
    for prefix, value in CHANGE.items():
        delta[:, [i for i, name in enumerate(arkit.NAMES) if name.startswith(prefix)]] = value
    for width, height, face in SIZES:
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        scale = face / np.ptp(template().points[:468, 0])
        pose = Pose(np.array([scale]), np.eye(3)[None], np.array([[width / 2, -height / 2, 0.0]]))
        landmarks = denormalise(template().points[None], pose)
        times = np.empty((repeat, 2))
        for row in times:
            start = time.process_time()
            moves = landmark_motion(landmarks, delta) * facing_weights(landmarks)[..., None]
            middle = time.process_time()
            warp(image, landmarks[0], moves[0])
            row[:] = middle - start, time.process_time() - middle
        motion, drawing = np.median(times, 0) * 1000
        print(f"{width}x{height}, face {face} px: motion {motion:.1f} ms, drawing {drawing:.1f} ms")


if __name__ == "__main__":
    main()
