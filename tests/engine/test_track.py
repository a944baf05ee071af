"""Coefficient tracks: round trips through every format, real recordings, and files that are not what they say."""

import csv
import io
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.timecode import Timecode
from cmet_engine.track import FRAME_TIMES, CoefficientTrack

QUICK = settings(suppress_health_check=list(HealthCheck))
RATES = [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60)]


def a_track(frames: int = 40, fps: Fraction = Fraction(30), seed: int = 0) -> CoefficientTrack:
    rng = np.random.default_rng(seed)
    valid = rng.random(frames) > 0.1
    valid[:1] = True
    return CoefficientTrack(
        fps,
        rng.random((frames, arkit.COUNT)),
        rng.uniform(-60, 60, (frames, 3)),
        rng.uniform(-30, 30, (frames, 4)),
        valid,
        {"clip": "ünïcode.mp4", "numbers": [1, 2.5], "nested": {"a": None}},
    )


def finite(shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, shape, elements=st.floats(-2, 2, width=32))


@QUICK
@given(data=st.data(), frames=st.integers(1, 12), fps=st.fractions(Fraction(1), Fraction(240), max_denominator=1001))
def test_npz_is_lossless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, frames: int, fps: Fraction
) -> None:
    track = CoefficientTrack(
        fps,
        data.draw(finite((frames, arkit.COUNT))),
        data.draw(finite((frames, 3))),
        data.draw(finite((frames, 4))),
        data.draw(hnp.arrays(bool, frames)),
        {"x": data.draw(st.text(max_size=5))},
    )
    path = tmp_path_factory.mktemp("t") / "a.npz"
    again = CoefficientTrack.load(track.save(path))
    assert again.fps == track.fps and again.meta == track.meta
    for name in ("coefficients", "head_rotation", "eye_rotation", "valid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(track, name))


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_live_link_round_trip(tmp_path: Path, fps: Fraction) -> None:
    track = a_track(100, fps)
    again = CoefficientTrack.load(track.save(tmp_path / "a.csv"))
    assert again.fps == fps and len(again) == 100
    np.testing.assert_array_equal(again.valid, track.valid)
    used = track.valid
    np.testing.assert_allclose(again.coefficients[used], track.coefficients[used], atol=1e-6)
    np.testing.assert_allclose(again.head_rotation[used], track.head_rotation[used], atol=1e-4)
    np.testing.assert_allclose(again.eye_rotation[used], track.eye_rotation[used], atol=1e-4)


def test_live_link_writes_names_in_the_phones_order(tmp_path: Path) -> None:
    track = CoefficientTrack(Fraction(60), np.zeros((1, arkit.COUNT)))
    track.coefficients[0, arkit.INDEX["jawRight"]] = 0.25
    rows = list(csv.reader(io.StringIO(track.save(tmp_path / "a.csv").read_text())))
    assert len(rows[0]) == 63
    assert rows[0].index("JawRight") < rows[0].index("JawLeft")
    assert float(rows[1][rows[0].index("JawRight")]) == 0.25
    assert float(rows[1][rows[0].index("JawLeft")]) == 0
    assert rows[1][1] == "61"


def test_live_link_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "Timecode,BlendShapeCount,TongueOut,JawLeft,HeadYaw\n01:00:00:00.0,3,0.5,0.25,0.1\n01:00:00:02.0,3,0.6,0.2,0\n"
    )
    track = CoefficientTrack.load(path)
    assert track["tongueOut"].tolist() == pytest.approx([0.5, 0.6])
    assert track["jawLeft"].tolist() == pytest.approx([0.25, 0.2])
    assert track.head_rotation[0, 0] == pytest.approx(math.degrees(0.1))
    assert track.coefficients.sum() == pytest.approx(1.55)


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_audio2face_round_trip(tmp_path: Path, fps: Fraction) -> None:
    track = a_track(30, fps)
    again = CoefficientTrack.load(track.save(tmp_path / "a.json"))
    assert again.fps == fps
    np.testing.assert_allclose(again.coefficients, track.coefficients, atol=1e-7)


