"""A face enhancer of the user's own, where there is one."""

import logging
from collections.abc import Callable

import cv2
import numpy as np

from cmet_engine.models import registry

log = logging.getLogger(__name__)

Enhancer = Callable[[np.ndarray], np.ndarray]
"""A rendered crop uint8 [256, 256, 3] to uint8 [512, 512, 3]."""


def load_enhancer() -> Enhancer | None:
    """A face enhancer (GFPGAN and its like) where the user has one, else None.

    It is the file `enhancer.onnx` in the models' folder, with one input [1, 3, 512, 512] RGB in [-1, 1] and one output of the
    same shape and range. The package `onnxruntime` runs it, where that is installed.
    """
    path = registry.models_folder() / "enhancer.onnx"
    if not path.is_file():
        return None
    try:
        import onnxruntime  # of the user's own choice
    except ImportError:
        log.warning("%s is there, but the package onnxruntime is not installed; faces are not enhanced.", path)
        return None
    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name

    def enhance(face: np.ndarray) -> np.ndarray:
        large = cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        out = session.run(None, {name: (large / 127.5 - 1).transpose(2, 0, 1)[None]})[0][0]
        return np.clip((out.transpose(1, 2, 0) + 1) * 127.5, 0, 255).round().astype(np.uint8)

    return enhance
