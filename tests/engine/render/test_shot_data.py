"""Shot data: in and out, timecode and names of an edit, as JSON and as OpenTimelineIO."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from short_clips import small

from cmet_engine import extras
from cmet_engine.errors import InvalidInput, MissingWeights
from cmet_engine.jobs.execute import execute
from cmet_engine.jobs.manifest import read_manifest
from cmet_engine.media.probe import probe
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.shot_data import Shot, write_shot
from cmet_engine.spec import EditSpec, RenderSpec
from cmet_engine.timeline import EmotionKey
from cmet_engine.track import CoefficientTrack

otio = pytest.importorskip("opentimelineio", reason="needs OpenTimelineIO (the extra 'otio'), which is not installed")
RATE = Fraction(30000, 1001)


def curves(frames: int, changed: slice = slice(0, 0)) -> CoefficientTrack:
    track = CoefficientTrack(RATE, np.zeros((frames, 52), np.float32), np.zeros((frames, 3)), np.zeros((frames, 4)))
    track.coefficients[changed, 3] = 0.4
    return track


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return small(tmp_path / "A001_C002.mp4", frames=10, size=96)


def test_a_shot_has_frames_seconds_and_drop_frame_timecode(clip: Path, tmp_path: Path) -> None:
    info = replace(probe(clip), fps=RATE, timecode="10:00:59;28", reel="A001", duration=1.001, begins=100 / RATE)
    keys = [EmotionKey("happy", 0.5, 0.1, 0.5), EmotionKey("sad", start=0.5)]
    shot = Shot(info, curves(30), curves(30, slice(3, 15)), "out/edited.mov", keys, {"mode": "add"}, first=100)
    write_shot(tmp_path / "s.json", shot)
    document = json.loads((tmp_path / "s.json").read_text())
    assert document["in"] == {"frame": 100, "seconds": round(100 / float(RATE), 6), "timecode": "10:00:59;28"}
    assert document["out"]["frame"] == 130 and document["out"]["timecode"] == "10:01:01;00" and document["frames"] == 30
    assert document["rate"] == "30000/1001" and document["clip"] == "A001_C002.mp4" and document["reel"] == "A001"
    assert [(key["in"]["frame"], key["out"]["frame"]) for key in document["keys"]] == [(103, 115), (115, 130)]
    assert [(run["in"]["timecode"], run["out"]["frame"]) for run in document["changed"]] == [("10:01:00;03", 115)]
    read = otio.adapters.read_from_file(str(tmp_path / "s.otio"))
    assert isinstance(read, otio.schema.Clip) and read.name == "A001_C002"
    assert otio.opentime.to_timecode(read.source_range.start_time) == "10:00:59;28"
    assert read.source_range.duration.value == 30 and read.source_range.duration.rate == float(RATE)
    assert read.media_reference.target_url == "out/edited.mov"
    assert read.media_references()["source"].target_url == clip.absolute().as_uri()
    assert [marker.name for marker in read.markers] == ["happy 0.5", "sad 1"]
    assert read.metadata["cmet"]["changed"][0]["in"]["frame"] == 103


def test_numbered_pictures_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    with VideoWriter(tmp_path / "f_%04d.png", 8, 8, 25) as writer:
        for _ in range(3):
            writer.write(np.zeros((8, 8, 3), np.uint8))
    for path in tmp_path.glob("f_*.png"):
        path.rename(tmp_path / "plate" / path.name.replace("f_000", "f_100"))
    shot = Shot(probe(tmp_path / "plate"), curves(3), curves(3), "frames/%06d.exr")
    clip = shot.clip(otio)
    result, source = clip.media_reference, clip.media_references()["source"]
    assert (
        result.abstract_target_url("#") == "frames/#.exr"
        and result.target_url_for_image_number(2) == "frames/000003.exr"
    )
    assert source.target_url_for_image_number(0) == (tmp_path / "plate" / "f_1001.png").as_uri()


def test_an_edit_and_a_render_write_them_beside_the_video(clip: Path, tmp_path: Path) -> None:
    spec = EditSpec(clip=clip, emotions=("happy",), renderer="none", shot_data=True)
    result = execute(spec, tmp_path / "out")
    assert {"edited.shot.json", "edited.shot.otio"} <= set(result.files) and all(
        f.is_file() for f in result.files.values()
    )
    document = json.loads(result.files["edited.shot.json"].read_text())
    assert document["frames"] == 10 and document["keys"][0]["emotion"] == "happy" and document["result"] == ""
    render = RenderSpec(
        clip=clip, track=tmp_path / "out" / "edited.npz", quality="draft", shot_data="conform/take.json"
    )
    rendered = execute(render, tmp_path / "b.mp4")
    assert set(rendered.files) == {"b.mp4", "take.json", "take.otio"} and all(
        f.is_file() for f in rendered.files.values()
    )
    assert json.loads((tmp_path / "conform" / "take.json").read_text())["result"] == "../b.mp4"
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(InvalidInput, match=r"take\.json exists already"):
        execute(render, tmp_path / "b.mp4")


def test_a_part_is_counted_in_the_clip(clip: Path, tmp_path: Path) -> None:
    part = {"clip": clip, "range_from": "4f", "range_to": "9f", "renderer": "none", "shot_data": "part.json"}
    files = execute(EditSpec.read({**part, "emotions": ["happy"]}), tmp_path / "out").files
    document = json.loads(files["part.json"].read_text())
    assert (document["in"]["frame"], document["out"]["frame"], document["frames"]) == (4, 9, 5)
    assert document["in"]["seconds"] == pytest.approx(4 / 25) and document["out"]["seconds"] == pytest.approx(9 / 25)
    read = otio.adapters.read_from_file(str(files["part.otio"]))
    assert (read.source_range.start_time.value, read.source_range.duration.value) == (4, 5)


@pytest.mark.parametrize("name", ["/tmp/a.json", "../a.json", "a.txt", "report.json", ""])
def test_names_outside_the_result_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="shot_data"):
        EditSpec.read({"clip": "a.mp4", "shot_data": name})


def test_a_row_of_a_batch_may_ask_for_them(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("clip,shot_data\na.mp4,auto\nb.mp4,\n")
    assert [row.spec.shot_data for row in read_manifest(tmp_path / "m.csv")] == ["auto", None]


def test_without_the_package_one_sentence_says_so_before_the_work(clip: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(extras, "load", lambda name, module: (_ for _ in ()).throw(MissingWeights(extras.advice(name))))
    with pytest.raises(MissingWeights, match="otio"):
        execute(EditSpec(clip=clip, emotions=("happy",), shot_data="auto"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
