"""`cmet render`, `cmet compare` and `cmet models check` with generators that a draft drives, on stand-in weights."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import portrait_networks
import pytest
from media_data import checksum
from safetensors.numpy import save_file
from short_clips import small

from cmet_engine import arkit, pipeline
from cmet_engine.cli.main import main
from cmet_engine.errors import CmetError
from cmet_engine.evaluation import compare, portrait
from cmet_engine.face.clip import track_clip
from cmet_engine.media.reader import VideoReader
from cmet_engine.models import registry, store
from cmet_engine.render import choose
from cmet_engine.render.liveportrait import generator
from cmet_engine.render.liveportrait.crop import follow
from cmet_engine.resume import Segments
from cmet_engine.spec import RenderSpec

FRAMES, LONG = 12, 66
"""The first segment of the long clip ends within what is edited, its last three frames."""


@pytest.fixture(scope="module")
def networks():
    return portrait_networks.small("performrecast", points=5)


@pytest.fixture
def installed(tmp_path, monkeypatch, networks):
    """The networks are few channels wide; records and files of their weights are where converted ones lie."""
    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    for _, name in registry.PACKAGES["performrecast"].files:
        target = registry.models_folder() / f"{name}.safetensors"
        record = registry.Weights(name, "", 0, "stand-in", "0" * 64, "none", target)
        store.write(record, lambda path: save_file({"x": np.zeros(1, np.float32)}, path))
    narrow = partial(generator.PortraitGenerator, networks, size=portrait_networks.SIZE)
    monkeypatch.setattr(generator, "PortraitGenerator", lambda name, **how: narrow(**how))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, size=192)


@pytest.fixture(scope="module")
def curves(clip) -> tuple[Path, Path]:
    return corrected(clip)


def corrected(clip: Path) -> tuple[Path, Path]:
    """The clip's own curves, and with a smile in its last frames, as if corrected by hand."""
    folder = clip.parent
    _, own = track_clip(clip)
    coefficients = own.coefficients.copy()
    coefficients[-3:, [arkit.INDEX["mouthSmileLeft"], arkit.INDEX["mouthSmileRight"]]] += 0.5
    return own.save(folder / "own.npz"), replace(own, coefficients=coefficients).save(folder / "edited.npz")


def spec(clip: Path, curves: tuple[Path, Path]) -> RenderSpec:
    asked = {"kind": "render", "clip": clip, "source": curves[0], "track": curves[1], "renderer": "performrecast"}
    return RenderSpec.read({**asked, "device": "cpu", "watermark": False})


def test_without_weights_the_command_says_what_to_do(clip, curves, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    asked = ["render", str(clip), "--track", str(curves[1]), "-o", str(tmp_path / "out.mp4"), "--renderer"]
    assert main([*asked, "liveportrait"]) == 1
    assert "cmet models pull liveportrait" in capsys.readouterr().err
    assert main([*asked, "performrecast"]) == 1
    assert "cmet models convert FILE --network performrecast_appearance" in capsys.readouterr().err
    assert main(["models", "check", "liveportrait"]) == 1
    assert choose.installed() == ["warp"]


def test_corrected_curves_are_drawn(clip, curves, installed, tmp_path):
    assert choose.installed() == ["warp", "performrecast"]
    result = pipeline.render_clip(spec(clip, curves), tmp_path / "whole.mkv")
    assert result.figures["outside_psnr"] > 40
    filmed, drawn = ([f.image.astype(int) for f in VideoReader(path)] for path in (clip, result.path))
    off = [np.abs(a - b).mean() for a, b in zip(filmed, drawn, strict=True)]
    assert min(off[-3:]) > 2 * max(off[:-3]), "only the edited frames are drawn"


@pytest.mark.soak
def test_interrupted_work_goes_on_bit_for_bit(installed, tmp_path):
    clip = small(tmp_path / "clip.mp4", frames=LONG, size=192)
    curves = corrected(clip)
    result = pipeline.render_clip(spec(clip, curves), tmp_path / "whole.mkv")

    class StoppedError(Exception):
        pass

    def stop(stage, done, total):
        if stage == "render" and done == LONG - 1:
            raise StoppedError

    pieces = Segments(tmp_path / "pieces")
    with pytest.raises(StoppedError):
        pipeline.render_clip(spec(clip, curves), tmp_path / "again.mkv", pieces=pieces, progress=stop)
    pipeline.render_clip(spec(clip, curves), tmp_path / "again.mkv", pieces=pieces)
    assert checksum(tmp_path / "again.mkv") == checksum(result.path)


def test_the_installed_renderers_are_shown_side_by_side(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "installed", lambda: ["warp", "edtalk"])
    monkeypatch.setenv("CMET_MODELS", str(tmp_path / "models"))
    folder = tmp_path / "compared"
    assert (
        main(["compare", str(clip), "--emotion", "happy", "--seconds", "0.4", "--device", "cpu", "-o", str(folder)])
        == 0
    )
    (row,) = json.loads((folder / "compare.json").read_text())
    assert row["renderer"] == "warp" and row["seconds"] > 0
    assert 0 <= row["identity"] < 0.5 and 0.5 < row["sharpness"] < 1.5 and row["flicker"] < 2
    page = (folder / "compare.html").read_text()
    assert 'src="warp/edited.mp4"' in page and 'src="source.mp4"' in page and "edtalk is left out" in page
    assert len(list(VideoReader(folder / "source.mp4"))) == len(list(VideoReader(folder / "warp" / "edited.mp4"))) == 10
    with pytest.raises(CmetError, match="happier"):
        compare.compare(clip, ["happier"], tmp_path / "other")


class Copying:
    """A generator that draws what it is shown: the draft, `level` times as bright."""

    name, identity, device, batch = "copying", None, "cpu", 4

    def __init__(self, level: float = 1.0):
        self.level = level

    def crops(self, geometry):
        return follow(geometry)

    def read(self, sources, drafts):
        self.drafts = np.stack(drafts)
        return np.zeros((len(sources), 1), np.float32)

    def settled(self, readings):
        return readings

    def draw(self, sources, readings):
        return (self.drafts * self.level).astype(np.uint8)


def test_the_check_passes_what_draws_well_and_names_what_does_not():
    good = {finding.about[:12]: finding for finding in portrait.check(Copying())}
    assert all(finding.passed for finding in good.values()), good
    assert len(good) == 5
    black = portrait.check(Copying(0.0))
    assert not any(finding.passed for finding in black)
    dim = {finding.about[:4]: finding.passed for finding in portrait.check(Copying(0.6))}
    assert dim["mean"] and not dim["PSNR"]


@pytest.mark.soak
def test_the_check_finds_stand_in_weights_wrong(capsys, installed):
    assert main(["models", "check", "performrecast", "--device", "cpu"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG" in shown and "PSNR" in shown and "does not draw as it should" in shown
