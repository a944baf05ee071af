import numpy as np
import torch

from cmet_engine import arkit
from cmet_engine.face.mesh import Landmarker
from cmet_engine.media.reader import VideoReader
from cmet_engine.models.assets import ASSETS
from cmet_engine.training.blendshape_teacher import OUTPUTS, Teacher
from cmet_engine.training.face.samples import canonical


def test_the_teacher_says_what_mediapipe_says(shared):
    task = shared / "data" / "models" / "face_landmarker.task"
    landmarker = Landmarker(task)
    seen = []
    for frame in VideoReader(ASSETS / "sample" / "talking_head.mp4"):
        if frame.index % 50 == 0:
            seen.append(landmarker.detect(frame.image))
    landmarker.close()
    landmarks = torch.from_numpy(np.stack([points for points, _ in seen]))
    wanted = canonical(np.stack([scores for _, scores in seen]), list(OUTPUTS))
    np.testing.assert_allclose(Teacher(task)(landmarks).numpy(), wanted, atol=1e-3)


def test_canonical_order_goes_by_name():
    scores = np.arange(3, dtype=np.float32)[None]
    result = canonical(scores, ["jawOpen", "_neutral", "browDownLeft"])
    assert result[0, arkit.INDEX["jawOpen"]] == 0 and result[0, arkit.INDEX["browDownLeft"]] == 2
    assert result.sum() == 2
