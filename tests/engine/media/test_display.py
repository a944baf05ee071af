"""The display picture of HDR, log and scene-linear footage: published values, the way there and back, names."""

from pathlib import Path

import numpy as np
import PyOpenColorIO
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cmet_engine.choices import InputSpace
from cmet_engine.errors import CmetError
from cmet_engine.media import display, ocio
from cmet_engine.media.display import display_of

STEP = 1 / 65535
NAMES = ["PQ", "HLG", "LogC3", "LogC4", "S-Log3", "V-Log", "Rec.2020"]


def colours(least: float, most: float, dtype: type = np.float64) -> st.SearchStrategy[np.ndarray]:
    values = st.floats(least, most, width=32)
    return arrays.arrays(dtype, (4, 5, 3), elements=values)


def grey(value: float) -> np.ndarray:
    return np.full((1, 1, 3), value)


def light(name: str, code: float) -> float:
    return float(display_of(InputSpace(name)).linear(grey(code))[0, 0, 1])


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("PQ", 0.50808, 100 / 203),  # ITU-R BT.2408, table 1: 100 nits
        ("PQ", 0.58068, 1.0),  # 203 nits
        ("PQ", 0.75183, 1000 / 203),
        ("PQ", 1.0, 10_000 / 203),
        ("HLG", 0.75, 1.0),  # ITU-R BT.2408, table 1: the reference level, 203 nits
        ("HLG", 1.0, 1000 / 203),
        ("LogC3", 0.391, 0.18),  # ARRI, ALEXA LogC curve, EI 800
        ("LogC4", 0.27840, 0.18),  # ARRI LogC4 specification, 2022
        ("S-Log3", 420 / 1023, 0.18),  # Sony, technical summary for S-Gamut3.Cine/S-Log3
        ("S-Log3", 598 / 1023, 0.9),
        ("V-Log", 0.42331, 0.18),  # Panasonic, V-Log/V-Gamut reference manual: 42 %
        ("ACEScg", 0.18, 0.18),
        ("ACES2065-1", 0.18, 0.18),
        ("sRGB", 188 / 255, 0.503),
    ],
)
def test_published_values(name: str, code: float, expected: float) -> None:
    assert light(name, code) == pytest.approx(expected, rel=4e-3)


