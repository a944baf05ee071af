"""Pictures and tones of which test clips are made."""

import numpy as np


def picture(index: int, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3]: smooth colours that move, brightest in the upper left corner, so turning it shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x / max(width, 2), y / max(height, 2)
    red = 220 * (1 - x) * (1 - y) + 20
    green = 120 + 80 * np.sin(3 * x + 0.2 * index)
    blue = 60 + 120 * y * np.cos(0.1 * index) ** 2
    return np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8)


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """int16 [S, C]: a tone that rises, a different one in each channel."""
    t = np.arange(round(seconds * rate)) / rate
    return np.stack(
        [(9000 * np.sin(2 * np.pi * (220 + 110 * c + 40 * t) * t)).astype(np.int16) for c in range(channels)], 1
    )
