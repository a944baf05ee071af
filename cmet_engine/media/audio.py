"""Sound in: any file that FFmpeg reads as one mono wave, the checks that speech must pass, and the mel windows of Audio2Lip."""

import contextlib
import functools
import math
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import scipy

from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.media.clock import Clock
from cmet_engine.media.info import VideoInfo
from cmet_engine.media.mono import Mono
from cmet_engine.media.probe import measure
from cmet_engine.media.sequences import is_pattern
from cmet_engine.media.source import Source, open_media

RATE = 16000  # samples a second that the speech encoders take
MIN_SPEECH = 0.3  # seconds: about one syllable, too short to carry an emotion below that
_JOIN = 0.02  # seconds by which sound may be out of step before it is put right
_SILENT = 1e-3  # peak amplitude, -60 dB below full scale: the noise floor of an ordinary microphone
_CLIPPED = 0.999  # amplitude at which a sample counts as clipped
_CLIPPED_SHARE = 1e-3  # of all samples; more than that is audible distortion
_QUIET = 1e-2  # amplitude beside the loudest moment, -40 dB: where nobody speaks
_SPEECH = 0.1  # amplitude beside loud speech, -20 dB: where somebody speaks
_PAUSE = 0.5  # seconds around what is spoken that are kept


def has_sound(path: str | Path | Source) -> bool:
    """Whether the file holds a sound stream; a folder or pattern of numbered pictures holds none.

    Raises:
        InvalidInput: the file cannot be opened.
    """
    path = path.path if isinstance(path, Source) else path
    if Path(path).is_dir() or is_pattern(path):
        return False
    with open_media(path) as container:
        return bool(container.streams.audio)


def load(path: str | Path | Source, rate: int = RATE) -> np.ndarray:
    """The sound of a file as one mono wave.

    Where the file is a clip, sample 0 belongs to its first picture: sound that begins earlier is cut, sound that
    begins later is preceded by silence. Channels are mixed to their mean; where they cancel in it, as those of a microphone that
    is wired the wrong way round do, the loudest is taken.

    Args:
        path: a clip or a sound file of any kind that FFmpeg reads; of a `Source` the part that it stands for.
        rate: samples a second of the result.

    Returns:
        float32 [S] in [-1, 1].

    Raises:
        InvalidInput: the file cannot be opened, has no sound, holds no samples, or holds values that are not numbers.
    """
    source = path if isinstance(path, Source) else Source(Path(path))
    mono = Mono(rate)
    wave = _load(source, rate, mono)
    channel = mono.channel()
    return wave if channel is None else _load(source, rate, Mono(rate, channel))


def _load(source: Source, rate: int, mono: Mono) -> np.ndarray:
    """See `load`; `mono` makes one channel of several."""
    path = source.path
    with open_media(path) as container:
        if not container.streams.audio:
            raise InvalidInput(f"{path} has no sound; give a file with speech.")
        stream = container.streams.best("audio") or container.streams.audio[0]
        info: VideoInfo | None = None
        if any(not s.disposition & s.disposition.attached_pic for s in container.streams.video):
            with contextlib.suppress(CmetError):  # pictures that nobody can see
                info = measure(source)
        clock = info.clock if info else Clock()
        resampler = av.AudioResampler(format="flt", rate=rate)
        parts: list[np.ndarray] = []
        start: float | None = None
        try:
            for packet in clock.packets(container, [stream]):
                try:
                    frames = cast(list[av.AudioFrame], packet.decode())
                except av.error.InvalidDataError:
                    continue  # a damaged packet costs its own samples only
                for frame in frames:
                    if start is None:
                        start = frame.time
                    elif clock.shifts and frame.time is not None:
                        parts = _in_step(parts, round((frame.time - start) * rate), rate)
                    frame.pts = None  # the resampler counts samples itself; stamps with gaps confuse it
                    try:
                        made = resampler.resample(frame)
                    except ValueError:  # broadcast recordings change rate or channels on the way
                        made = resampler.resample(None)
                        resampler = av.AudioResampler(format="flt", rate=rate)
                        made += resampler.resample(frame)
                    parts.extend(mono(_channels(out)) for out in made)
        except (av.error.FFmpegError, OSError):
            pass  # cut off: what was decoded so far is the sound
        if parts:
            parts.extend(mono(_channels(out)) for out in resampler.resample(None))
    wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if info is not None and start is not None:
        shift = round((Fraction(start) - clock.zero - info.offset) * rate)
        wave = wave[-shift:] if shift < 0 else np.concatenate([np.zeros(shift, np.float32), wave])
        if clock.end is not None:
            wave = wave[: round(info.duration * rate)]
    if not len(wave):
        raise InvalidInput(f"{path} has a sound stream without a single sample; record or export it again.")
    if not np.isfinite(wave).all():
        raise InvalidInput(f"{path}: the sound holds values that are not numbers; export it again.")
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def _channels(frame: av.AudioFrame) -> np.ndarray:
    """float32 [C, S]: the channels of a frame whose samples are interleaved."""
    samples: np.ndarray = frame.to_ndarray()
    return np.ascontiguousarray(samples.reshape(-1, frame.layout.nb_channels).T)


