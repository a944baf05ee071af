"""Content Credentials: signed, read by another process, and what is found when something was changed."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
from authority import Authority

from cmet_engine.provenance import credentials, identity, ledger, show
from cmet_engine.provenance.seal import Signatory
from cmet_engine.spec import EditSpec

READER = """
import json, sys
import c2pa
kind, about, *beside = sys.argv[1:]
data = open(beside[0], "rb").read() if beside else None
with open(about, "rb") as file, c2pa.Reader(kind, file, data) as reader:
    print(json.dumps({"state": reader.get_validation_state(), **json.loads(reader.json())}))
"""


def read_elsewhere(kind: str, *paths: Path) -> dict:
    """What the library's reader says in another process that knows nothing of this program."""
    command = [sys.executable, "-c", READER, kind, *map(str, paths)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd="/").stdout)


def movie(path: Path, codec: str = "ffv1", pixels: str = "yuv420p") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def pictures(folder: Path, suffix: str = "png", count: int = 3) -> Path:
    folder.mkdir()
    for number in range(1, count + 1):
        _, data = cv2.imencode(".png", np.full((16, 16, 3), number, np.uint8))
        (folder / f"{number:06d}.{suffix}").write_bytes(data.tobytes())  # what is in them is nobody's concern here
    return folder / f"%06d.{suffix}"


def test_every_format_is_signed_and_validates_in_another_process(clip: Path, tmp_path: Path, signed):
    cases = {
        "video/mp4": (Path(shutil.copy(clip, tmp_path / "a.mp4")),),
        "video/quicktime": (movie(tmp_path / "a.mov", "prores_ks", "yuv422p10le"),),
        "application/octet-stream": (movie(tmp_path / "b.mkv"), tmp_path / "b.c2pa"),
    }
    frames, exr = pictures(tmp_path / "frames"), pictures(tmp_path / "linear", "exr")
    ok = cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16, 3), np.uint8))
    more = [
        ("image/png", (tmp_path / "a.png",)),
        ("application/octet-stream", (frames.parent / "frames.sha256", frames.parent / "frames.c2pa")),
        ("application/octet-stream", (exr.parent / "linear.sha256", exr.parent / "linear.c2pa")),
    ]
    for path in (*(paths[0] for paths in cases.values()), tmp_path / "a.png", frames, exr):
        assert ok and signed(clip, path) == []
    for kind, paths in [*cases.items(), *more]:
        found = read_elsewhere(kind, *paths)
        manifest = found["manifests"][found["active_manifest"]]
        assert found["state"] == "Valid", paths
        assert [fault["code"] for fault in found["validation_status"]] == ["signingCredential.untrusted"]
        said = {one["label"]: one["data"] for one in manifest["assertions"]}
        actions, edit = said["c2pa.actions.v2"], said["cmet.edit"]
        assert [action["action"] for action in actions["actions"]] == ["c2pa.opened", "c2pa.edited"]
        assert actions["actions"][1]["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
        assert (
            manifest["ingredients"][0]["title"] == "take.mp4"
            and manifest["ingredients"][0]["relationship"] == "parentOf"
        )
        assert edit["timeline"][0]["emotion"] == "happy" and edit["consent"]["text"].startswith("Anna")
        assert edit["watermark"] == edit["id"] and edit["models"] and edit["sources"][0]["name"] == "take.mp4"
        assert "thumbnail" not in manifest and str(tmp_path) not in json.dumps(manifest), "more is told than was asked"
    assert show.examine(frames.parent).credentials == show.examine(exr).credentials == show.VALID


def test_a_changed_byte_and_a_grown_file_are_found(clip: Path, tmp_path: Path, signed):
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    signed(clip, path)
    good = path.read_bytes()
    pictures_at, manifest_at = good.index(b"mdat") + 500, good.index(b"cmet.edit") + 100

    def verdict(data: bytes) -> show.Verdict:
        path.write_bytes(data)
        return show.examine(path)

    def flipped(at: int) -> bytes:
        return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]

    assert verdict(good).credentials == show.VALID
    assert "Your ledger knows it" in verdict(good).sentences[-1]
    assert (
        "Its content was changed after it was signed, or something was added to it."
        in verdict(flipped(pictures_at)).sentences
    )
    assert "Its credentials themselves were changed after they were signed." in verdict(flipped(manifest_at)).sentences
    assert verdict(good + b"more").credentials == show.CHANGED
    # the specification leaves out padding; the ledger knows every byte
    assert "It is not byte for byte the file that the ledger knows." in verdict(good + b"\0\0\0\x0cfreemore").sentences
    assert verdict(good[: len(good) // 2]).credentials in (show.UNREADABLE, show.CHANGED)
    assert path.exists() and not list(tmp_path.glob(".*"))


def test_pictures_that_differ_from_the_signed_list_are_named(clip: Path, tmp_path: Path, signed):
    frames = pictures(tmp_path / "frames", count=5)
    signed(clip, frames)
    one = frames.parent / "000002.png"
    assert show.examine(one).credentials == show.VALID
    one.write_bytes(b"another picture")
    (frames.parent / "000004.png").unlink()
    shutil.copy(frames.parent / "000001.png", frames.parent / "000006.png")
    text = " ".join(show.examine(frames.parent).sentences)
    assert "1 of 5 pictures were changed since they were signed (000002.png)" in text
    assert "1 of 5 pictures are missing (000004.png)" in text and "added" in text and "000006.png" in text
    assert show.examine(one).credentials == show.CHANGED


def test_a_manifest_that_was_stripped_or_lost_by_another_program(clip: Path, tmp_path: Path, signed):
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    signed(clip, path)
    lost = tmp_path / "lost.mp4"
    with av.open(str(path)) as source, av.open(str(lost), "w", options={"movflags": "use_metadata_tags"}) as target:
        target.metadata["cmet_edit"] = "happy 0.8 (add)"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    verdict = show.examine(lost)
    assert verdict.credentials == show.NONE and verdict.sentences[0] == "lost.mp4 carries no Content Credentials."
    assert "Its tags say that C-MET edited it (happy 0.8 (add))" in verdict.sentences[1]
    mark = ledger.entries()[-1]["id"]
    text = " ".join(show.examine(lost, lambda _: mark).sentences)
    assert f"(id {mark})" in text and "from " + str(clip) in text and "written anew by another program" in text


def test_the_chain_goes_on_from_a_clip_that_another_tool_signed(
    clip: Path, tmp_path: Path, signed, authority: Authority
):
    identity.use(*authority.issue("Camera"))
    shot = Path(shutil.copy(clip, tmp_path / "shot.mp4"))
    other = {
        "claim_generator_info": [{"name": "Another tool", "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"}]}}],
    }  # fmt: skip
    credentials.sign(shot, shot, other, [], identity.current())
    beside = movie(tmp_path / "shot.mkv")
    credentials.sign(beside, beside, other, [], identity.current())
    assert "What was done: created." in show.examine(shot).sentences
    identity.use(None)
    edited = tmp_path / "edited.mp4"
    for source in (shot, beside):
        shutil.copy(clip, edited)
        assert signed(source, edited) == []
        found = read_elsewhere("video/mp4", edited)
        assert found["state"] == "Valid" and len(found["manifests"]) == 2
        assert (
            f"Made from {source.name}, whose own credentials were valid then and are kept in it."
            in show.examine(edited).sentences
        )
    data = bytearray(shot.read_bytes())
    data[data.index(b"mdat") + 500] ^= 1
    shot.write_bytes(data)
    shutil.copy(clip, edited)
    assert "do not fit it (assertion.bmffHash.mismatch); they are kept as they are" in signed(shot, edited)[0]
    verdict = show.examine(edited)
    assert verdict.credentials == show.VALID and verdict.sources[0]["credentials"] == show.CHANGED


