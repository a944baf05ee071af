"""`cmet edit --renderer edtalk` from the command's arguments to its folder, with stand-in weights of the published shapes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from media_data import checksum
from safetensors.torch import save_file
from short_clips import small

from cmet_engine import pipeline
from cmet_engine.errors import CmetError
from cmet_engine.media import movie_output
from cmet_engine.media.probe import probe
from cmet_engine.media.writer import VideoWriter
from cmet_engine.models import registry, store
from cmet_engine.render import stream
from cmet_engine.render.edtalk import encoding, networks, renderer
from cmet_engine.render.edtalk.portrait import read_portrait
from cmet_engine.resume import Segments
from cmet_engine.spec import EditSpec
from cmet_engine.track import CoefficientTrack

SAMPLE = Path(__file__).parents[2] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"


def spec(clip: Path, **changes) -> EditSpec:
    return EditSpec.read({"clip": clip, "emotions": ["happy"], "renderer": "edtalk", "device": "cpu", **changes})


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Networks with few channels, saved and recorded as converted weights are."""
    from cmet_engine.emotion.connector import Connector
    from cmet_engine.render.edtalk import Audio2Lip, Generator

    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))  # what these networks say is of no use to others
    makers = {
        "connector": lambda: Connector(10, width=64, layers=1, feedforward=32),
        "edtalk_generator": lambda: Generator(style_dim=48, max_channels=8, channel_budget=1024, expression_hidden=8),
        "audio2lip": Audio2Lip,
    }
    torch.manual_seed(0)
    classes = ("Connector", "Generator", "Audio2Lip")
    for make_name, (name, make) in zip(classes, makers.items(), strict=True):
        monkeypatch.setattr(networks, make_name, make)
        if make_name == "Audio2Lip":
            monkeypatch.setattr(encoding, make_name, make)
        state = make().state_dict()
        target = registry.models_folder() / f"{name}.safetensors"
        record = registry.Weights(name, "", 0, "stand-in", "0" * 64, "none", target)
        store.write(record, lambda path, state=state: save_file(state, path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The first moment of the sample, with its sound."""
    return small(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=10)


def test_what_does_not_go_together_is_refused_first(tmp_path, weights):
    clip = tmp_path / "absent.mp4"
    with pytest.raises(CmetError, match="'lips' needs the renderer edtalk"):
        spec(clip, renderer="warp", lips=tmp_path / "v.wav")
    with pytest.raises(CmetError, match="--portrait takes the path"):
        pipeline.edit_clip(spec(clip, portrait=tmp_path / "p.png"), tmp_path / "out")
    with pytest.raises(CmetError, match="edtalk adds"):
        spec(clip, mode="replace")
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 128, np.uint8))
    with pytest.raises(CmetError, match="shows no face"):
        pipeline.edit_clip(spec(clip, portrait=tmp_path / "wall.png"), tmp_path / "out")
    with VideoWriter(tmp_path / "mute.mp4", 64, 64, 25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(CmetError, match=r"mute.mp4 has no sound; --lips takes"):
        pipeline.edit_clip(spec(clip, lips=tmp_path / "mute.mp4"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_weights_the_command_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    with pytest.raises(CmetError, match="cmet models pull cmet"):
        pipeline.edit_clip(spec(tmp_path / "clip.mp4"), tmp_path / "out")


@pytest.mark.slow
def test_a_clip_is_edited_from_end_to_end(clip, tmp_path, weights):
    result = pipeline.edit_clip(spec(clip), tmp_path / "out")
    before, after = probe(clip), probe(result.files["edited.mp4"])
    assert (after.width, after.height, after.fps, after.frames) == (
        before.width,
        before.height,
        before.fps,
        before.frames,
    )
    assert after.has_audio == before.has_audio
    source, edited = (CoefficientTrack.load(result.files[f"{name}.npz"]) for name in ("source", "edited"))
    assert len(source) == len(edited) == before.frames
    assert "happy" in edited.meta["edit"]
    assert (result.folder / "report.html").stat().st_size > 10_000


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.soak
def test_interrupted_rendering_equals_uninterrupted(tmp_path, weights, monkeypatch):
    for module in (movie_output, stream, renderer):
        monkeypatch.setattr(module, "SEGMENT", 16)
    sample = small(tmp_path / "take.mp4", frames=19, size=192)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "render" and done == 18:
            raise Killed

    def once(*arguments):
        raise AssertionError("the clip was encoded already")

    whole = pipeline.edit_clip(spec(sample), tmp_path / "whole", pieces=Segments(tmp_path / "calm"))
    monkeypatch.setattr(encoding, "encode_clip", once)
    pieces = Segments(tmp_path / "pieces")
    with pytest.raises(Killed):
        pipeline.edit_clip(spec(sample), tmp_path / "broken", pieces=pieces, progress=stop)
    frames = []
    broken = pipeline.edit_clip(
        spec(sample), tmp_path / "broken", pieces=pieces, progress=lambda s, d, t: frames.append((s, d))
    )
    assert next(done for stage, done in frames if stage == "render") == 17
    assert broken.files.keys() == whole.files.keys()
    for name in whole.files:
        assert checksum(tmp_path / "whole" / name) == checksum(tmp_path / "broken" / name), name


@pytest.mark.slow
def test_a_portrait_speaks_with_another_voice(shared, clip, tmp_path, weights):
    portrait = shared / "data" / "faces" / "stills" / "images" / "00000.jpg"
    voice = sorted((shared / "data" / "speech").rglob("*.flac"))[0]
    result = pipeline.edit_clip(spec(clip, portrait=portrait, lips=voice), tmp_path / "out")
    after = probe(result.files["edited.mp4"])
    picture = read_portrait(portrait)
    assert (after.height, after.width) == picture.shape[:2] and after.has_audio
    from cmet_engine.media import audio

    seconds = len(audio.load(voice)) / audio.RATE
    assert after.frames is not None and abs(after.frames / float(after.fps) - seconds) < 0.1
    assert np.isfinite(CoefficientTrack.load(result.files["edited.npz"]).coefficients).all()
