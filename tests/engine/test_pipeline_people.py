"""Several people edited in one pass: each their own emotion, tracks and figures, one video."""

import base64
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from two_people import heads, side_by_side, write

from cmet_engine.errors import CmetError
from cmet_engine.face import people
from cmet_engine.jobs.scrubber import Scrubber
from cmet_engine.media.planes import views
from cmet_engine.media.reader import VideoReader
from cmet_engine.pipeline import edit_clip, render_clip
from cmet_engine.spec import EditSpec, LiveSpec, RenderSpec
from cmet_engine.track import CoefficientTrack

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side; the left one is called anna."""
    one, other = heads(FRAMES)
    path = write(
        tmp_path_factory.mktemp("two") / "two.mp4", [side_by_side(a, b) for a, b in zip(one, other, strict=True)]
    )
    pictures = [person.picture for person in people.find_people(path)]
    left = int(np.argmin([np.abs(p.astype(int).mean((0, 1)) - one[0].mean((0, 1))).sum() for p in pictures])) + 1
    people.give_names(path, {"anna": left})
    return path


def _other(clip: Path) -> int:
    return 3 - people.names(clip)["anna"]


def _change(one: Path, two: Path, index: int) -> np.ndarray:
    """How much each column of a frame differs: float [W]."""
    a, b = (next(f.image for f in VideoReader(p) if f.index == index).astype(int) for p in (one, two))
    return np.abs(a - b).mean((0, 2))


def test_two_people_are_edited_differently(tmp_path, clip):
    other = _other(clip)
    own = {"happy#anna": {"mode": "replace#anna"}, f"surprised#{other}": {"strength": f"0.9#{other}"}}
    settings = {name: value for one in own.values() for name, value in one.items()}
    spec = EditSpec.read({"clip": clip, "emotions": list(own), "quality": "draft", "watermark": False, **settings})
    result = edit_clip(spec, tmp_path / "both")
    names = {"edited.mp4", "report.html", "report.json"} | {
        f"{kind}_{who}.npz" for kind in ("source", "edited") for who in ("anna", other)
    }
    assert set(result.files) == names == {path.name for path in (tmp_path / "both").iterdir()}
    change = {
        who: np.subtract(*(
            CoefficientTrack.load(result.files[f"{kind}_{who}.npz"]).coefficients.mean(0) for kind in ("edited", "source")
        ))
        for who in ("anna", str(other))
    }  # fmt: skip
    assert change["anna"].argmax() != change[str(other)].argmax()
    assert {"edit_realised_anna", f"edit_realised_{other}"} <= set(result.figures)
    report = json.loads(result.files["report.json"].read_text("utf-8"))
    assert set(report["people"]) == {"anna", str(other)}
    assert report["settings"]["mode"] == "add" and report["settings"]["mode of anna"] == "replace"
    assert [key["strength"] for key in report["people"][str(other)]["timeline"]["keys"]] == [0.9]

    # the picture holds both edits, hers as it is when it is made alone
    both = _change(clip, result.files["edited.mp4"], 5)
    for emotion, setting in list(own.items())[:1]:
        spec = EditSpec.read({"clip": clip, "emotions": [emotion], "quality": "draft", "watermark": False, **setting})
        alone = edit_clip(spec, tmp_path / emotion[:5])
        assert {"source.npz", "edited.npz"} <= set(alone.files)
        changed = _change(clip, alone.files["edited.mp4"], 5) > 3
        assert changed.any() and (np.abs(both - _change(clip, alone.files["edited.mp4"], 5))[changed] < 2).all()

    # rendered from those curves it is the same video
    curves = {
        name: [f"{result.files[f'{file}_{who}.npz']}#{who}" for who in ("anna", other)]
        for name, file in (("track", "edited"), ("source", "source"))
    }
    again = render_clip(
        RenderSpec.read({"clip": clip, "quality": "draft", "watermark": False, **curves}), tmp_path / "again.mp4"
    )
    assert (_luma(again.path, 5) == _luma(result.files["edited.mp4"], 5)).all()
    assert {"edit_realised_anna", f"edit_realised_{other}"} <= set(again.figures)

    # and so it is at one moment, whoever is chosen
    for chosen in ("#anna", f"#{other}"):
        asked = LiveSpec(clip=clip, face=chosen, emotions=tuple(own), time=7.5 / 25)
        live = np.stack([_decoded(asked.model_copy(update={"view": view})) for view in ("edited", "source")])
        halves = np.split(np.abs(np.subtract(*live.astype(int))).mean((0, 2)), 2)
        assert all(half.max() > 3 for half in halves)


def _decoded(asked: LiveSpec) -> np.ndarray:
    """A picture of a moment: uint8 [h, w, 3]."""
    data = np.frombuffer(base64.b64decode(Scrubber().picture(asked)["picture"]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_settings_for_somebody_without_an_emotion_are_refused(tmp_path, clip):
    spec = EditSpec.read({"clip": clip, "emotions": ["happy#anna"], "mode": "replace#2", "renderer": "none"})
    with pytest.raises(CmetError, match="settings for 2, but no emotion"):
        edit_clip(spec, tmp_path / "out")


@pytest.mark.soak
def test_both_are_rendered_at_the_clips_own_depth(tmp_path, clip):
    deep = tmp_path / "deep.mkv"
    with av.open(str(clip)) as source, av.open(str(deep), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = (
            source.streams.video[0].width,
            source.streams.video[0].height,
            "yuv420p10le",
        )
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        target.mux(stream.encode(None))
    made = []
    for emotions in (("happy#1", "surprised#2"), ("happy#1",), ("surprised#2",)):
        spec = EditSpec(clip=deep, emotions=emotions, quality="draft", like_source=True, watermark=False)
        made.append(_luma(edit_clip(spec, tmp_path / "-".join(emotions)).files["edited.mkv"], 5))
    before, (both, one, other) = _luma(deep, 5), made
    for alone in (one, other):  # which is rendered in ten bits
        changed = alone != before
        apart = np.abs(both.astype(int) - alone)[changed]
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-3  # one of 1023 where sums round otherwise


def _luma(path: Path, index: int) -> np.ndarray:
    """The brightness of a frame, uint16 [H, W]."""
    with av.open(str(path)) as container:
        frame = next(f for n, f in enumerate(container.decode(video=0)) if n == index)
        return views(frame)[0].copy()


def test_one_person_under_two_names_is_refused(tmp_path, clip):
    number = people.names(clip)["anna"]
    with pytest.raises(CmetError, match="are one person in"):
        edit_clip(EditSpec(clip=clip, emotions=("happy#anna", f"sad#{number}"), renderer="none"), tmp_path / "out")


def test_several_people_need_the_renderer_warp(tmp_path, clip, monkeypatch):
    monkeypatch.setattr("cmet_engine.preparation.check_weights", lambda renderer, emotions: None)
    with pytest.raises(CmetError, match="edits one person"):
        edit_clip(EditSpec(clip=clip, emotions=("happy#1", "sad#2"), renderer="edtalk"), tmp_path / "out")
