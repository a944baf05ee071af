"""Timecode as the headers of DPX and OpenEXR files hold it: decimal digits in a word of 32 bits, 0xHHMMSSFF (SMPTE ST 12-1)."""

from fractions import Fraction

from cmet_engine.timecode import Timecode, can_drop, nominal

UNDEFINED = 0xFFFFFFFF
_DROP, _SECOND_OF_PAIR = 0x40, 0x8000
_DIGITS = 0x3F7F7F3F


def packed(timecode: Timecode) -> int:
    """The word of a label; above 30 frames a second two frames have one number, and a bit tells them apart."""
    *clock, frame = (int(part) for part in str(timecode).replace(";", ":").split(":"))
    frame, second = divmod(frame, 2) if nominal(timecode.rate) > 30 else (frame, 0)
    word = int("".join(f"{part:02d}" for part in (*clock, frame)), 16)
    return word | _DROP * timecode.drop | _SECOND_OF_PAIR * second


def label(word: int, rate: Fraction) -> str:
    """The label of a word; empty where it is none."""
    digits = f"{word & _DIGITS:08x}"
    if word == UNDEFINED or not digits.isdigit():
        return ""
    frame = int(digits[6:])
    if nominal(rate) > 30:
        frame = 2 * frame + bool(word & _SECOND_OF_PAIR)
    drop = word & _DROP and can_drop(rate)
    return f"{digits[:2]}:{digits[2:4]}:{digits[4:6]}{';' if drop else ':'}{frame:02d}"