def test_a_signer_is_trusted_where_the_user_trusts_the_authority(
    clip: Path, tmp_path: Path, signed, authority: Authority
):
    identity.use(*authority.issue("Jo"))
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    signed(clip, path)
    assert "Signed by Jo, Studio; no authority that you trust vouches for them" in " ".join(
        show.examine(path).sentences
    )
    identity.trust(authority.path)
    verdict = show.examine(path)
    assert verdict.trusted and "Signed by Jo, Studio, whom you trust." in verdict.sentences


def test_a_time_stamp_authority_that_does_not_answer_is_not_waited_for(clip: Path, tmp_path: Path, signed, monkeypatch):
    monkeypatch.setattr(credentials, "TIMESTAMP_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], 9):
            identity.use(None, timestamp=f"http://127.0.0.1:{port}/stamp")
            path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
            assert "gave no time stamp; the signature carries this machine's time alone" in signed(clip, path)[0]
            assert show.examine(path).credentials == show.VALID


def test_a_home_that_cannot_be_written_costs_the_signature_and_nothing_else(clip, tmp_path, signed, monkeypatch):
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    signed(clip, path)
    monkeypatch.setenv("CMET_HOME", str(clip / "home"))  # below a file there can be no folder
    assert show.examine(path).credentials == show.VALID
    first, second = signed(clip, Path(shutil.copy(clip, tmp_path / "other.mp4")))
    assert "other.mp4 carries no Content Credentials: The folder" in first and "not on record" in second


def test_without_the_library_or_a_signature_the_file_stays_and_it_is_said(
    clip, tmp_path, signed, authority, monkeypatch
):
    path = Path(shutil.copy(clip, tmp_path / "edited.mp4"))
    certificate, key = authority.issue("Jo")
    identity.use(certificate, key)
    spec = EditSpec.read({"clip": clip, "emotions": ["happy"]})
    seal = Signatory(spec).seal("happy")
    object.__setattr__(seal._who, "sign", lambda data: b"no signature at all")
    assert "edited.mp4 carries no Content Credentials" in seal(path, path)[0] and seal.words()["signed by"].startswith(
        "not signed"
    )
    assert path.read_bytes() == clip.read_bytes() and not list(tmp_path.glob(".*"))
    monkeypatch.setattr(credentials.importlib.util, "find_spec", lambda name: None)
    assert "carries no Content Credentials: Content Credentials need the package c2pa-python" in signed(clip, path)[0]
    assert path.read_bytes() == clip.read_bytes()
