"""Record a voice from a microphone, for an emotion of which there is no recording yet."""

import math
import queue
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import extras
from cmet_engine.errors import InvalidInput, MissingWeights
from cmet_engine.files import check_writable, whole_file
from cmet_engine.media.audio import check_speech

MOST_SECONDS = 600.0  # what the library takes of one recording
PATIENCE = 5.0  # seconds without sound before a microphone counts as dead
_QUIETEST = -90.0  # dB below full scale, shown for digital silence


def record(
    path: str | Path,
    seconds: float,
    *,
    device: str | None = None,
    force: bool = False,
    level: Callable[[float, float], None] | None = None,
    backend: Any = None,
) -> dict[str, Any]:
    """Record mono 16-bit sound into a .wav file, which appears whole or not at all.

    Args:
        path: `.wav` file to write.
        seconds: length, above 0 and at most 600.
        device: part of the microphone's name; default the system's choice.
        force: replace an earlier file.
        level: called a few times a second as `level(seconds so far, peak in dB below full scale)`; raising stops.
        backend: the module `sounddevice`, or one that answers as it does.

    Returns:
        `file`, `seconds`, `rate` (samples a second, the microphone's own), `peak` (dB), `note` (clipped sound, or None).

    Raises:
        InvalidInput: wrong arguments, or the recording is silent.
        MissingWeights: there is no PortAudio or no microphone, or it stops giving sound.
    """
    path = Path(path)
    if path.suffix.lower() != ".wav":
        raise InvalidInput(f"{path.name}: a recording is written as .wav; give such a name.")
    if not 0 < seconds <= MOST_SECONDS:
        raise InvalidInput(
            f"A recording of {seconds:g} seconds cannot be made; it lasts above 0 and at most {MOST_SECONDS:g}."
        )
    check_writable(path, force=force)
    sound, rate = _capture(backend or _sounddevice(), seconds, device, level)
    note = check_speech(sound, rate, "The recording")
    with whole_file(path, force=force) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return {"file": path, "seconds": len(sound) / rate, "rate": rate, "peak": round(decibels(sound), 1), "note": note}


def _capture(
    sounddevice: Any, seconds: float, device: str | None, level: Callable[[float, float], None] | None
) -> tuple[np.ndarray, int]:
    """The sound of a microphone, float32 [S] in [-1, 1], and its samples a second; arguments as of `record`."""
    blocks: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    parts: list[np.ndarray] = []
    try:
        about = sounddevice.query_devices(device, "input")
        rate = round(about["default_samplerate"])
        wanted = math.ceil(seconds * rate)
        with sounddevice.InputStream(
            device=device,
            samplerate=rate,
            channels=1,
            dtype="float32",
            blocksize=rate // 8,
            callback=lambda block, *_: blocks.put(block[:, 0].copy()),  # from a thread of PortAudio's
        ):
            got = 0
            while got < wanted:
                parts.append(blocks.get(timeout=PATIENCE))
                got += len(parts[-1])
                if level:
                    level(min(got / rate, seconds), decibels(parts[-1]))
    except queue.Empty:
        raise MissingWeights(
            f"The microphone '{about['name']}' gives no sound; unplug it and plug it in again, or choose another."
        ) from None
    except (sounddevice.PortAudioError, ValueError) as error:  # ValueError: the name fits none, or several
        raise MissingWeights(
            f"No microphone can be used ({' '.join(str(error).split())}); connect one, allow this program to use it in the "
            "system's settings, or choose a recorded file instead."
        ) from error
    return np.clip(np.concatenate(parts)[:wanted], -1, 1), rate


def decibels(sound: np.ndarray) -> float:
    """Peak of a wave [S] in dB below full scale, at least -90."""
    peak = float(np.abs(sound).max(initial=0.0))
    return max(_QUIETEST, 20 * math.log10(peak)) if peak > 0 else _QUIETEST


def _sounddevice() -> Any:
    try:
        return extras.load("record", "sounddevice")
    except OSError:  # the package is there, the library below it is not: its wheels for Linux carry none
        raise MissingWeights(
            "Recording needs the library PortAudio (Debian and Ubuntu: apt-get install libportaudio2); "
            "install it, or choose a recorded file instead."
        ) from None
