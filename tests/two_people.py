"""Clips with two people, for tests: the sample's head, and another one that is drawn from it with another shape and colour."""

from pathlib import Path

import cv2
import numpy as np

from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.models.assets import ASSETS

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
SIZE = 256


def sample_heads(count: int) -> list[np.ndarray]:
    """The first pictures of the sample's head: uint8 [256, 256, 3]."""
    first = []
    for frame in VideoReader(SAMPLE):
        if frame.index == count:
            break
        first.append(cv2.resize(frame.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
    return first


def heads(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first pictures of the sample's head and of the other one: uint8 [256, 256, 3]."""
    first = sample_heads(count)
    return first, [somebody_else(picture) for picture in reversed(first)]


def somebody_else(picture: np.ndarray) -> np.ndarray:
    """A narrower head with a longer nose, darker, of another tint, mirrored."""
    size = len(picture)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    across, down = x / size - 0.5, y / size - 0.5
    source_x = size * (0.5 + across * (1 + 0.3 * np.cos(1.5 * np.pi * down)))
    source_y = size * (0.5 + down - 0.06 * np.sin(2.4 * np.pi * down) + 0.045 * np.cos(3 * np.pi * across))
    drawn = cv2.remap(picture, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = cv2.cvtColor(drawn, cv2.COLOR_RGB2HSV)
    colours[..., 0] = (colours[..., 0].astype(int) + 8) % 180
    return (cv2.cvtColor(colours, cv2.COLOR_HSV2RGB) * 0.75).astype(np.uint8)[:, ::-1]


def side_by_side(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray:
    """A picture 640 pixels wide with a head on either side, where there is one."""
    canvas = np.full((320, 640, 3), 96, np.uint8)
    for picture, x in ((left, 30), (right, 350)):
        if picture is not None:
            canvas[40 : 40 + SIZE, x : x + SIZE] = picture
    return canvas


def write(path: Path, pictures: list[np.ndarray]) -> Path:
    """Write pictures as a clip of 25 frames a second."""
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, 25) as writer:
        for picture in pictures:
            writer.write(picture)
    return path
