"""Named colour spaces through OpenColorIO: the built-in ACES configuration, or a user's own."""

import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmet_engine.errors import InvalidInput, NotFound

BUILT_IN = "studio-config-v4.0.0_aces-v2.0_ocio-v2.5"  # ACES 2.0 with the cameras' spaces; a fixed version
VARIABLE = "OCIO"  # environment variable that names a studio's configuration
INTERCHANGE = "ACEScg"  # linear light, primaries AP1, to and from which every space is converted


class Space(NamedTuple):
    """A colour space of a configuration, and the way from it to ACEScg and back.

    Attributes:
        name: as the configuration calls it.
        encoding: scene-linear, log, sdr-video, hdr-video, or what else the configuration says.
        key: tells two conversions apart.
        forward, back: OpenColorIO's processors to and from ACEScg.
    """

    name: str
    encoding: str
    key: str
    forward: Any
    back: Any

    def to_acescg(self, code: np.ndarray) -> np.ndarray:
        """Stored values [H, W, 3] as linear light, float32 with primaries AP1."""
        return _applied(self.forward, code)

    def from_acescg(self, light: np.ndarray) -> np.ndarray:
        """The way back."""
        return _applied(self.back, light)


def find(name: str, file: Path | None = None) -> Space | None:
    """The space of a name, an alias or a role; None where the configuration knows none.

    Args:
        name: in capitals or not.
        file: the user's configuration; None takes the one that `$OCIO` names, else the built-in one.

    Raises:
        NotFound: the file is missing.
        InvalidInput: it is no configuration, or the space holds data instead of colours.
    """
    return _find(name, str(file) if file else os.environ.get(VARIABLE) or f"ocio://{BUILT_IN}")


def built_in(name: str) -> Space | None:
    """`find` in the built-in configuration, whatever the user's is."""
    return _find(name, f"ocio://{BUILT_IN}")


def near(name: str, file: Path | None, others: tuple[str, ...] = ()) -> list[str]:
    """Up to three names, of the configuration's or of `others`, that look like a wrong one."""
    import PyOpenColorIO

    config = _config(str(file) if file else os.environ.get(VARIABLE) or f"ocio://{BUILT_IN}")
    names = {other.lower(): other for other in others}
    for space in config.getColorSpaces(PyOpenColorIO.SEARCH_REFERENCE_SPACE_ALL, PyOpenColorIO.COLORSPACE_ALL):
        names.update({alias.lower(): space.getName() for alias in (space.getName(), *space.getAliases())})
    found = difflib.get_close_matches(name.lower(), names, n=6, cutoff=0.5)
    return list(dict.fromkeys(names[match] for match in found))[:3]


@lru_cache
def matrix(source: str, target: str) -> np.ndarray:
    """float64 [3, 3] from one linear space of the built-in configuration to another."""
    processor = _config(f"ocio://{BUILT_IN}").getProcessor(source, target).getDefaultCPUProcessor()
    return _applied(processor, np.eye(3, dtype=np.float32)[None])[0].T.astype(np.float64)


def _applied(processor: Any, picture: np.ndarray) -> np.ndarray:
    result = np.array(picture, np.float32, order="C")
    processor.applyRGB(result)
    return result


@lru_cache(maxsize=4)
def _config(where: str) -> Any:
    import PyOpenColorIO

    if not where.startswith("ocio://") and not Path(where).is_file():
        raise NotFound(f"{where} does not exist; --ocio and ${VARIABLE} take the file of an OpenColorIO configuration.")
    try:
        return PyOpenColorIO.Config.CreateFromFile(where)
    except PyOpenColorIO.Exception as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error: ").rstrip(".")
        raise InvalidInput(f"{where} is not a configuration that OpenColorIO can read: {reason}.") from error


@lru_cache(maxsize=16)
def _find(name: str, where: str) -> Space | None:
    import PyOpenColorIO

    config = _config(where)
    space = config.getColorSpace(name)
    if space is None:
        return None
    if space.isData():
        raise InvalidInput(f"The colour space {space.getName()} holds data, not colours; name that of the pictures.")
    own = space.getName()
    try:
        forward = PyOpenColorIO.Config.GetProcessorToBuiltinColorSpace(config, own, INTERCHANGE)
        back = PyOpenColorIO.Config.GetProcessorFromBuiltinColorSpace(INTERCHANGE, config, own)
        lossless = [
            p.getOptimizedCPUProcessor(
                PyOpenColorIO.BIT_DEPTH_F32, PyOpenColorIO.BIT_DEPTH_F32, PyOpenColorIO.OPTIMIZATION_LOSSLESS
            )
            for p in (forward, back)
        ]
    except PyOpenColorIO.Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidInput(f"The colour space {own} cannot be converted both ways: {reason}.") from error
    return Space(own, space.getEncoding(), forward.getCacheID(), *lossless)
