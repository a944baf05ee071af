"""Recordings of other applications: one take in many spellings is read alike, or refused with line and column."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.takes import NOTES
from cmet_engine.track import CoefficientTrack

FRAMES = 40
VALUES = np.round(np.random.default_rng(3).random((FRAMES, arkit.COUNT)), 4)
VALUES[:, arkit.INDEX["jawRight"]], VALUES[:, arkit.INDEX["jawLeft"]] = 0.25, 0.5


def table(
    names: list[str] | None = None, values: np.ndarray = VALUES, times: list[str] | None = None, label: str = "time", by: str = ","
) -> str:  # fmt: skip
    """The take as a table with a column of times."""
    times = [f"{i / 30:.4f}" for i in range(len(values))] if times is None else times
    rows = [by.join([label, *(names or arkit.NAMES)])]
    rows += [by.join([t, *(f"{v:.4f}" for v in row)]) for t, row in zip(times, values, strict=True)]
    return "\n".join(rows) + "\n"


def short(name: str) -> str:
    return name.replace("Left", "_L").replace("Right", "_R")


def side_first(name: str) -> str:
    return ("l_" + name[:-4] if name.endswith("Left") else "r_" + name[:-5] if name.endswith("Right") else name).upper()


FACE_CAP = "\n".join(
    ["info,Face Cap,1.0", "bs," + ",".join(map(short, arkit.NAMES))]
    + [f"k,{i * 1000 / 30:.4f},0,0,0,3,2,1,0,0,0,0," + ",".join(map(str, row)) for i, row in enumerate(VALUES)]
)
IFACIALMOCAP = "\n".join(
    "|".join(f"{short(n)}-{v * 100:.2f}" for n, v in zip(arkit.NAMES, row, strict=True)) + "|=head#3,2,1,0,0,0|rightEye#0,0,0|"
    for row in VALUES
)  # fmt: skip
MEDIAPIPE = json.dumps(
    [
        {"timestamp_ms": i * 1000 / 30, "face_blendshapes": [[{"categoryName": n, "score": v} for n, v in zip(("_neutral", *arkit.NAMES), (0.1, *row), strict=True)]]}
        for i, row in enumerate(VALUES)
    ]
)  # fmt: skip
BY_NAME = json.dumps({"fps": 30, "frames": [dict(zip(arkit.NAMES, row, strict=True)) for row in VALUES.tolist()]})
SPELLINGS: dict[str, str | bytes] = {
    "plain": table(),
    "tabs": table(by="\t"),
    "sep line": "sep=;\n" + table(by=";"),
    "decimal comma": table(by=";").replace(".", ","),
    "quoted decimal comma": table(by="§").replace(".", ",").replace("§", '","').replace("\n", '"\n"')[:-1].join(['"', ""]),
    "windows": table().replace("\n", "\r\n").encode("cp1252") + b"\n",
    "utf-16": table().encode("utf-16"),
    "utf-16 without a mark": table().encode("utf-16-be"),
    "a comment above": "# exported by a studio\n\n" + table(),
    "short sides": table([short(n) for n in arkit.NAMES]),
    "sides first, in capitals": table([side_first(n) for n in arkit.NAMES]),
    "prefixed": table([f"blendShapes.{n[0].upper()}{n[1:]}" for n in arkit.NAMES]),
    "lower case": table([n.lower() for n in arkit.NAMES]),
    "percent": table(values=VALUES * 100),
    "milliseconds": table(times=[f"{i * 1000 / 30:.2f}" for i in range(FRAMES)], label="Timestamp (ms)"),
    "nanoseconds": table(times=[f"{i * 1e9 / 30:.0f}" for i in range(FRAMES)], label="timestamp_ns"),
    "timecodes": table(times=[f"10:00:{i // 30:02d}:{i % 30:02d}" for i in range(FRAMES)], label="Timecode"),
    "frames": table(times=[str(i + 1) for i in range(FRAMES)], label="Frame"),
    "Face Cap": FACE_CAP,
    "MediaPipe": MEDIAPIPE,
    "frames by name": BY_NAME,
}  # fmt: skip


def loaded(folder: Path, text: str | bytes, name: str = "take.csv") -> CoefficientTrack:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return CoefficientTrack.load(path)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_take_in_many_spellings(tmp_path: Path, spelling: str) -> None:
    track = loaded(tmp_path, SPELLINGS[spelling])
    assert (track.fps, len(track)) == (30, FRAMES) and track.valid.all()
    np.testing.assert_allclose(track.coefficients, VALUES, atol=1e-4)


def test_packets_of_ifacialmocap(tmp_path: Path) -> None:
    track = loaded(tmp_path, IFACIALMOCAP, "take.txt")
    assert track.fps == 60 and "60 frames a second" in track.meta[NOTES][0]
    np.testing.assert_allclose(track.coefficients, VALUES, atol=1e-3)
    np.testing.assert_allclose(track.head_rotation, [[2, 3, 1]] * FRAMES, atol=1e-4)


def cell(text: str, line: int, column: int, value: str | None) -> str:
    """The table with one cell changed, or the row cut before it."""
    lines = text.splitlines()
    cells = lines[line - 1].split(",")
    lines[line - 1] = ",".join(cells[:column] if value is None else [*cells[:column], value, *cells[column + 1 :]])
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("value", "says"),
    [("x", "Line 9, column 4"), ("", "Line 9, column 4"), ("nan", "Line 9"), (None, "Line 9 has 3 columns"), ("69", "far above 1")],
)  # fmt: skip
def test_one_bad_row_costs_one_row(tmp_path: Path, value: str | None, says: str) -> None:
    track = loaded(tmp_path, cell(table(), 9, 3, value))
    assert np.flatnonzero(~track.valid).tolist() == [7]
    np.testing.assert_allclose(np.delete(track.coefficients, 7, 0), np.delete(VALUES, 7, 0), atol=1e-4)
    np.testing.assert_allclose(track.coefficients[7], VALUES[6], atol=1e-4)
    assert says.lower() in track.meta[NOTES][-1].lower()


def test_a_row_twice_and_a_row_without_time_are_left_out(tmp_path: Path) -> None:
    times = [f"01:00:{i // 30:02d}:{i % 30:02d}" for i in range(FRAMES)]
    times[9], times[20] = times[8], "later"
    track = loaded(tmp_path, table(times=times, label="Timecode"))
    assert len(track) == FRAMES - 2 and track.fps == 30
    assert len(track.meta[NOTES]) == 2


def renamed(old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda names: [new if n == old else n for n in names]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            renamed("eyeBlinkLeft", "eyeBlnkLeft"),
            "line 1, column 2: 'eyeBlnkLeft' is no known name; if it is eyeBlinkLeft",
        ),
        (renamed("eyeBlinkLeft", "EyeBlink_R"), "columns 2 and 9 are both eyeBlinkRight"),
        (lambda _: [f"shape{i}" for i in range(52)], "no recording of a face"),
    ],
)
def test_names_that_cannot_be_right_are_refused(tmp_path: Path, change: Callable, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        loaded(tmp_path, table(change(list(arkit.NAMES))))


def test_missing_and_sideless_columns_are_said(tmp_path: Path) -> None:
    keep = [i for i, n in enumerate(arkit.NAMES) if n not in ("tongueOut", "mouthSmileRight")]
    names = ["mouthSmile" if arkit.NAMES[i] == "mouthSmileLeft" else arkit.NAMES[i] for i in keep]
    track = loaded(tmp_path, table(names, VALUES[:, keep]))
    np.testing.assert_array_equal(track["mouthSmileLeft"], track["mouthSmileRight"])
    assert not track["tongueOut"].any()
    assert any("serves both" in n for n in track.meta[NOTES]) and any("tongueOut" in n for n in track.meta[NOTES])


def test_unrelated_files_are_refused(tmp_path: Path) -> None:
    for text in (
        "",
        "a,b\n1,2\n",
        "time,jawOpen\n",
        table(values=VALUES * 1e4),
        "[1]",
        '{"frames": [{"x": 1}]}',
        "bs,jawOpen\n",
        "info\r,Face Cap,1.0\nbs,jawOpen\n",
        "bs,jawOpen\nk," + "1" * 200_000,
    ):
        with pytest.raises(InvalidInput):
            loaded(tmp_path, text)


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(), spelling=st.sampled_from(["timecodes", "Face Cap", "MediaPipe", "ifacialmocap", "decimal comma"])
)
def test_damaged_takes_are_a_track_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, spelling: str
) -> None:
    whole = bytearray(SPELLINGS.get(spelling, IFACIALMOCAP).encode()[:6000])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole)))
        whole[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=12))
    try:
        track = loaded(tmp_path_factory.getbasetemp(), bytes(whole))
    except InvalidInput as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return
    assert np.isfinite(track.coefficients).all() and track.fps > Fraction(0)


def test_the_recorded_cases(shared: Path) -> None:
    folder = shared / "data" / "cases" / "takes"
    right = CoefficientTrack.load(folder / "ok.csv")
    for path in sorted(folder.iterdir()):
        track = CoefficientTrack.load(path)
        absent = [
            i
            for i, n in enumerate(arkit.NAMES)
            if path.stem == "missing_two_columns" and n in ("cheekPuff", "tongueOut")
        ]
        both = track.valid & right.valid
        difference = np.delete(track.coefficients - right.coefficients, absent, 1)[both]
        assert len(track) == len(right) and (~track.valid).sum() <= 1, path.name
        assert np.abs(difference).max() <= (0.0101 if path.stem == "ifacialmocap" else 1e-4), path.name
