"""How the landmarks of a face move when its coefficients change."""

import numpy as np

from cmet_engine.face.blendshapes import load_basis


def landmark_motion(landmarks: np.ndarray, source: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Motion of the landmarks of single frames.

    Args:
        landmarks: [N, 478, 3] pixels.
        source: [N, 52], the coefficients of these frames as they are.
        delta: [N, 52], how the coefficients shall change.

    Returns:
        float32 [N, 478, 3] pixels.
    """
    return load_basis().motion(landmarks, delta)
