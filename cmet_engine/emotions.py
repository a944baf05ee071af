"""Names of the emotions, in one place."""

import re

BASIC = ("angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")
"""The seven basic emotions of the paper's data (MEAD), beside neutral."""

EXTENDED = ("charismatic", "desirous", "empathetic", "envious", "romantic", "sarcastic")
"""Emotions that the paper adds without video of them."""

NEUTRAL = "neutral"
LIBRARY = BASIC + EXTENDED
"""The emotions that ship with the package."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
"""What the user may call an emotion: it is a word of the timeline and the name of a file."""

LIKE = "like"
"""Name under which the expression of a reference (`EditSpec.like`) stands in timelines and reports."""
