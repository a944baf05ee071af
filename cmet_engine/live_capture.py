"""Faces received live over UDP: the packets of Live Link Face and iFacialMocap, and takes recorded of them.

A packet is read whole or not at all: what is damaged or of another kind costs that packet and nothing else.
"""

import contextlib
import ipaddress
import math
import socket
import struct
import threading
import time
from collections import deque
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.take_times import times_of
from cmet_engine.takes import ANGLES, START_SECONDS, hold, ifacialmocap_values
from cmet_engine.track import CoefficientTrack

LOOPBACK = "127.0.0.1"
LIVE_LINK_PORT = 11111
IFACIALMOCAP_PORT = 49983
MOST_FRAMES = 3600 * 60
"""Of one take: an hour at 60 frames a second."""

_WIDTH = arkit.COUNT + len(ANGLES)  # columns of a sample
_LARGEST = 2.5  # of a coefficient: what is above is no coefficient
_LARGEST_ANGLE = 360.0  # degrees
_LONGEST_PACKET = 8192  # bytes
_LONGEST_NAME = 256  # bytes of a device's or a subject's name
_BUFFERED = 1200  # samples that wait to be fetched, 20 s at 60 frames a second; older ones are dropped
_TIMEOUT = 0.2  # s that one wait for a packet lasts
_SILENCE = 2.0  # s without the sender after which another may take its place
_OFF_BY = 1.0  # s between the sender's clock and ours beyond which the sender's was set anew
_REQUEST = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719|sendDataVersion=v2"  # asks the phone to send


class Sample(NamedTuple):
    """One frame of a face.

    Attributes:
        sender: what the sending application calls its subject; may be empty.
        values: float32 [59]: the 52 coefficients, then degrees: head yaw, pitch, roll, eyes left yaw, left pitch, right yaw,
            right pitch.
        face: whether a face was seen; where not, the values are 0.
        seconds: time of day on the sender's clock; None where the packet says no time.
    """

    sender: str
    values: np.ndarray
    face: bool = True
    seconds: float | None = None


def parse(packet: bytes) -> Sample | None:
    """The frame in a packet of Live Link Face, or of iFacialMocap (its first and second version); None for anything else."""
    try:
        found = (
            _live_link(packet) if packet[:1] < b" " else _ifacialmocap(packet)
        )  # begins with a version, not with text
    except (struct.error, ValueError, OverflowError, InvalidInput):
        return None
    if found is None or not np.isfinite(found.values).all():
        return None
    largest = np.abs(found.values[: arkit.COUNT]).max(), np.abs(found.values[arkit.COUNT :]).max()
    return found if largest[0] <= _LARGEST and largest[1] <= _LARGEST_ANGLE else None


def _live_link(packet: bytes) -> Sample | None:
    """Version, device, subject, time (frame, part of it, rate), count, and as many floats; numbers are big-endian.

    The floats are the coefficients in canonical order and nine angles in radians: yaw, pitch and roll of head, left and
    right eye.
    """
    place, texts = 1, []
    for _ in range(2):
        (length,) = struct.unpack_from(">i", packet, place)
        place += 4
        if not 0 <= length <= min(_LONGEST_NAME, len(packet) - place):
            return None
        texts.append(packet[place : place + length].decode("utf-8", "replace"))
        place += length
    frame, part, rate, base, count = struct.unpack_from(">ifiiB", packet, place)
    if count not in (0, arkit.COUNT + 9) or len(packet) != place + 17 + 4 * count or not (rate > 0 and base > 0):
        return None
    seconds = (frame + (part if 0 <= part < 1 else 0.0)) * base / rate
    values = np.zeros(_WIDTH, np.float32)
    if count:
        numbers = np.frombuffer(packet, ">f4", count, place + 17)
        values[: arkit.COUNT] = numbers[: arkit.COUNT]
        with np.errstate(over="ignore", invalid="ignore"):
            values[arkit.COUNT :] = np.degrees(numbers[[52, 53, 54, 55, 56, 58, 59]].astype(np.float64))
    return Sample(texts[1], values, count > 0, seconds)


def _ifacialmocap(packet: bytes) -> Sample | None:
    values = np.zeros(_WIDTH, np.float32)
    known = False
    for name, value in ifacialmocap_values(packet.decode("utf-8")).items():
        coefficient = arkit.canonical(name)
        if coefficient is not None:
            values[arkit.INDEX[coefficient]], known = value, True
        elif name in ANGLES:
            values[arkit.COUNT + ANGLES.index(name)] = math.degrees(value)
        elif math.isnan(value) and any(mark in name for mark in "-&"):
            return None  # a coefficient that cannot be read
    return Sample("iFacialMocap", values) if known else None


