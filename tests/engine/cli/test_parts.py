"""Parts of a clip by the command line: what is tracked, edited and written, and what is said before."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from short_clips import small

from cmet_engine.cli.main import main
from cmet_engine.media.probe import probe
from cmet_engine.track import CoefficientTrack

START = "10:00:00:00"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of the sample's first frames with a start timecode."""
    folder = tmp_path_factory.mktemp("parts")
    plain, path = small(folder / "plain.mp4", frames=40, size=192), folder / "clip.mov"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        streams[source.streams.video[0].index].metadata["timecode"] = START
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return path


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMET_HOME", str(tmp_path_factory.getbasetemp() / "cmet-home"))


def test_a_part_is_edited_as_it_is_within_the_whole(clip: Path, tmp_path: Path) -> None:
    edit = ["edit", str(clip), "--emotion", "happy@0.5-1.2", "--quality", "draft", "--format", "mov", "-q"]
    assert main([*edit, "-o", str(tmp_path / "whole")]) == 0
    assert main([*edit, "--from", "10:00:00:10", "--to", "30f", "--handles", "2", "-o", str(tmp_path / "part")]) == 0
    info = probe(tmp_path / "part" / "edited.mov")
    assert (info.frames, info.timecode, info.has_audio) == (24, "10:00:00:08", True)
    whole, part = (CoefficientTrack.load(tmp_path / name / "edited.npz") for name in ("whole", "part"))
    source = CoefficientTrack.load(tmp_path / "part" / "source.npz")
    assert len(part) == len(source) == 24
    assert (whole.meta["timecode"], part.meta["timecode"]) == (START, "10:00:00:08")
    eyes, mouth = whole.meta["face_place"]  # of the sample
    assert abs(eyes[0] - 0.5) < 0.05 and abs(eyes[1] - 0.45) < 0.05 and abs(mouth[1] - eyes[1] - 0.21) < 0.03
    smile = whole["mouthSmileLeft"][8:32]
    assert np.abs(part["mouthSmileLeft"] - smile).max() < 0.15  # smoothing knows other neighbours at the ends
    assert np.abs(part["mouthSmileLeft"] - source["mouthSmileLeft"])[:4].max() < 0.02  # before the key begins
    assert (part["mouthSmileLeft"] - source["mouthSmileLeft"]).max() > 0.2
    report = json.loads((tmp_path / "part" / "report.json").read_text())
    (key,) = report["timeline"]["keys"]
    assert key["start"] == pytest.approx(0.5 - 8 / float(info.fps), abs=1e-3)


def test_tracks_of_a_part(clip: Path, tmp_path: Path) -> None:
    assert main(["track", str(clip), "--from", "10f", "--to", "20f", "-o", str(tmp_path / "part.csv"), "-q"]) == 0
    rows = (tmp_path / "part.csv").read_text().splitlines()[1:]
    assert len(rows) == 10 and rows[0].startswith("10:00:00:10.000,")


def test_a_whole_track_renders_a_part(clip: Path, tmp_path: Path) -> None:
    track = tmp_path / "whole.npz"
    assert main(["track", str(clip), "-o", str(track), "-q"]) == 0
    render = ["render", str(clip), "--track", str(track), "--quality", "draft", "--from", "10f", "--to", "20f", "-q"]
    assert main([*render, "-o", str(tmp_path / "out.mp4")]) == 0
    info = probe(tmp_path / "out.mp4")
    assert (info.frames, info.timecode) == (10, "10:00:00:10")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "soon"], "--from is 'soon'"),
        (["--to", "1:2"], "--to is '1:2'"),
        (["--handles", "3"], "--handles needs --from or --to"),
        (["--from", "3"], "has no frame"),
        (["--from", "09:00:00:00"], "has no frame"),
        (["--from", "10:00:00:99"], "no timecode at"),
        (["--from", "30f", "--to", "12f"], "has no frame"),
    ],
)
def test_a_part_that_cannot_be(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["track", str(clip), *arguments, "-o", str(tmp_path / "t.npz"), "-q"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "t.npz").exists()


def test_an_edit_whose_emotions_lie_elsewhere(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit = ["edit", str(clip), "--emotion", "happy@0-0.2", "--quality", "draft", "-q"]
    assert main([*edit, "--from", "1", "-o", str(tmp_path / "out")]) == 1
    assert "No emotion acts from 1.0" in capsys.readouterr().err


def test_limits_are_said_before_the_work(clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with av.open(str(clip)) as source, av.open(str(tmp_path / "clip.mkv"), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("flac", rate=source.streams.audio[0].rate)
        sound.layout = source.streams.audio[0].layout.name
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        source.seek(0)
        for frame in source.decode(source.streams.audio[0]):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))

    said: list[str] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        said.extend(record.message for record in caplog.records if not said)
        raise KeyboardInterrupt

    from cmet_engine.pipeline import edit_clip
    from cmet_engine.spec import EditSpec

    with pytest.raises(KeyboardInterrupt):
        spec = EditSpec(clip=tmp_path / "clip.mkv", emotions=("happy",), quality="draft", format="mov")
        edit_clip(spec, tmp_path / "out", progress=progress)
    assert any("flac" in sentence and "re-encoded" in sentence for sentence in said)