def _in_step(parts: list[np.ndarray], wanted: int, rate: int) -> list[np.ndarray]:
    """The sound before a join, brought to `wanted` samples: recordings that were joined leave a gap, or overlap."""
    there = sum(map(len, parts))
    if wanted - there > _JOIN * rate:
        return [*parts, np.zeros(wanted - there, np.float32)]
    return [np.concatenate(parts)[:wanted]] if there - wanted > _JOIN * rate else parts


def check_speech(wave: np.ndarray, rate: int, name: str) -> str | None:
    """Check that a wave can be used as speech.

    Args:
        wave: float [S] in [-1, 1], mono.
        rate: samples a second.
        name: what to call it in a message, usually the file's name.

    Returns:
        A sentence to show when the wave is usable but clipped, else None.

    Raises:
        InvalidInput: the wave is not mono, holds values that are not numbers, is shorter than 0.3 s, or is silent.
    """
    wave = np.asarray(wave)
    if wave.ndim != 1:
        raise InvalidInput(f"{name}: the sound has shape {list(wave.shape)}; one channel is needed.")
    if not np.isfinite(wave).all():
        raise InvalidInput(f"{name}: the sound holds values that are not numbers; export it again.")
    seconds = len(wave) / rate
    if seconds < MIN_SPEECH:
        raise InvalidInput(f"{name} lasts {seconds:.2f} s; speech of at least {MIN_SPEECH} s is needed.")
    peak = float(np.abs(wave).max())
    if peak < _SILENT:
        level = f"its peak is {20 * math.log10(peak):.0f} dB" if peak > 0 else "every sample is 0"
        raise InvalidInput(f"{name} is silent ({level}); give a recording in which somebody speaks.")
    clipped = float((np.abs(wave) >= _CLIPPED).mean())
    if clipped > _CLIPPED_SHARE:
        return f"{name} is clipped in {clipped:.1%} of its samples; the emotion may be recognised less well."
    return None


