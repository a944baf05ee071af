"""A specification that asks for what is nearest to its clip."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.manifest import Row
from cmet_engine.pipeline import edit_clip, render_clip
from cmet_engine.preparation import check_inputs, like_source
from cmet_engine.serve.engine import Engine
from cmet_engine.serve.paths import AllowedFolders
from cmet_engine.spec import EditSpec, RenderSpec, read_work
from cmet_engine.track import CoefficientTrack


@pytest.fixture
def prores(tmp_path: Path) -> Path:
    path = tmp_path / "take.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("prores_ks", rate=25, options={"profile": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        frame = av.VideoFrame(64, 48, "yuv422p10le")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_format_and_codec_are_the_clips_unless_they_are_named(prores: Path) -> None:
    plain = EditSpec(clip=prores)
    assert like_source(plain) is plain
    spec = like_source(EditSpec(clip=prores, like_source=True))
    assert (spec.format, spec.codec, spec.video_name) == ("mov", "prores", "edited.mov")
    spec = like_source(EditSpec(clip=prores, like_source=True, format="mp4"))
    assert (spec.format, spec.codec) == ("mp4", None)
    spec = like_source(EditSpec(clip=prores, like_source=True, format="mov", codec="hevc"))
    assert (spec.format, spec.codec) == ("mov", "hevc")
    render = like_source(RenderSpec(clip=prores, track=Path("a.npz"), like_source=True))
    assert (render.output_name, render.codec) == ("edited.mov", "prores")


def test_what_is_not_named_stays_so_in_a_queue_and_in_a_batch(prores: Path, tmp_path: Path) -> None:
    spec = EditSpec(clip=prores, emotions=("happy",), like_source=True)
    engine = Engine(tmp_path / "engine", AllowedFolders([tmp_path]))
    try:
        queued = engine.store.get(engine.submit(spec, "test").id).request["parameters"]
    finally:
        engine.stop()
    row = Row(1, "", "edit", str(prores), spec, tmp_path / "out").task(force=False)["spec"]
    for given in (queued, row):
        read = read_work({"kind": "edit", **given})
        assert isinstance(read, EditSpec) and like_source(read).video_name == "edited.mov"


def test_what_does_not_go_together_is_said_before_anything_else(prores: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"ffv1 does not go into \.mp4; choose the format mkv, or for \.mp4 the codec h264 or hevc"
    ):
        edit_clip(EditSpec(clip=prores, emotions=("happy",), codec="ffv1"), tmp_path / "out")
    with pytest.raises(InvalidInput, match="DNxHR begins at 256x120"):
        check_inputs(EditSpec(clip=prores, format="mxf"))
    check_inputs(EditSpec(clip=prores, format="mxf", renderer="none"))
    track = CoefficientTrack(Fraction(25), np.zeros((1, arkit.COUNT), np.float32)).save(tmp_path / "a.npz")
    with pytest.raises(InvalidInput, match=r"h264 does not go into \.webm"):
        render_clip(RenderSpec(clip=prores, track=track, codec="h264"), tmp_path / "a.webm")
