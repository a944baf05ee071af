"""Timecode: labels and numbers of frames, drop-frame included."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine.errors import InvalidInput
from cmet_engine.timecode import Timecode, can_drop, nominal

NTSC, NTSC_FILM, NTSC_TWICE = Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001)
RATES = [
    NTSC_FILM,
    Fraction(24),
    Fraction(25),
    NTSC,
    Fraction(30),
    Fraction(50),
    NTSC_TWICE,
    Fraction(120),
    Fraction(15),
]


@given(st.sampled_from(RATES), st.integers(0, 86400 * 15 - 1), st.booleans())
def test_labels_and_numbers_of_frames_agree(rate: Fraction, frames: int, drop: bool) -> None:
    code = Timecode(frames, rate, drop and can_drop(rate))
    assert Timecode.parse(str(code), rate) == code
    assert (";" in str(code)) == code.drop


@given(st.sampled_from(RATES), st.integers(0, 86400 * 15 - 1), st.integers(-500, 500), st.booleans())
def test_counting_on_is_counting_frames(rate: Fraction, frames: int, more: int, drop: bool) -> None:
    code = Timecode(frames, rate, drop and can_drop(rate))
    assert (code + more) + -more == code
    assert str(code + 1) != str(code)


@pytest.mark.parametrize(
    ("text", "rate", "frames"),
    [
        ("00:00:59;29", NTSC, 1799),
        ("00:01:00;02", NTSC, 1800),
        ("00:10:00;00", NTSC, 17982),
        ("01:00:00;00", NTSC, 107892),
        ("00:01:00;04", NTSC_TWICE, 3600),
        ("01:00:00:00", NTSC, 108000),
        ("01:00:00:00", NTSC_FILM, 86400),
        ("10:00:00:12", Fraction(25), 900012),
        ("23:59:59;29", NTSC, 2589407),
    ],
)
def test_known_labels(text: str, rate: Fraction, frames: int) -> None:
    code = Timecode.parse(text, rate)
    assert code.frames == frames and str(code) == text


def test_drop_frame_keeps_up_with_the_clock() -> None:
    assert abs(107892 / NTSC - 3600) < 0.004
    assert Timecode(107892, NTSC, drop=True).seconds == 3600


def test_midnight() -> None:
    assert str(Timecode.parse("23:59:59:24", 25) + 1) == "00:00:00:00"
    assert str(Timecode.parse("23:59:59;29", NTSC) + 1) == "00:00:00;00"


def test_a_rate_without_drop_frame_has_plain_labels() -> None:
    assert str(Timecode.parse("10:11:12;13", 25)) == "10:11:12:13"
    assert not can_drop(NTSC_FILM) and not can_drop(30) and can_drop(NTSC)
    assert nominal(NTSC_FILM) == 24


@pytest.mark.parametrize(
    "text", ["", "1", "10:11:12", "10:11:12:25", "24:00:00:00", "10:60:00:00", "10:00:60:00", "a:b:c:d"]
)
def test_what_is_no_timecode(text: str) -> None:
    with pytest.raises(InvalidInput, match="timecode"):
        Timecode.parse(text, 25)


def test_a_label_that_drop_frame_leaves_out() -> None:
    with pytest.raises(InvalidInput, match="left out"):
        Timecode.parse("00:01:00;00", NTSC)
