"""A live face on the rig: real packets over loopback, shown, recorded, and gone without a trace."""

import socket
import struct
import time

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.track import CoefficientTrack

SMILE = arkit.INDEX["mouthSmileLeft"]


def packet(frame, smile, yaw=0.0):
    values = [0.0] * 61
    values[SMILE], values[52] = smile, np.radians(yaw)
    return (
        b"\6"
        + struct.pack(">i", 0)
        + struct.pack(">i", 3)
        + b"Ann"
        + struct.pack(">ifiiB61f", frame, 0, 60, 1, 61, *values)
    )


@pytest.fixture
def addon(bpy, tmp_path):
    import cmet_blender

    cmet_blender.register()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    yield bpy.context.scene.cmet
    cmet_blender.unregister()


@pytest.fixture
def phone(bpy, addon, head):
    """Goes live; `phone(frames)` sends them and waits until they came and are shown."""
    from cmet_blender import session

    addon.rig = head
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert bpy.ops.cmet.live(port=port) == {"FINISHED"}
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(packets):
        receiver, end = session.STATE.live.receiver, time.monotonic() + 10
        wanted = receiver.received + len(packets)
        for one in packets:
            sender.sendto(one, ("127.0.0.1", port))
        while receiver.received < wanted and time.monotonic() < end:
            time.sleep(0.01)
        return session.STATE.live.step()

    yield send
    session.end_live()
    sender.close()


def smile_of(head):
    return head.data.shape_keys.key_blocks["mouthSmileLeft"].value


def test_the_newest_frame_is_shown_and_the_end_leaves_no_trace(bpy, addon, phone, head, make_mesh):
    from cmet_blender import session

    brows = make_mesh("Brows", ["mouthSmileLeft"])
    brows.parent = head
    head.data.shape_keys.key_blocks["mouthSmileLeft"].value = 0.125
    assert phone([packet(0, 0.25), packet(2, 0.75)])
    assert smile_of(head) == smile_of(brows) == 0.75 and head.data.shape_keys.animation_data is None
    bpy.ops.wm.save_mainfile()  # what is shown is not saved
    assert smile_of(head) == 0.125
    assert phone([packet(6, 0.5)]) and smile_of(head) == 0.5
    assert bpy.ops.cmet.live_end() == {"FINISHED"}
    assert smile_of(head) == 0.125 and smile_of(brows) == 0 and session.STATE.live is None


def test_a_take_is_recorded_with_its_own_rate_and_goes_under_the_layers(bpy, addon, phone, head, random_tracks):
    from cmet_blender import emotion_strips

    emotion_strips.add(head, "happy", random_tracks(low=-0.1, high=0.1, turn=0))
    assert bpy.ops.cmet.live_record() == {"FINISHED"}
    phone([packet(2 * i, i / 40) for i in range(30)])
    assert bpy.ops.cmet.live_record() == {"FINISHED"}
    track = CoefficientTrack.load(addon.track)
    assert (track.fps, len(track), track.meta["source"]) == (30, 30, "Ann") and addon.track.endswith("Ann.npz")
    np.testing.assert_allclose(track["mouthSmileLeft"], np.arange(30) / 40, atol=1e-6)
    action = head.data.shape_keys.animation_data.action
    strips = [s for t in head.data.shape_keys.animation_data.nla_tracks for s in t.strips]
    assert "Ann" in action.name and "happy" in [strip.name for strip in strips]
    first = addon.track
    assert bpy.ops.cmet.live_record() == {"FINISHED"}
    phone([packet(100 + i, 0.5) for i in range(3)])
    assert bpy.ops.cmet.live_end() == {"FINISHED"}  # keeps the take, too
    assert addon.track != first and CoefficientTrack.load(first)["mouthSmileLeft"][20] == pytest.approx(0.5)


def test_head_bones_turn_live_and_come_back(bpy, addon, avatar):
    from cmet_blender import live, mapping
    from cmet_engine.live_capture import parse

    shown = live.Live(avatar, mapping.match(avatar), 0)
    try:
        skeleton = bpy.data.objects[avatar.parent.name]
        bone = skeleton.pose.bones[mapping.match(avatar).rotations["head"].target]
        before = np.array(bone.rotation_quaternion)
        for part in live.pose(avatar, mapping.match(avatar), parse(packet(0, 0.5, yaw=30))):
            shown.put(part)
        turned = 2 * np.degrees(np.arccos(abs(np.dot(before, bone.rotation_quaternion))))
        assert turned == pytest.approx(30, abs=0.1) and smile_of(avatar) == 0.5
        shown.restore()
        np.testing.assert_allclose(bone.rotation_quaternion, before, atol=1e-6)
        assert smile_of(avatar) == 0
    finally:
        shown.close()


def test_another_file_ends_it_and_what_is_wrong_is_said(bpy, addon, phone, head):
    from cmet_blender import session

    port = session.STATE.live.receiver.port
    with pytest.raises(RuntimeError, match="shown already"):
        bpy.ops.cmet.live(port=port)
    bpy.ops.cmet.live_record()
    with pytest.raises(RuntimeError, match="No face was received"):
        bpy.ops.cmet.live_record()
    bpy.ops.wm.read_homefile(use_empty=True)
    assert session.STATE.live is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", port))  # the port is free again
    with pytest.raises(RuntimeError, match="press Go Live"):
        bpy.ops.cmet.live_record()