def test_the_published_points_of_the_hdr_curves() -> None:
    assert display.hlg_to_scene(np.array(0.5)) == pytest.approx(1 / 12)
    assert display.hlg_from_scene(np.array(1.0)) == pytest.approx(1, abs=1e-6)
    assert display.pq_from_light(np.array(100 / 203)) == pytest.approx(0.5081, abs=1e-4)
    forward = ocio._config(f"ocio://{ocio.BUILT_IN}").getProcessor(
        PyOpenColorIO.BuiltinTransform("CURVE - ST-2084_to_LINEAR")
    )
    codes = np.linspace(0, 1, 300, dtype=np.float32).reshape(1, 100, 3)
    theirs = codes.copy()
    forward.getDefaultCPUProcessor().applyRGB(theirs)  # 1 = 100 nits
    np.testing.assert_allclose(display.pq_to_light(codes) * 2.03, theirs, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(code=colours(0, 1))
def test_every_colour_returns_in_float64(name: str, code: np.ndarray) -> None:
    if name == "LogC4":
        code = code * 0.8  # above it are values of many times white, where OpenColorIO's float32 is the limit
    transform = display_of(InputSpace(name))
    again = transform.from_display(transform.to_display(code))
    assert np.abs(again - code).max() < STEP


@pytest.mark.parametrize("name", NAMES)
@given(value=st.floats(0, 1, width=32), tint=colours(-0.0625, 0.0625, np.float32))
def test_the_colours_of_pictures_return_in_float32(name: str, value: float, tint: np.ndarray) -> None:
    code = np.clip(np.float32(value) + tint, 0.1, 0.8)
    transform = display_of(InputSpace(name))
    shown = transform.to_display(code)
    assert shown.dtype == np.float32
    assert np.abs(transform.from_display(shown) - code).max() < STEP


@pytest.mark.parametrize("name", ["ACEScg", "ACES2065-1", "Linear Rec.709 (sRGB)", "Linear Rec.2020"])
@given(code=colours(-2, 1000, np.float32), scale=st.sampled_from([1, 1e-2, 1e-4]))
def test_scene_linear_light_returns(name: str, code: np.ndarray, scale: float) -> None:
    code = code * np.float32(scale)
    transform = display_of(InputSpace(name))
    again = transform.from_display(transform.to_display(code))
    assert (np.abs(again - code) <= 1e-4 * np.abs(code).max(-1, keepdims=True) + 1e-9).all()


@pytest.mark.parametrize("name", [*NAMES, "ACEScg"])
def test_the_picture_gets_brighter_with_the_light_and_stays_in_range(name: str) -> None:
    transform = display_of(InputSpace(name))
    codes = np.linspace(0, 6 if name == "ACEScg" else 1, 4000, dtype=np.float32)
    shown = transform.to_display(np.repeat(codes[:, None, None], 3, 2))[:, 0]
    assert (np.diff(shown, axis=0) >= 0).all() and shown[0].max() < 0.1 and shown.max() < 1.25
    np.testing.assert_allclose(shown, shown[:, :1].repeat(3, 1), atol=1e-5)  # grey stays grey


@pytest.mark.parametrize("name", [*NAMES, "ACEScg"])
def test_the_proxy_is_the_display_picture_in_8_bits(name: str) -> None:
    transform = display_of(InputSpace(name))
    code = np.random.default_rng(0).random((40, 50, 3), np.float32)
    exact = transform.to_display(code).clip(0, 1) * 255
    assert np.abs(transform.proxy(code) - exact).max() < 1
    integers = np.rint(code * 65535).astype(np.uint16)
    assert np.abs(transform.proxy_of_integers(integers) - exact).max() < 1


def test_not_a_number_and_infinity_make_a_picture() -> None:
    code = np.array([[[np.nan, np.inf, -np.inf]]], np.float32)
    assert display_of(InputSpace("ACEScg")).proxy(code).dtype == np.uint8


@pytest.mark.parametrize("name", ["sRGB", "Rec.709", "rec709", "BT.601", None])
def test_ordinary_pictures_are_left_as_they_are(name: str | None) -> None:
    transform, code = display_of(InputSpace(name)), np.ones((2, 2, 3), np.float32)
    assert transform.ordinary and transform.to_display(code) is code and transform.from_display(code) is code


@pytest.mark.parametrize(
    ("name", "space"),
    [("logc3", "ARRI LogC3 (EI800)"), ("SLog3", "S-Log3 S-Gamut3.Cine"), ("scene_linear", "ACEScg"), ("acescg", "ACEScg"),
     ("lin_rec709", "Linear Rec.709 (sRGB)"), ("pq", "PQ"), ("ST 2084", "PQ"), ("apple_log", "Apple Log")],
)  # fmt: skip
def test_names_aliases_and_roles(name: str, space: str) -> None:
    assert display_of(InputSpace(name)).name == space


def test_an_unknown_name_is_answered_with_those_near_it() -> None:
    with pytest.raises(CmetError, match=r"The color space 'LogC5' is unknown; near it are .*LogC4"):
        display_of(InputSpace("LogC5"))


def test_a_configuration_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PyOpenColorIO.Config.CreateFromBuiltinConfig(ocio.BUILT_IN)
    half = PyOpenColorIO.MatrixTransform([0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 1])
    config.addColorSpace(PyOpenColorIO.ColorSpace(name="Dim Camera", toReference=half, aliases=["dim"]))
    file = tmp_path / "house.ocio"
    file.write_text(config.serialize())
    assert display_of(InputSpace("dim", file)).name == "Dim Camera"
    with pytest.raises(CmetError, match="unknown"):
        display_of(InputSpace("dim"))
    monkeypatch.setenv(ocio.VARIABLE, str(file))
    assert display_of(InputSpace("dim")).linear(grey(0.5))[0, 0, 0] == pytest.approx(0.25, rel=0.1)
    with pytest.raises(CmetError, match=r"none\.ocio does not exist"):
        display_of(InputSpace("dim", tmp_path / "none.ocio"))
    (tmp_path / "bad.ocio").write_text("hello: 3")
    with pytest.raises(CmetError, match=r"bad\.ocio is not a configuration"):
        display_of(InputSpace("dim", tmp_path / "bad.ocio"))
