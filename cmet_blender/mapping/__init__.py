"""Which shape key or bone of a rig takes which of the 52 coefficients, how strongly, and what is left over.

A mapping is one linear map. For a frame's coefficients c [52], with gain g, offset o and limits of each row,
the channels of the rig are

    u = clip(g * c + o, minimum, maximum)          values = u @ W

where a channel is a shape key by its name, or one axis of a bone written `BONE/move.X` or `BONE/rotate.Z`
(moves in units of the rig's face, turns in degrees, along the armature's axes: X to the character's left,
Y to its back, Z up). Splits (`browInnerUp` to two shapes) and merges (two coefficients to one shape) are
columns and rows of W, so everything inverts by least squares.

Conventions and saved mappings are the same kind of file, `rigs/*.json`. Only `spread` needs Blender.
"""

from .conventions import FORMAT, Convention, conventions, rigs_folder
from .guesses import GUESS_THRESHOLD, USED_FROM
from .least_squares import spread_missing, transferred
from .matching import match, reference_motion, spread
from .rig_mapping import RigMapping
from .rows import (
    CONVENTION,
    EXACT,
    GUESSED,
    KINDS,
    MANUAL,
    MISSING,
    ROTATIONS,
    SPREAD,
    Rotation,
    Row,
    format_weights,
    parse_weights,
    split_channel,
)
from .words import words

__all__ = [
    "CONVENTION",
    "EXACT",
    "FORMAT",
    "GUESSED",
    "GUESS_THRESHOLD",
    "KINDS",
    "MANUAL",
    "MISSING",
    "ROTATIONS",
    "SPREAD",
    "USED_FROM",
    "Convention",
    "RigMapping",
    "Rotation",
    "Row",
    "conventions",
    "format_weights",
    "match",
    "parse_weights",
    "reference_motion",
    "rigs_folder",
    "split_channel",
    "spread",
    "spread_missing",
    "transferred",
    "words",
]