def test_real_recordings(shared: Path) -> None:
    paths = sorted((shared / "data" / "livelinkface").glob("*.csv"))
    assert paths
    for path in paths:
        track = CoefficientTrack.load(path)
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))
        assert len(track) == len(rows)
        for name in ("JawLeft", "JawRight", "MouthLeft", "BrowInnerUp", "TongueOut"):
            used = np.flatnonzero(track.valid)
            read = [float(rows[i][name]) for i in used]
            np.testing.assert_allclose(track[name[0].lower() + name[1:]][used], read, atol=1e-6)
        assert track.fps in (30, 60)
        assert np.all(np.diff(track.times) > 0)


def test_real_recordings_survive_our_own_file(shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "data" / "livelinkface").glob("*.csv")):
        track = CoefficientTrack.load(path)
        again = CoefficientTrack.load(track.save(tmp_path / path.name))
        assert again.fps == track.fps
        np.testing.assert_allclose(again.coefficients, track.coefficients, atol=1e-6)
        np.testing.assert_allclose(again.times, track.times, atol=2e-3)


def test_a_take_past_midnight(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    stamps = ["23:59:59:20.0", "23:59:59:25.0", "00:00:00:00.0", "00:00:00:05.0"]
    path.write_text("Timecode,BlendShapeCount,JawOpen\n" + "".join(f"{s},1,0.1\n" for s in stamps))
    track = CoefficientTrack.load(path)
    assert len(track) == 4
    assert np.all(np.diff(track.times) > 0) and track.duration < 2


def test_dropped_frames_keep_their_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frames = [0, 2, 4, 6, 20, 22, 24, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58]
    path.write_text("Timecode,BlendShapeCount,JawOpen\n" + "".join(f"01:00:00:{f:02d}.0,1,0.1\n" for f in frames))
    track = CoefficientTrack.load(path)
    np.testing.assert_allclose(track.times, np.array(frames) / 60, atol=1e-6)
    assert FRAME_TIMES in track.meta


@pytest.mark.parametrize("to", [Fraction(24), Fraction(25), Fraction(60), Fraction(30000, 1001)])
def test_resampling_keeps_the_motion(to: Fraction) -> None:
    fps, frames = Fraction(30), 90
    times = np.arange(frames) / 30
    track = CoefficientTrack(fps, np.tile(0.5 + 0.4 * np.sin(2 * np.pi * times)[:, None], (1, arkit.COUNT)))
    again = track.resampled(to)
    assert again.fps == to
    assert again.duration == pytest.approx(track.duration, abs=float(1 / to))
    inside = again.times <= times[-1]
    expected = 0.5 + 0.4 * np.sin(2 * np.pi * again.times[inside])
    np.testing.assert_allclose(again["jawOpen"][inside], expected, atol=0.01)


def test_a_copy_is_independent() -> None:
    track = a_track()
    other = track.copy()
    other.coefficients[:] = 9
    other.meta["nested"]["a"] = 1
    assert track.coefficients.max() <= 1 and track.meta["nested"]["a"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": -25}, "fps"),
        ({"coefficients": np.zeros((3, 51))}, "coefficients have shape"),
        ({"coefficients": np.full((3, 52), np.nan)}, "not a number at frame 0"),
        ({"coefficients": np.zeros(52)}, "shape"),
        ({"head_rotation": np.zeros((2, 3))}, "head_rotation"),
        ({"eye_rotation": np.full((3, 4), np.inf)}, "eye_rotation"),
        ({"valid": np.ones(4, bool)}, "valid"),
    ],
)
def test_wrong_values_are_named(change: dict, says: str) -> None:
    with pytest.raises(CmetError, match=says):
        CoefficientTrack(**{"fps": Fraction(25), "coefficients": np.zeros((3, 52)), **change})


