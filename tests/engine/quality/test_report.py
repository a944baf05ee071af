"""The report: what it says, that it is whole in itself, and that it draws any track."""

import base64
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from soak_cases import soak

from cmet_engine import arkit
from cmet_engine.quality.report import EditReport, FramePair, write_report
from cmet_engine.quality.report.data import document
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import FRAME_TIMES, CoefficientTrack

KEYS = ("happy=0.9@0-2.5", "sarcastic=0.6@2-5", "0.7*happy+0.3*fear=-0.5@4-4.3", "surprised=1.4@5-")


def a_report(
    frames: int = 240, fps: Fraction = Fraction(30), keys: tuple[str, ...] = KEYS, **changes: Any
) -> EditReport:
    rng = np.random.default_rng(0)
    duration = frames / float(fps)
    source = rng.random((frames, arkit.COUNT)) * 0.2
    edited = source.copy()
    edited[:, arkit.columns(["mouthSmileLeft", "mouthSmileRight"])] += 0.5
    edited[:, arkit.INDEX["browInnerUp"]] -= 0.25
    valid = np.ones(frames, bool)
    valid[frames // 3 : frames // 3 + 5] = False
    picture = rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    values: dict[str, Any] = {
        "clip": "clip <b>&'\".mp4", "output": "edited.mp4", "width": 120, "height": 90, "fps": fps, "duration": duration,
        "timeline": EmotionTimeline.parse(keys),
        "source": CoefficientTrack(fps, source, valid=valid), "edited": CoefficientTrack(fps, edited, valid=valid),
        "settings": {"mode": "add", "strength": 1.0, "path": "</td><script>alert(1)</script>"},
        "versions": {"cmet": "0.1.0"},
        "pairs": [FramePair(i, i / float(fps), picture, 255 - picture) for i in range(0, frames, max(1, frames // 3))],
        "edit_realised": 0.71, "same_sign": 0.96, "lips_closed_kept": 0.932, "lip_correlation": 0.981,
        "outside_psnr": 43.21, "faces_lost": 5, "cuts": [frames // 2], "speed": 27.3,
        "messages": ["Mind the <gap>."],
    }  # fmt: skip
    return EditReport(**{**values, **changes})


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not close."""

    void = ("meta", "img", "input", "br", "line", "rect", "polyline", "polygon", "link", "i")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += " " + data


def written(folder: Path, data: EditReport) -> tuple[str, Page, dict[str, Any]]:
    write_report(folder / "report.html", folder / "report.json", data)
    text = (folder / "report.html").read_text("utf-8")
    document = json.loads(
        (folder / "report.json").read_text("utf-8"), parse_constant=lambda c: pytest.fail(f"{c} in JSON")
    )
    return text, Page(text), document


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text, page, _ = written(tmp_path, a_report())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert tag != "script" or "src" not in attributes
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_the_user_wrote_is_shown_not_run(tmp_path: Path) -> None:
    hostile = "<script>alert(2)</script>{{ data }}"
    text, page, _ = written(tmp_path, a_report(output=hostile, versions={hostile: hostile}))
    assert "clip <b>&'\".mp4" in page.text and "Mind the <gap>." in page.text
    assert page.text.count(hostile) == 3
    assert "<script>alert" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 1


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    _, page, _ = written(tmp_path, a_report())
    for words in ("71%", "96%", "93.2%", "0.981", "43.2 dB", "27.3", "5 frames without a face", "mouth", "Smile", "InnerUp",
                  "happy", "sarcastic", "surprised", "90%", "60%", "140%", "opposite, 50%", "edited.mp4", "0.1.0", "consent",
                  "time in the clip, seconds", "120 × 90 pixels", "30 frames a second"):  # fmt: skip
        assert words in page.text, words
    assert page.text.count("✓ good") == 4  # not the lips, and not the lost faces
    assert page.text.count("! have a look") == 2


def test_figures_that_were_not_measured_are_not_shown(tmp_path: Path) -> None:
    none = dict.fromkeys(("edit_realised", "same_sign", "lips_closed_kept", "lip_correlation", "outside_psnr", "speed"))
    _, page, document = written(tmp_path, a_report(**none, faces_lost=0, cuts=[], messages=[]))
    for words in (
        "Edit realised",
        "Right direction",
        "Closed lips",
        "Speech kept",
        "outside the face",
        "Speed",
        "Messages",
    ):
        assert words not in page.text
    assert set(document["measured"].values()) == {None}


def test_pictures_are_the_frames(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 120).astype(np.uint8)[None, :, None], (90, 1, 3))
    _, page, _ = written(tmp_path, a_report(pairs=[FramePair(7, 0.2, smooth, 255 - smooth)]))
    sources = [a["src"] for tag, a in page.tags if tag == "img" and a.get("src")]
    assert len(sources) == 2
    for source, expected in zip(sources, (smooth, 255 - smooth), strict=True):
        assert source is not None and source.startswith("data:image/jpeg;base64,")
        data = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        found = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.abs(found.astype(int) - expected).mean() < 2


def test_large_pictures_are_made_small_and_faces_shown_from_near(tmp_path: Path) -> None:
    large = np.zeros((2160, 3840, 3), np.uint8)
    pair = FramePair(0, 0.0, large, large, face=(3700, 100, 3800, 220))
    _, page, _ = written(tmp_path, a_report(pairs=[pair]))
    images = [a for tag, a in page.tags if tag == "img" and a.get("src")]
    assert [(a["width"], a["height"]) for a in images] == [("204", "204")] * 2
    figure = next(a for tag, a in page.tags if tag == "figure")
    assert figure["data-before"] and figure["data-after"]
    assert (tmp_path / "report.html").stat().st_size < 400_000


def test_json_says_the_same(tmp_path: Path) -> None:
    data = a_report()
    _, _, document = written(tmp_path, data)
    assert document["format"] == "cmet-report/1" and document["edited"] is True
    assert document["clip"] == {
        "name": data.clip, "width": 120, "height": 90, "fps": "30", "frames": 240, "duration": 8.0,
    }  # fmt: skip
    assert document["measured"] == {
        "edit_realised": 0.71, "same_sign": 0.96, "lips_closed_kept": 0.932, "lip_correlation": 0.981,
        "outside_psnr_db": 43.21, "frames_per_second": 27.3,
    }  # fmt: skip
    assert set(document["coefficients"]) == set(arkit.NAMES)
    assert document["coefficients"]["mouthSmileLeft"]["mean_change"] == pytest.approx(0.5, abs=1e-3)
    assert document["coefficients"]["browInnerUp"]["largest_change"] == pytest.approx(-0.25, abs=1e-3)
    assert document["coefficients"]["jawOpen"]["largest_change"] == 0
    assert document["moments"][0] == {"frame": 0, "time": 0.0, "emotions": {"happy": pytest.approx(0.9)}}
    (tmp_path / "keys.json").write_text(json.dumps(document["timeline"]))
    assert EmotionTimeline.load(tmp_path / "keys.json").keys == data.timeline.keys


def curves(text: str, kind: str) -> list[np.ndarray]:
    """Points [N, 2] of the drawn curves of a class."""
    found = re.findall(rf'<polyline class="{kind}" points="([^"]+)"', text)
    return [np.array([[float(v) for v in point.split(",")] for point in line.split()]) for line in found]


def test_curves_show_the_tracks(tmp_path: Path) -> None:
    frames = 100
    source = np.zeros((frames, arkit.COUNT))
    edited = source.copy()
    edited[:, arkit.INDEX["jawOpen"]] = np.linspace(0, 1, frames)
    data = a_report(
        frames, source=CoefficientTrack(Fraction(30), source), edited=CoefficientTrack(Fraction(30), edited)
    )
    text, _, _ = written(tmp_path, data)
    before, after = curves(text, "source"), curves(text, "edited")
    assert len(before) == len(after) == 1
    assert np.ptp(before[0][:, 1]) == 0
    heights = before[0][0, 1] - after[0][:, 1]
    np.testing.assert_allclose(heights / heights[-1], np.linspace(0, 1, frames), atol=0.01)
    times = np.arange(frames) / frames
    np.testing.assert_allclose((after[0][:, 0] - after[0][0, 0]) / (984 - after[0][0, 0]), times, atol=0.001)


def test_the_plots_are_well_formed_and_no_text_leaves_them(tmp_path: Path) -> None:
    keys = ("a_very_long_emotion_name_of_a_user=1@0-1", "happy=1@7.9-8", "sad@0-0.1", *KEYS)
    text, _, _ = written(tmp_path, a_report(keys=keys))
    drawings = re.findall(r'<svg viewBox="0 0 1000.*?</svg>', text, re.S)
    assert len(drawings) == 2
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
        for element in root.iter("text"):
            assert element.text is not None
            size = 8.5 * len(element.text)  # wider than any of these letters at 14 pixels on average
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            left = x - {"end": size, "middle": size / 2}.get(element.attrib.get("text-anchor", "start"), 0)
            assert left >= 0 and left + size <= width + 4, element.text
            assert 10 <= y <= height - 3, element.text


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": 1, "keys": ("happy",), "cuts": []},
        {"frames": 2, "keys": ()},
        {"frames": 5000},
        {"frames": 240, "pairs": []},
        {"frames": 240, "outside_psnr": math.inf},
        {"frames": 240, "edit_realised": math.nan},
        {"frames": 240, "keys": ("happy=-10", "sad=10@0-0.01", "fear@500-")},
        {"frames": 30, "fps": Fraction(1, 10)},
    ],
    ids=str,
)
def test_any_edit_can_be_reported(tmp_path: Path, changes: dict[str, Any]) -> None:
    text, page, _ = written(tmp_path, a_report(**changes))
    assert not re.search(r"\bnan", page.text) and not re.search(r'="[^"]*\b(nan|inf)\b', text)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(drawing)


def test_a_clip_without_any_face(tmp_path: Path) -> None:
    none = CoefficientTrack(Fraction(30), np.zeros((50, arkit.COUNT)), valid=np.zeros(50, bool))
    _, page, _ = written(tmp_path, a_report(50, source=none, edited=none.copy(), faces_lost=50, keys=("happy",)))
    assert "No coefficient changed." in page.text and "0%" in page.text


def test_uneven_frames_stand_at_their_own_times(tmp_path: Path) -> None:
    times = np.r_[np.arange(10) * 0.1, 5 + np.arange(10) * 0.1]
    track = CoefficientTrack(Fraction(10), np.zeros((20, arkit.COUNT)), meta={FRAME_TIMES: times.tolist()})
    edited = track.copy()
    edited.coefficients[:] = 0.5
    text, _, _ = written(tmp_path, a_report(20, source=track, edited=edited, duration=6.0, keys=("happy",), cuts=[]))
    xs = curves(text, "edited")[0][:, 0]
    assert xs[10] - xs[9] > 10 * (xs[9] - xs[8])


def test_a_long_clip_makes_no_long_page(tmp_path: Path) -> None:
    frames = 30 * 600
    text, page, _ = written(tmp_path, a_report(frames, pairs=[]))
    assert len(text) < 500_000
    assert "minutes:seconds" in page.text and "10:00" in page.text
    peak = a_report(frames, pairs=[])
    peak.edited.coefficients[7777] = 1.0  # a single frame must not vanish among thousands
    text, _, _ = written(tmp_path, peak)
    line = next(c for c in curves(text, "edited"))
    assert line[:, 1].min() < np.median(line[:, 1]) - 10


def test_both_files_or_none_of_a_name(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", tmp_path / "report.json", a_report())
    first = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path / "report.html", tmp_path / "report.json", a_report())
    assert (tmp_path / "report.html").read_bytes() == first  # the same data make the same bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
@pytest.mark.parametrize("width", [500, *soak(1200)])
def test_a_browser_cuts_no_label_off(tmp_path: Path, width: int) -> None:
    text, _, _ = written(tmp_path, a_report())
    script = """<script>window.addEventListener('load',function(){var o=[];
      document.querySelectorAll('svg text').forEach(function(t){var v=t.ownerSVGElement.getBoundingClientRect(),
        b=t.getBoundingClientRect();if(b.left<v.left-1||b.right>v.right+1||b.top<v.top-1||b.bottom>v.bottom+1)o.push(t.textContent)});
      document.querySelectorAll('.card,td,th,figcaption,.lead').forEach(function(e){if(e.scrollWidth>e.clientWidth+1)o.push(e.textContent)});
      if(document.documentElement.scrollWidth>window.innerWidth)o.push('the page scrolls sideways');
      document.body.innerHTML='<pre>CUT['+o.join(', ')+']</pre>'})</script></body>"""
    (tmp_path / "probe.html").write_text(text.replace("</body>", script), "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run([*command, (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=60)
    assert "CUT[]" in done.stdout, re.findall(r"CUT\[.*?\]", done.stdout)


def test_several_people_have_figures_of_their_own(tmp_path):
    people = {"anna": a_report(keys=("happy#anna",)), "2": a_report(keys=("angry#2",), edit_realised=0.11)}
    report = a_report(keys=("happy#anna", "angry#2"), people=people)
    write_report(tmp_path / "a.html", tmp_path / "a.json", report)
    page, told = (tmp_path / "a.html").read_text("utf-8"), json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [told["people"][name]["measured"]["edit_realised"] for name in ("anna", "2")] == [0.71, 0.11]
    assert [key["person"] for key in told["timeline"]["keys"]] == ["anna", "2"]
    assert told["people"]["2"]["timeline"]["keys"][0]["emotion"] == "angry"
    assert "What was measured: anna" in page and "What was measured: 2" in page
    assert "people" not in document(a_report())
