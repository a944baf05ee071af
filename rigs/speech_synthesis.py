"""A synthesised voice with the times of its phonemes, from eSpeak NG's library (`apt-get install espeak-ng`).

eSpeak NG's C interface: speak_lib.h, with phoneme events (`espeakINITIALIZE_PHONEME_EVENTS`).
"""

import ctypes
import ctypes.util
from dataclasses import dataclass

import numpy as np

_SYNCHRONOUS, _PHONEME_EVENTS, _IPA = (
    2,
    1,
    2,
)  # AUDIO_OUTPUT_SYNCHRONOUS; espeakINITIALIZE_PHONEME_EVENTS; ..._PHONEME_IPA
_EVENT_END, _EVENT_PHONEME = 0, 7
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


@dataclass(frozen=True)
class Phoneme:
    """One phoneme, IPA, and when it sounds, seconds."""

    symbol: str
    start: float
    end: float


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


def speak(
    text: str, voice: str = "en-us", words_per_minute: int = 150, pitch: int = 45, pitch_range: int = 55
) -> tuple[np.ndarray, int, list[Phoneme]]:
    """Speak `text`: sound float32 [S] in [-1, 1], its rate in Hz, its phonemes.

    Raises:
        RuntimeError: eSpeak NG is not installed, or does not know the voice.
    """
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        raise RuntimeError("eSpeak NG is not installed; install the package espeak-ng of your system.")
    library = ctypes.CDLL(name)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 400, None, _PHONEME_EVENTS | _IPA)
    if rate <= 0 or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"eSpeak NG has no voice {voice!r}; `espeak-ng --voices` lists those it has.")
    for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    samples: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
    def receive(wave, count, events):  # type: ignore[no-untyped-def]
        if wave and count > 0:
            samples.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                marks.append((events[i].audio_position / 1000.0, events[i].id.string.decode("utf-8", "ignore")))
            i += 1
        return 0

    library.espeak_SetSynthCallback(receive)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    library.espeak_Terminate()
    wave = np.concatenate(samples).astype(np.float32) / 32768.0
    ends = [start for start, _ in marks[1:]] + [len(wave) / rate]
    return wave, rate, [Phoneme(symbol, start, end) for (start, symbol), end in zip(marks, ends, strict=True)]