def test_an_unknown_suffix_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CmetError, match=r"\.npz, \.csv or \.json"):
        a_track().save(tmp_path / "a.xyz")
    with pytest.raises(CmetError, match=r"\.npz, \.csv, \.txt or \.json"):
        CoefficientTrack.load(tmp_path / "a.fbx")
    with pytest.raises(CmetError, match="Cannot read"):
        CoefficientTrack.load(tmp_path / "absent.npz")
    with pytest.raises(CmetError, match="Cannot read"):
        (tmp_path / "folder.npz").mkdir()
        CoefficientTrack.load(tmp_path / "folder.npz")


def opened(folder: Path, name: str, data: bytes) -> CoefficientTrack | None:
    """The track in `data`, or None where it is refused in one sentence."""
    path = folder / name
    path.write_bytes(data)
    try:
        track = CoefficientTrack.load(path)
    except CmetError as error:
        assert str(error).startswith(name) and str(error).endswith(".") and "\n" not in str(error)
        return None
    assert len(track.times) == len(track)
    assert np.isfinite(track.coefficients).all() and track.duration >= 0
    return track


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    return {suffix: a_track(8).save(folder / f"whole{suffix}").read_bytes() for suffix in (".npz", ".csv", ".json")}


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=400), suffix=st.sampled_from([".npz", ".csv", ".json"]))
@example(b"Timecode", ".csv")
@example(b"Timecode,BlendShapeCount", ".csv")
@example(b"Timecode\n", ".csv")
@example(b"Timecode,BlendShapeCount,JawOpen\n01:00:00:00.0,1,0.5", ".csv")
@example(b"Timecode,BlendShapeCount,JawOpen\n99:99:99:999.9,1,0.5\n\xff", ".csv")
@example(b"[" * 100_000, ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": [[1e999]], "exportFps": 30}', ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": [[1e300]], "exportFps": 30}', ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": [["1"]], "exportFps": 1e-300}', ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": [[1],[1,2]], "exportFps": 30}', ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": {}, "exportFps": []}', ".json")
@example(b'{"facsNames": [], "weightMat": [[]]}', ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": []}', ".json")
@example(b"9" * 5000, ".json")
@example(b'{"facsNames": ["jawOpen"], "weightMat": [[' + b"9" * 5000 + b']], "exportFps": 30}', ".json")
def test_any_bytes_are_a_track_or_one_sentence(folder: Path, data: bytes, suffix: str) -> None:
    opened(folder, f"any{suffix}", data)


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data(), suffix=st.sampled_from([".npz", ".csv", ".json"]))
def test_damaged_files_are_a_track_or_one_sentence(
    folder: Path, files: dict[str, bytes], data: st.DataObject, suffix: str
) -> None:
    whole = bytearray(files[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        cut = data.draw(st.integers(0, 30))
        whole[at : at + cut] = data.draw(st.binary(max_size=12))
    opened(folder, f"damaged{suffix}", bytes(whole))


@settings(suppress_health_check=list(HealthCheck))
@given(share=st.floats(0, 0.999), suffix=st.sampled_from([".npz", ".csv", ".json"]))
def test_cut_off_files(folder: Path, files: dict[str, bytes], share: float, suffix: str) -> None:
    track = opened(folder, f"cut{suffix}", files[suffix][: int(len(files[suffix]) * share)])
    if suffix != ".csv":
        assert track is None


CELL = st.one_of(
    st.floats(allow_nan=True).map(str),
    st.text(max_size=4),
    st.sampled_from(["", "0", "1", "nan", "inf", "1e999", "-1", "0x1"]),
)
STAMP = st.one_of(
    st.builds("{:02d}:{:02d}:{:02d}:{}".format, *[st.integers(0, 99)] * 3, st.floats(0, 120).map(lambda v: f"{v:.3f}")),
    st.text(max_size=8),
)


@settings(suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(st.sampled_from(["JawOpen", "jawopen", "HeadYaw", "TongueOut", "other", ""]), max_size=4),
    rows=st.lists(st.tuples(STAMP, st.lists(CELL, max_size=6)), max_size=5),
)
def test_any_table_is_a_track_or_one_sentence(
    folder: Path, names: list[str], rows: list[tuple[str, list[str]]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["Timecode", "BlendShapeCount", *names])
    writer.writerows([stamp, *cells] for stamp, cells in rows)
    opened(folder, "table.csv", text.getvalue().encode("utf-8", "surrogatepass"))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=list(HealthCheck))
@given(
    document=st.fixed_dictionaries(
        {},
        optional={
            "facsNames": st.one_of(JSON, st.lists(st.sampled_from(["jawOpen", "JawOpen", "x"]), max_size=3)),
            "weightMat": st.one_of(JSON, st.lists(st.lists(st.floats(), min_size=1, max_size=3), max_size=4)),
            "exportFps": JSON,
            "numPoses": JSON,
        },
    )
)
def test_any_document_is_a_track_or_one_sentence(folder: Path, document: dict) -> None:
    opened(folder, "document.json", json.dumps(document).encode())


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_archive_is_a_track_or_one_sentence(folder: Path, data: st.DataObject) -> None:
    fields = {
        "format": np.array("cmet-track/1"),
        "fps": np.array([30, 1]),
        "names": np.array(arkit.NAMES),
        "coefficients": np.zeros((3, 52), np.float32),
        "head_rotation": np.zeros((3, 3), np.float32),
        "eye_rotation": np.zeros((3, 4), np.float32),
        "valid": np.ones(3, bool),
        "meta": np.array("{}"),
    }
    odd = st.one_of(
        hnp.arrays(st.sampled_from([np.float32, np.int64, np.complex64, np.bool_]), hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)),
        st.text(max_size=6).map(np.array),
        st.lists(st.text(max_size=3), max_size=3).map(lambda v: np.array(v, dtype=str)),
        st.sampled_from([np.array([30, 0]), np.array([-1, 1]), np.array("[1]"), np.array('{"frame_times": 5}'), np.array("3"),
                         np.array('{"frame_times": [1, null, 2]}'), np.array("2020-01-01", "M8[D]"), np.array(b"x")]),
    )  # fmt: skip
    for name in data.draw(st.sets(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            fields[name] = data.draw(odd)
        else:
            del fields[name]
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    opened(folder, "archive.npz", buffer.getvalue())


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "a.npz", format=np.array([Bomb()], dtype=object))
    with pytest.raises(CmetError):
        CoefficientTrack.load(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_saving_keeps_an_earlier_file_unless_forced(tmp_path: Path) -> None:
    path = a_track(3).save(tmp_path / "a.npz")
    with pytest.raises(CmetError, match="exists already"):
        a_track(5).save(path, force=False)
    assert len(CoefficientTrack.load(path)) == 3
    a_track(5).save(path, force=True)
    assert len(CoefficientTrack.load(path)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("fps", "timecode"),
    [
        ("25", "10:11:12:13"),
        ("24000/1001", "01:00:00:00"),
        ("30000/1001", "23:59:59;28"),
        ("24", "09:59:59:23"),
        ("50", "00:00:00:49"),
    ],
)
def test_live_link_begins_with_the_timecode_of_the_footage(tmp_path: Path, fps: str, timecode: str) -> None:
    track = CoefficientTrack(Fraction(fps), np.zeros((120, 52), np.float32))
    track.meta = {"timecode": timecode, "start_seconds": float(Timecode.parse(timecode, Fraction(fps)).seconds)}
    rows = track.save(tmp_path / "take.csv").read_text().splitlines()
    assert rows[1].startswith(timecode.replace(";", ":") + ".000,")
    again = CoefficientTrack.load(tmp_path / "take.csv")
    assert (again.fps, len(again)) == (track.fps, 120)
    assert again.meta["start_seconds"] == pytest.approx(track.meta["start_seconds"])


def test_a_number_too_large_for_a_float_is_said(tmp_path):
    path = tmp_path / "take.json"
    path.write_text(json.dumps({"exportFps": 10**400, "facsNames": ["jawOpen"], "weightMat": [[0.5]]}))
    with pytest.raises(CmetError, match="not made of numbers"):
        CoefficientTrack.load(path)
