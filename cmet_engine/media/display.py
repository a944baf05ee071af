"""Display pictures of HDR, log and scene-linear footage, and the way back.

Tracking and renderers work on pictures that look as sRGB does. Footage in another space is brought to such a picture, and what
was edited is brought back into the space of the footage:

    stored values -> linear light, 1 = diffuse white -> shoulder -> Rec.709 primaries -> sRGB curve

Every step can be undone, nothing is clipped. The shoulder works in the wide primaries (Rec.2020 of PQ and HLG, else AP1), before
the matrix: so a dark colour value beside a very bright one loses less in float32. Ordinary SDR is left as it is.

Accuracy of the way there and back, in parts of the scale of the stored values: in float64 below 1/65535 wherever OpenColorIO's own
float32 is (LogC4 is off by up to 4/65535 beside values of 470 times white); in float32 too, unless a channel is nearly black beside
one that is very bright. Scene-linear values keep 1e-4 of the brightest channel of their pixel, up to 1000.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from cmet_engine.choices import InputSpace
from cmet_engine.errors import InvalidInput
from cmet_engine.media import ocio

Curve = Callable[[np.ndarray], np.ndarray]

REFERENCE_WHITE = 203.0  # nits of diffuse white in HDR (ITU-R BT.2408, 2.1)
PQ_PEAK, HLG_PEAK = 10_000.0, 1000.0  # nits of the largest value (ITU-R BT.2100, tables 4 and 5)

# The shoulder: identity up to the knee, then a logarithm that goes on with the same slope. 1000 nits come out as 0.98, 1000 times
# white as 1.37, and float32 still tells them apart, which a rational curve that stays below 1.4 does not.
_KNEE, _ROLL_OFF = np.float32(0.7), np.float32(0.07)
_BRIGHTEST = np.float32(65504)  # the largest half float

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128  # ITU-R BT.2100, table 4
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100, table 5
_HLG_GAMMA = 1.2  # of the system, at 1000 nits
_REC2020_LUMA = np.array([0.2627, 0.6780, 0.0593])

ORDINARY_NAMES = ("sRGB", "Rec.709", "Rec.601")
DISPLAYED_LIGHT = "displayed light"
"""Linear light of an sRGB picture: no shoulder, for nothing is brighter than its white."""

OWN_NAMES = ("PQ", "HLG", "Rec.2020")
CAMERA_NAMES = {
    "LogC3": "arri_logc3_ei800", "LogC4": "arri_logc4", "S-Log3": "slog3_sgamut3cine", "V-Log": "vlog_vgamut",
    "ACEScg": "acescg", "ACES2065-1": "aces2065_1",
}  # fmt: skip
"""Short names, and what the built-in configuration calls them. S-Log3 alone is taken to be in S-Gamut3.Cine."""
_OTHERS = {"bt709": "Rec.709", "bt601": "Rec.601", "bt2020": "Rec.2020", "st2084": "PQ", "smpte2084": "PQ", "rec2100pq": "PQ",
           "bt2100pq": "PQ", "rec2100hlg": "HLG", "bt2100hlg": "HLG", "aribstdb67": "HLG"}  # fmt: skip


@dataclass(frozen=True)
class Display:
    """From the stored values of a space to a display picture, and back.

    Attributes:
        name: of the space, for the user.
        key: tells two transforms apart; empty for ordinary SDR, which is left as it is.
        to_light, from_light: between stored values and linear light in wide primaries, 1 = diffuse white.
        matrix: float64 [3, 3] from those primaries to Rec.709.
        shoulder: bright values are compressed.
    """

    name: str = "sRGB"
    key: str = ""
    to_light: Curve | None = None
    from_light: Curve | None = None
    matrix: np.ndarray | None = field(default=None, compare=False)
    shoulder: bool = True

    @property
    def ordinary(self) -> bool:
        """Whether the stored values are the display picture."""
        return self.to_light is None

    def to_display(self, code: np.ndarray) -> np.ndarray:
        """Stored values as a picture that looks as sRGB does.

        Args:
            code: float32 or float64 [H, W, 3], RGB; 0 to 1, or scene-linear light. Values beyond are taken on.

        Returns:
            Of the same type and shape; 0 to 1, highlights and saturated colours may exceed it. The very same array for SDR.
        """
        if self.to_light is None or self.matrix is None:
            return code
        light = self.to_light(code).astype(np.float64)
        return srgb_from_light((_shoulder(light) if self.shoulder else light) @ self.matrix.T).astype(code.dtype)

    def from_display(self, picture: np.ndarray) -> np.ndarray:
        """The inverse of `to_display`."""
        if self.from_light is None or self.matrix is None:
            return picture
        light = light_from_srgb(picture) @ np.linalg.inv(self.matrix).T
        return self.from_light(_shoulder_undone(light) if self.shoulder else light).astype(picture.dtype)

    def proxy(self, code: np.ndarray) -> np.ndarray:
        """The display picture in 8 bits, as `to_display` makes it but faster.

        Args:
            code: float32 [H, W, 3], RGB.

        Returns:
            uint8 [H, W, 3], clipped to 0 to 255.
        """
        if self.to_light is None:
            return np.rint(code.clip(0, 1) * 255).astype(np.uint8)
        return self._picture(self.to_light(code))

    def proxy_of_integers(self, code: np.ndarray) -> np.ndarray:
        """`proxy` of uint16 [H, W, 3], 0 to 65535; the curves of PQ and HLG are looked up in a table."""
        if self.name == "PQ":
            return self._picture(_table(pq_to_light)[code])
        if self.name == "HLG":
            return self._picture(_hlg_shown(_table(hlg_to_scene)[code]))
        return self.proxy(code.astype(np.float32) / 65535)

    def linear(self, code: np.ndarray) -> np.ndarray:
        """Stored values as linear light, float32 [H, W, 3], primaries of Rec.709, 1 = diffuse white."""
        if self.to_light is None or self.matrix is None:
            return light_from_srgb(code).astype(np.float32)
        return (self.to_light(code) @ self.matrix.T).astype(np.float32)

    def _picture(self, light: np.ndarray) -> np.ndarray:
        light = light.astype(np.float32, copy=False)
        if self.shoulder:
            light = _shoulder(np.clip(light, -_BRIGHTEST, _BRIGHTEST))
        shown = cv2.transform(light, np.asarray(self.matrix, np.float32))
        # the upper bits of a float from 0 to 1, nine of them below the binary point, are its place in a table
        return _SRGB_OF_BITS[(np.fmin(np.fmax(shown, 0), 1).view(np.uint32) >> 14).astype(np.uint16)]


ORDINARY = Display()


def display_of(space: InputSpace, guess: str = "sRGB") -> Display:
    """The transform of the space that the user names, else of the one that was guessed.

    Raises:
        InvalidInput: the space is unknown; the sentence names those that are near.
        NotFound: the configuration is missing.
    """
    name = space.name or guess
    if (display := _known(name)) is not None:
        return display
    short = {_plain(known): known for known in CAMERA_NAMES}.get(_plain(name))
    found = ocio.find(name, space.config) if space.name else None
    found = found or ocio.built_in(CAMERA_NAMES[short] if short else name)
    if found is None:
        near = ocio.near(name, space.config, (*ORDINARY_NAMES, *OWN_NAMES, *CAMERA_NAMES))
        advice = f"near it are {', '.join(near)}" if near else f"such are {', '.join((*CAMERA_NAMES, *OWN_NAMES))}"
        raise InvalidInput(f"The color space '{name}' is unknown; {advice}.")
    return _through_ocio(found)


def space_key(space: InputSpace) -> list[str]:
    """What tells two readings of a clip apart, for the key of a cache; nothing where its space is guessed from the clip."""
    return [display_of(space).key] if space.name else []


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _known(name: str) -> Display | None:
    """The transform of a space that is not left to OpenColorIO."""
    plain = _plain(name)
    known = _OTHERS.get(plain) or {_plain(n): n for n in (*ORDINARY_NAMES, *OWN_NAMES, DISPLAYED_LIGHT)}.get(plain)
    return _own(known) if known else None


@lru_cache
def _own(name: str) -> Display:
    if name in ORDINARY_NAMES:
        return ORDINARY
    if name == DISPLAYED_LIGHT:
        return Display(name, name, np.asarray, np.asarray, np.eye(3), shoulder=False)
    to_light, from_light = {
        "PQ": (pq_to_light, pq_from_light),
        "HLG": (hlg_to_light, hlg_from_light),
        "Rec.2020": (light_from_srgb, srgb_from_light),
    }[name]
    matrix = ocio.matrix("lin_rec2020", "lin_rec709")
    return Display(name, name, to_light, from_light, matrix, shoulder=name != "Rec.2020")


@lru_cache
def _through_ocio(space: ocio.Space) -> Display:
    matrix = ocio.matrix(ocio.INTERCHANGE, "lin_rec709")
    return Display(
        space.name, space.key, space.to_acescg, space.from_acescg, matrix, shoulder=space.encoding != "sdr-video"
    )


def _shoulder(light: np.ndarray) -> np.ndarray:
    size = np.abs(light)
    bent = np.minimum(size, _KNEE) + _ROLL_OFF * _log(np.maximum(size - _KNEE, 0) / _ROLL_OFF + 1)
    return np.copysign(bent, light)


def _shoulder_undone(bent: np.ndarray) -> np.ndarray:
    size = np.abs(bent)
    bright = _exp(np.clip((size - _KNEE) / _ROLL_OFF, 0, 80)) - 1  # 80: finite in float32
    return np.copysign(np.minimum(size, _KNEE) + _ROLL_OFF * bright, bent)


# OpenCV's functions are four times as fast as numpy's and as exact in float64
def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return cv2.pow(values.reshape(-1), exponent).reshape(values.shape)


def _exp(values: np.ndarray) -> np.ndarray:
    return cv2.exp(values.reshape(-1)).reshape(values.shape)


def _log(values: np.ndarray) -> np.ndarray:
    return cv2.log(values.reshape(-1)).reshape(values.shape)


def srgb_from_light(light: np.ndarray) -> np.ndarray:
    """The sRGB curve (IEC 61966-2-1), mirrored for negative values, float64."""
    size = np.abs(light, dtype=np.float64)
    return np.copysign(np.where(size <= 0.0031308, size * 12.92, 1.055 * _power(size, 1 / 2.4) - 0.055), light)


def light_from_srgb(picture: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_from_light`."""
    size = np.abs(picture, dtype=np.float64)
    return np.copysign(np.where(size <= 0.0031308 * 12.92, size / 12.92, _power((size + 0.055) / 1.055, 2.4)), picture)


