"""Build the sample clip: the demo head speaks a sentence with a synthesised voice.

    python rigs/build_sample.py [--out FILE] [--frames FOLDER] [--samples N] [--size PIXELS]

Needs `bpy` and eSpeak NG (`apt-get install espeak-ng`). Frames already in `--frames` are not rendered again.
"""

import argparse
import sys
import tempfile
import wave
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import cv2
import demo_studio as studio
import numpy as np
import sample_performance
import speech_synthesis

from cmet_engine.arkit import NAMES
from cmet_engine.media.writer import VideoWriter

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"
SENTENCE = "The library opens at nine. I will bring the blue papers back before we meet."
FPS, BEFORE, AFTER = 25, 0.4, 0.52
RATE_FACTOR = 17  # of x264: no loss to be seen, and below 2 MB
ROOM_SECONDS, ROOM_SHARE = 0.16, 0.10  # a little room around the dry voice


def voice() -> tuple[np.ndarray, int, list[speech_synthesis.Phoneme]]:
    """The sentence as sound [S] with its rate and phonemes, in a little room, padded to the clip's length."""
    dry, rate, phonemes = speech_synthesis.speak(SENTENCE, words_per_minute=145, pitch=42, pitch_range=60)
    random = np.random.default_rng(3)
    length = int(ROOM_SECONDS * rate)
    room = random.normal(0, 1, length) * np.exp(-np.linspace(0, 6, length))
    room *= ROOM_SHARE / np.sqrt((room**2).sum())
    wet = dry + np.convolve(dry, room)[: len(dry)]
    soft = np.convolve(wet, np.hanning(5) / np.hanning(5).sum(), "same")  # takes the edge off above 6 kHz
    frames = np.ceil((BEFORE + len(soft) / rate + AFTER) * FPS)
    sound = np.zeros(round(frames / FPS * rate), np.float32)
    start = int(BEFORE * rate)
    sound[start : start + len(soft)] = soft
    return 0.7 * sound / np.abs(sound).max(), rate, phonemes


def write_wave(path: Path, sound: np.ndarray, rate: int) -> None:
    """Write mono 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def main(arguments: list[str] | None = None) -> None:
    """Render and write the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--head", type=Path, default=HERE / "demo_head.blend")
    parser.add_argument("--frames", type=Path, help="keep rendered frames here and go on from them")
    parser.add_argument("--samples", type=int, default=12, help="light paths a pixel")
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels")
    given = parser.parse_args(arguments)
    sound, rate, phonemes = voice()
    track = sample_performance.perform(phonemes, len(sound) / rate, FPS, BEFORE)
    with tempfile.TemporaryDirectory() as scratch:
        frames = given.frames or Path(scratch)
        frames.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.open_mainfile(filepath=str(given.head))
        studio.furnish(given.size, given.samples)
        stage = studio.Stage(Path(scratch))
        for i in range(len(track)):
            path = frames / f"{i:04d}.png"
            if path.exists():
                continue
            yaw, pitch, roll = track.head_rotation[i].tolist()
            studio.pose(dict(zip(NAMES, track.coefficients[i].tolist(), strict=True)), yaw, pitch, roll)
            cv2.imwrite(str(path), cv2.cvtColor(stage.shoot(), cv2.COLOR_RGB2BGR))
            print(f"frame {i + 1} of {len(track)}", file=sys.stderr, flush=True)
        spoken = Path(scratch) / "voice.wav"
        write_wave(spoken, sound, rate)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(
            given.out, given.size, given.size, Fraction(FPS), sound_from=spoken, rate_factor=RATE_FACTOR, force=True
        ) as video:
            for i in range(len(track)):
                video.write(cv2.cvtColor(cv2.imread(str(frames / f"{i:04d}.png")), cv2.COLOR_BGR2RGB))
    print(f"{given.out}: {len(track)} frames, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
