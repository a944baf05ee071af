"""Live faces: packets are read whole or not at all, and takes keep the sender's timing."""

import random
import socket
import struct
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmet_engine import arkit, live_capture
from cmet_engine.errors import InvalidInput
from cmet_engine.live_capture import LOOPBACK, Receiver, Recording, Sample, parse

VALUES = np.round(np.random.default_rng(5).random(arkit.COUNT), 2).astype(np.float32)
ANGLES = (10.0, -5.0, 2.0, 4.0, 3.0, 1.0, -4.0, -3.0, 0.0)  # degrees: yaw, pitch, roll of head, left and right eye


def live_link(
    frame: int = 60, part: float = 0.25, values: np.ndarray = VALUES, rate: int = 60, face: bool = True
) -> bytes:
    device, subject = b"A1B2C3D4-0000-0000-0000-000000000000", "Zoë".encode()
    head = struct.pack(">Bi", 6, len(device)) + device + struct.pack(">i", len(subject)) + subject
    numbers = [*values, *np.radians(ANGLES)] if face else []
    return head + struct.pack(f">ifiiB{len(numbers)}f", frame, part, rate, 1, len(numbers), *numbers)


def ifacialmocap(mark: str) -> bytes:
    names = (n.replace("Left", "_L").replace("Right", "_R") for n in arkit.NAMES)
    shapes = "|".join(f"{n}{mark}{round(v * 100)}" for n, v in zip(names, VALUES, strict=True))
    eyes = "rightEye#-3,-4,0|leftEye#3,4,1|"
    return f"trackingStatus{mark}1|{shapes}|=head#-5,10,2,0.1,0.2,0.3|{eyes}".encode()


@pytest.mark.parametrize("packet", [live_link(), ifacialmocap("-"), ifacialmocap("&")], ids=["live link", "v1", "v2"])
def test_every_app_s_packet_says_the_same_face(packet: bytes) -> None:
    sample = parse(packet)
    assert sample is not None and sample.face
    np.testing.assert_allclose(sample.values[:52], VALUES, atol=1e-6)
    np.testing.assert_allclose(sample.values[52:], (10, -5, 2, 4, 3, -4, -3), atol=1e-4)


def test_live_link_s_time_and_absence_are_read() -> None:
    sample, empty = parse(live_link(90, 0.5)), parse(live_link(face=False))
    assert sample is not None and sample.seconds == pytest.approx(90.5 / 60) and sample.sender == "Zoë"
    assert empty is not None and not empty.face and not empty.values.any()
    assert all(
        parse(live_link(frame)) is not None for frame in range(300)
    )  # 124 is the sign that parts iFacialMocap's values


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.text("|-&#=.,0123456789eyeBlink_LRheadNaNinf", max_size=300).map(str.encode))
)
def test_noise_is_never_a_face_out_of_range(packet: bytes) -> None:
    sample = parse(packet)
    assert sample is None or (np.isfinite(sample.values).all() and np.abs(sample.values[:52]).max() <= 2.5)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([live_link(), ifacialmocap("-"), ifacialmocap("&")]), st.integers(0, 10**6), st.randoms())
def test_damage_costs_the_packet_at_the_most(packet: bytes, place: int, rng: random.Random) -> None:
    cut = packet[: place % len(packet)]
    flipped = bytearray(packet)
    flipped[place % len(packet)] = rng.randrange(256)
    for damaged in (cut, bytes(flipped), packet + packet[:7]):
        sample = parse(damaged)
        assert sample is None or (np.isfinite(sample.values).all() and np.abs(sample.values[:52]).max() <= 2.5)
    if packet[:1] == b"\x06":
        assert parse(cut) is None and parse(packet + b"\0") is None


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_receiver_keeps_what_it_can_read_and_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_capture, "_BUFFERED", 20)
    receiver = Receiver(0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for frame in range(50):
                phone.sendto(live_link(frame), (LOOPBACK, receiver.port))
                phone.sendto(b"nonsense", (LOOPBACK, receiver.port))
                if frame % 10 == 9:
                    assert until(lambda sent=frame + 1: receiver.received == receiver.refused == sent)
        came = receiver.fetch()
        assert len(came) == 20 and not receiver.fetch() and not receiver.silent and receiver.sender == LOOPBACK
        assert came[-1][1].seconds == pytest.approx(49.25 / 60)
        with pytest.raises(InvalidInput, match=f"Port {receiver.port} cannot be listened on"):
            Receiver(receiver.port)
    finally:
        receiver.close()
        receiver.close()
    Receiver(receiver.port).close()  # the port is free again


def test_a_phone_that_waits_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind((LOOPBACK, 0))
        phone.settimeout(10)
        monkeypatch.setattr(live_capture, "IFACIALMOCAP_PORT", phone.getsockname()[1])
        receiver = Receiver(0, phone=LOOPBACK)
        try:
            request, address = phone.recvfrom(200)
            assert request.startswith(b"iFacialMocap_") and request.endswith(b"sendDataVersion=v2")
            phone.sendto(ifacialmocap("&"), address)
            assert until(lambda: receiver.received == 1)
        finally:
            receiver.close()
    with pytest.raises(InvalidInput, match="no address of a phone"):
        Receiver(0, phone="my phone")


def recorded(moments: list[float], shift: float = 0.0) -> Recording:
    take = Recording()
    for i, second in enumerate(moments):
        values = np.full(59, i / 100, np.float32)
        take.add(1000 + i / 30, Sample("Zoë", values, i != 2, second + shift))
    return take


def test_a_take_has_the_sender_s_rate_and_time_of_day() -> None:
    track = recorded([i / 30 for i in range(20)], shift=3600.0).track()
    assert track.fps == 30 and len(track) == 20 and track.meta["start_seconds"] == 3600
    assert track.meta["source"] == "Zoë" and not track.valid[2] and track.coefficients[2, 0] == track.coefficients[1, 0]


def test_lost_late_and_double_packets_leave_every_frame_at_its_own_time() -> None:
    track = recorded([0, 1 / 30, 1 / 30, 2 / 30, 1.5 / 30, 5 / 30, 6 / 30, 7 / 30, 8 / 30]).track()
    assert track.fps == Fraction(30)
    np.testing.assert_allclose(track.times, np.array([0, 1, 2, 5, 6, 7, 8]) / 30, atol=1e-6)


def test_a_clock_that_is_set_anew_and_an_end_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    track = recorded([i / 30 + (7200 if i > 10 else 0) for i in range(20)]).track()
    np.testing.assert_allclose(np.diff(track.times), 1 / 30, atol=2e-3)
    monkeypatch.setattr(live_capture, "MOST_FRAMES", 5)
    assert len(recorded([i / 30 for i in range(20)])) == 5
    with pytest.raises(InvalidInput, match="No face was received"):
        Recording().track()
