"""Indices of MediaPipe's 478 face landmarks: which one lies where. Every other module takes them from here.

"Left" and "right" are the person's own. Lines run from the left of the picture (of an upright face) to its right.
Source: MediaPipe, `face_mesh_connections.py` and the canonical face model (`canonical_face_model_uv_visualization.png`).
"""

LANDMARKS = 478
SKIN = 468
"""The first 468 landmarks lie on the skin; the last ten are the irises."""

RIGHT_IRIS, LEFT_IRIS = 468, 473
"""Centres of the irises; the four landmarks that follow each lie on the iris's edge."""
IRIS = slice(SKIN, LANDMARKS)

OVAL: tuple[int, ...] = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of the face, from the middle of the forehead over the person's left temple around."""

FOREHEAD, CHIN_TIP, NOSE = 10, 152, 4
EARS = (234, 454)
CHIN: tuple[int, ...] = (17, 18, 200, 199)
"""Middle of the chin, from the lower lip down."""

UPPER_LIP_INNER: tuple[int, ...] = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER: tuple[int, ...] = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP_OUTER: tuple[int, ...] = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER: tuple[int, ...] = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""Both lips, corner to corner."""

UPPER_LIP_RED = ((62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292), (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306))
LOWER_LIP_RED = ((62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292), (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306))
"""Two lines on the red of each lip between its edges, the inner one first."""

INNER_LIP_CORNERS, OUTER_LIP_CORNERS = (78, 308), (61, 291)
INNER_LIPS = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
"""(upper, lower) landmarks of the inner lips across the middle half of the mouth."""
RED_OF_LIPS = (37, 0, 267, 84, 17, 314, 40, 270, 91, 321)
"""Landmarks on the red of the lips, away from its edges to skin and mouth."""

RIGHT_EYE_UPPER: tuple[int, ...] = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER: tuple[int, ...] = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER: tuple[int, ...] = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_EYE_LOWER: tuple[int, ...] = (362, 382, 381, 380, 374, 373, 390, 249, 263)
"""Both lids of each eye, corner to corner."""

RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)
OUTER_EYE_CORNERS = (33, 263)
"""Right and left; the distance between them is the unit of the pose-free space."""
LIDS = (
    ((384, 381), (385, 380), (386, 374), (387, 373)),
    ((157, 154), (158, 153), (159, 145), (160, 144)),
)
"""(upper, lower) landmarks of the left and the right eye, across the middle of each."""

OPENINGS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER),
    (UPPER_LIP_INNER, LOWER_LIP_INNER),
)
"""The holes of the face mesh (right eye, left eye, mouth), each as its upper and its lower edge."""

COARSE_EYES = ((33, 160, 158, 133, 153, 144), (263, 387, 385, 362, 380, 373))
COARSE_LIPS = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)
"""A few landmarks around each eye (right, left) and around the lips, for masks that are grown and softened anyway."""

FOREHEAD_LINES = ((9, 107, 66, 105, 63, 70), (151, 108, 69, 104, 68, 71), (10, 109, 67, 103, 54, 21))
"""Right half of the brow line and of two lines above it, from the middle outwards; each mirrored for the left."""

LID_STRIPS = (
    ((246, 161, 160, 159, 158, 157, 173), (247, 30, 29, 27, 28, 56, 190)),
    ((247, 30, 29, 27, 28, 56, 190), (113, 225, 224, 223, 222, 221, 189)),
    ((225, 224, 223, 222, 221), (46, 53, 52, 65, 55)),
    ((46, 53, 52, 65, 55), (70, 63, 105, 66, 107)),
)
"""Strips of the right upper lid from its edge up to the brow, and the brow: lower and upper landmarks from the outer corner inwards;
each mirrored for the left."""