class Receiver:
    """Receives samples on a UDP port, in a thread of its own that ends with `close`.

    Args:
        port: to listen on.
        host: address of the interface; `""` for all of them.
        phone: address of a phone that runs iFacialMocap and waits to be asked to send; empty where it sends by itself.

    Attributes:
        received: packets that held a frame.
        refused: packets that did not.
        sender: network address of the device that is listened to; others are ignored while it sends.

    Raises:
        InvalidInput: the port cannot be used, or `phone` is no address.
    """

    def __init__(self, port: int, host: str = LOOPBACK, phone: str = "") -> None:
        self.received = self.refused = 0
        self.sender = ""
        self._heard = -math.inf
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=_BUFFERED)
        self._ended = threading.Event()
        try:
            self._phone = str(ipaddress.IPv4Address(phone.strip())) if phone.strip() else ""
        except ValueError as error:
            raise InvalidInput(f"'{phone}' is no address of a phone; write it like 192.168.0.12.") from error
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise InvalidInput(
                f"Port {port} cannot be listened on ({error}); close the program that uses it, or choose another port."
            ) from error
        self._socket.settimeout(_TIMEOUT)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, name="cmet live", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        asked = -math.inf
        while not self._ended.is_set():
            now = time.monotonic()
            if self._phone and now - max(self._heard, asked) > _SILENCE:
                with contextlib.suppress(OSError):
                    self._socket.sendto(_REQUEST, (self._phone, IFACIALMOCAP_PORT))
                asked = now
            try:
                packet, (address, _) = self._socket.recvfrom(_LONGEST_PACKET)
            except TimeoutError:
                continue
            except OSError:  # Windows: the phone refused the last request, or a packet is too long
                self._ended.wait(_TIMEOUT)
                continue
            self._take(packet, address)

    def _take(self, packet: bytes, address: str) -> None:
        now = time.monotonic()
        if address != self.sender and now - self._heard < _SILENCE:
            return
        sample = parse(packet)
        if sample is None:
            self.refused += 1
            return
        self.sender, self._heard = address, now
        self.received += 1
        self._samples.append((now, sample))

    @property
    def silent(self) -> bool:
        """Whether nobody sends."""
        return time.monotonic() - self._heard > _SILENCE

    def fetch(self) -> list[tuple[float, Sample]]:
        """What came since the last call: seconds on this machine's monotonic clock, and the sample."""
        return [self._samples.popleft() for _ in range(len(self._samples))]

    def close(self) -> None:
        """Stop listening; may be called again."""
        self._ended.set()
        self._thread.join(2 * _TIMEOUT)
        self._socket.close()


class Recording:
    """A take that is being recorded: samples with their times, `MOST_FRAMES` at the most."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._faces: list[bool] = []
        self._times: list[float] = []
        self._begun = self._shift = 0.0
        self._start: float | None = None
        self.sender = ""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self._times[-1] - self._times[0] if self._times else 0.0

    def add(self, arrived: float, sample: Sample) -> None:
        """Add a sample that arrived at these seconds; one that is late or comes twice is left out, and those beyond the end."""
        own = arrived if sample.seconds is None else sample.seconds
        if not self._rows:
            self._begun, self._start, self._shift = arrived, sample.seconds, own
            self.sender = sample.sender
        moment = own - self._shift
        if sample.seconds is not None and abs(moment - (arrived - self._begun)) > _OFF_BY:
            moment = max(arrived - self._begun, self._times[-1] + 1e-3)  # the sender's clock was set anew
            self._shift = own - moment
        if len(self) >= MOST_FRAMES or (self._times and moment <= self._times[-1]):
            return
        self._rows.append(sample.values)
        self._faces.append(sample.face)
        self._times.append(moment)

    def track(self) -> CoefficientTrack:
        """The take: at the rate of its times, every frame at its own time where they are not evenly spaced.

        Raises:
            InvalidInput: no face was received.
        """
        if len(self) < 2 or not any(self._faces):
            raise InvalidInput("No face was received while it was recorded; nothing was kept.")
        times = times_of(np.array(self._times), "seconds", np.arange(len(self)), Fraction(60))
        valid = np.array(self._faces)
        values = hold(np.stack(self._rows), valid)[times.kept]
        meta = {"source": self.sender or "live", **times.meta}
        if self._start is not None:
            meta[START_SECONDS] = self._start
        angles = values[:, arkit.COUNT :]
        return CoefficientTrack(
            times.fps, values[:, : arkit.COUNT], angles[:, :3], angles[:, 3:], valid[times.kept], meta
        )
