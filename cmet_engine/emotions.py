"""Names of the emotions, in one place."""

BASIC = ("angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")
"""The seven basic emotions of the paper's data (MEAD), beside neutral."""

EXTENDED = ("charismatic", "desirous", "empathetic", "envious", "romantic", "sarcastic")
"""Emotions that the paper adds without video of them."""

NEUTRAL = "neutral"
LIBRARY = BASIC + EXTENDED
"""The emotions that ship with the package."""