def pq_to_light(code: np.ndarray) -> np.ndarray:
    """PQ to displayed light, 1 = `REFERENCE_WHITE` (ITU-R BT.2100, table 4, EOTF), float64; mirrored for negative values."""
    root = _power(np.abs(code, dtype=np.float64), 1 / _PQ_M2)
    light = _power(np.maximum(root - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * root), 1 / _PQ_M1)
    return np.copysign(light * (PQ_PEAK / REFERENCE_WHITE), code)


def pq_from_light(light: np.ndarray) -> np.ndarray:
    """The inverse of `pq_to_light`."""
    root = _power(np.abs(light, dtype=np.float64) * (REFERENCE_WHITE / PQ_PEAK), _PQ_M1)
    return np.copysign(_power((_PQ_C1 + _PQ_C2 * root) / (1 + _PQ_C3 * root), _PQ_M2), light)


def hlg_to_scene(code: np.ndarray) -> np.ndarray:
    """HLG to the light of the scene, 0 to 1 (ITU-R BT.2100, table 5, inverse OETF), float64; mirrored for negative values."""
    size = np.abs(code, dtype=np.float64)
    bright = (_exp((np.maximum(size, 0.5) - _HLG_C) / _HLG_A) + _HLG_B) / 12
    return np.copysign(np.where(size <= 0.5, size**2 / 3, bright), code)