def spoken(wave: np.ndarray, rate: int = RATE) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the stretches of a wave float32 [S] in which somebody speaks; pauses below 0.2 s are passed over."""
    step = rate // 50
    count = len(wave) // step
    if count < 2:
        return []
    level = np.sqrt(np.square(wave[: count * step].reshape(count, step)).mean(1))  # [count], every 20 ms
    loud = level > _SPEECH * max(float(np.quantile(level, 0.95)), _SILENT)
    edges = np.flatnonzero(
        np.diff(scipy.ndimage.binary_closing(np.pad(loud, 10), iterations=5)[10:-10], prepend=False, append=False)
    )
    return [(round(int(a) / 50, 3), round(int(b) / 50, 3)) for a, b in edges.reshape(-1, 2)]


def without_pauses(wave: np.ndarray, rate: int = RATE) -> np.ndarray:
    """A wave float32 [S] without what lies more than half a second from all speech.

    A recording that somebody forgot to stop then gives the same features as one that was trimmed.
    """
    step = rate // 50
    count = len(wave) // step
    if count < 2:
        return wave
    level = np.sqrt(np.square(wave[: count * step].reshape(count, step)).mean(1))  # [count], every 20 ms
    spoken = level > _QUIET * np.median(np.sort(level)[-5:])  # one click is not the loudest moment
    kept = scipy.ndimage.binary_dilation(spoken, iterations=round(_PAUSE * rate / step))
    if kept.all():
        return wave
    inside = np.repeat(kept, step)
    return wave[: len(inside)][inside]


# The mel spectrogram of Wav2Lip (Prajwal et al. 2020), which EDTalk's Audio2Lip was trained on.
_MEL_BANDS, _MEL_LOW, _MEL_HIGH = 80, 55.0, 7600.0  # number and limits in Hz
_MEL_WINDOW, _MEL_HOP = 800, 200  # samples at 16 kHz: 50 ms every 12.5 ms
_PRE_EMPHASIS = 0.97
_MEL_FLOOR, _MEL_REFERENCE, _MEL_LIMIT = -100.0, 20.0, 4.0  # dB, dB, and the range that the floor to 0 dB is mapped to
LIP_RATE = 25  # lip codes a second
_LIP_MELS = 16  # spectra in the window of one lip code: 0.2 s
_LIP_LEAD = 2  # lip frames by which a window begins before its own


@functools.cache
def _mel_filters() -> np.ndarray:
    import librosa  # slow to import; only Audio2Lip needs it

    return librosa.filters.mel(sr=RATE, n_fft=_MEL_WINDOW, n_mels=_MEL_BANDS, fmin=_MEL_LOW, fmax=_MEL_HIGH)


def lip_mel(wave: np.ndarray) -> np.ndarray:
    """The mel windows from which Audio2Lip predicts lip codes, 25 a second.

    Window i covers 0.2 s around i/25 s and begins 0.08 s before it; at the ends of the wave the first or last spectrum
    is repeated.

    Args:
        wave: float [S] in [-1, 1], mono at 16 kHz.

    Returns:
        float32 [F, 1, 80, 16] in [-4, 4] with F = S // 640.

    Raises:
        InvalidInput: the wave is not mono.
    """
    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1:
        raise InvalidInput(f"The sound for the lips has shape {list(wave.shape)}; one channel is needed.")
    frames = len(wave) * LIP_RATE // RATE
    if not frames:
        return np.zeros((0, 1, _MEL_BANDS, _LIP_MELS), np.float32)
    wave = wave[: frames * RATE // LIP_RATE].astype(np.float64)
    wave = np.append(wave[:1], wave[1:] - _PRE_EMPHASIS * wave[:-1])
    padded = np.pad(wave, _MEL_WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEL_WINDOW)[::_MEL_HOP]  # [M, 800]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_MEL_WINDOW) / _MEL_WINDOW)
    level = np.abs(np.fft.rfft(windows * hann)) @ _mel_filters().T  # [M, 80]
    decibels = 20 * np.log10(np.maximum(level, 10 ** (_MEL_FLOOR / 20))) - _MEL_REFERENCE
    mel = np.clip(2 * _MEL_LIMIT * (decibels / -_MEL_FLOOR + 1) - _MEL_LIMIT, -_MEL_LIMIT, _MEL_LIMIT)
    # spectra a second times time, cut towards zero as in the published code
    first = np.trunc((np.arange(frames) - _LIP_LEAD) * (RATE / _MEL_HOP / LIP_RATE)).astype(int)
    index = np.clip(first[:, None] + np.arange(_LIP_MELS), 0, len(mel) - 1)  # [F, 16]
    return mel[index].transpose(0, 2, 1)[:, None].astype(np.float32)
