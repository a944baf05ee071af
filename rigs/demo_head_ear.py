"""The left ear of the demo head, by formula."""

import numpy as np
from demo_head_mesh import smoothstep


def ear() -> tuple[np.ndarray, np.ndarray]:
    """The left ear: a polar height field with helix, antihelix, concha and lobe, laid against the head."""
    spokes, rings = 44, 15
    rho = np.concatenate([np.linspace(0.06, 1.0, rings), [1.03, 0.98, 0.7]])
    phi = np.linspace(0, 2 * np.pi, spokes, endpoint=False)  # 0: back, 90 degrees: up
    p, f = np.meshgrid(rho, phi, indexing="ij")
    up, down = np.clip(np.sin(f), 0, 1), np.clip(-np.sin(f), 0, 1)
    front = np.clip(-np.cos(f), 0, 1)
    outline = 17.0 + 17.0 * up**1.5 + 16.0 * down**2 + 2.5 * np.clip(np.cos(f), 0, 1) * up - 3.5 * front
    lobe, open_front = smoothstep(0.55, 0.95, down), smoothstep(0.2, 0.9, front) * (1 - smoothstep(0.5, 0.9, up))

    def ridge(where: float, width: float) -> np.ndarray:
        return np.exp(-(((p - where) / width) ** 2))

    height = 6.5 * ridge(0.95, 0.09) * (1 - 0.9 * lobe) * (1 - 0.8 * open_front)  # helix
    height += 5.5 * ridge(0.62, 0.12) * (1 - lobe) * (1 - open_front) * (1 - 0.45 * up)  # antihelix
    height += 4.0 * ridge(0.66, 0.16) * smoothstep(0.75, 1.0, front)  # tragus
    height += 4.0 * lobe * smoothstep(1.08, 0.6, p)
    height -= 7.0 * smoothstep(0.5, 0.12, p)  # concha
    height = height + 6.0
    last = np.array([0.0] * rings + [-2.5, -6.0, -12.0])  # the back of the ear, down to the head
    height = np.where(np.arange(len(rho))[:, None] >= rings, height[rings - 1] + last[:, None], height)
    back, high = p * outline * np.cos(f), p * outline * np.sin(f)
    local = np.stack([back, high, height], axis=-1).reshape(-1, 3)
    flare, lean = np.radians(18), np.radians(-11)
    # ear's own axes: back along the head and away from it, up, and out of it
    e_back = np.array([np.sin(flare), 0, -np.cos(flare)])
    e_out = np.array([np.cos(flare), 0, np.sin(flare)])
    e_up = np.array([0.0, 1.0, 0.0])
    a, b = (
        local[:, 0] * np.cos(lean) - local[:, 1] * np.sin(lean),
        local[:, 0] * np.sin(lean) + local[:, 1] * np.cos(lean),
    )
    points = np.array([69.5, 11.0, -86.0]) + a[:, None] * e_back + b[:, None] * e_up + local[:, 2:] * e_out
    tris = []
    for r in range(len(rho) - 1):
        for s in range(spokes):
            t = (s + 1) % spokes
            i, j, k, m = r * spokes + s, r * spokes + t, (r + 1) * spokes + s, (r + 1) * spokes + t
            tris += [[i, j, k], [j, m, k]]
    centre = len(points)
    points = np.concatenate([points, points[:spokes].mean(axis=0, keepdims=True)])
    tris += [[centre, (s + 1) % spokes, s] for s in range(spokes)]
    return points, np.array(tris)