def hlg_from_scene(light: np.ndarray) -> np.ndarray:
    """The inverse of `hlg_to_scene`."""
    size = np.abs(light, dtype=np.float64)
    bright = _HLG_A * _log(12 * np.maximum(size, 1 / 12) - _HLG_B) + _HLG_C
    return np.copysign(np.where(size <= 1 / 12, np.sqrt(3 * size), bright), light)


def hlg_to_light(code: np.ndarray) -> np.ndarray:
    """HLG [H, W, 3] to displayed light, 1 = `REFERENCE_WHITE`, on a display of 1000 nits (ITU-R BT.2100, table 5, EOTF)."""
    return _hlg_shown(hlg_to_scene(code))


def _hlg_shown(scene: np.ndarray) -> np.ndarray:
    luminance = np.abs(scene @ _REC2020_LUMA.astype(scene.dtype))[..., None]
    return scene * _power(luminance, _HLG_GAMMA - 1) * scene.dtype.type(HLG_PEAK / REFERENCE_WHITE)


def hlg_from_light(light: np.ndarray) -> np.ndarray:
    """The inverse of `hlg_to_light`."""
    shown = np.asarray(light, np.float64) * (REFERENCE_WHITE / HLG_PEAK)
    luminance = np.maximum(np.abs(shown @ _REC2020_LUMA), 1e-30)[..., None]
    return hlg_from_scene(shown * _power(luminance, (1 - _HLG_GAMMA) / _HLG_GAMMA))


@lru_cache
def _table(curve: Curve) -> np.ndarray:
    """float32 [65536]: a curve of the values that 16 bits hold."""
    return curve(np.arange(65536) / 65535).astype(np.float32)


_SRGB_OF_BITS = np.rint(
    srgb_from_light((((np.arange(65536, dtype=np.uint32) << 14) + (1 << 13)).view(np.float32)).clip(0, 1)) * 255
).astype(np.uint8)
