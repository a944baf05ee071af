"""What was computed once is not computed again, unless the clip, the settings or the code changed."""

import shutil

import numpy as np
import pytest
from short_clips import small

from cmet_engine import cache, fingerprint, pipeline
from cmet_engine.emotion import edit, recordings, speech
from cmet_engine.face import blendshapes, clip
from cmet_engine.pipeline import edit_clip, track_clip
from cmet_engine.spec import EditSpec


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A user folder in which an edit by voice was made; the clip's sound is its own voice here."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMET_HOME", str(home))
        voice = home / "voice.mp4"
        film = small(home / "take.mp4", frames=48, size=192)
        shutil.copy(film, voice)
        settings = EditSpec(clip=film, emotions=("happy",), speech=voice, renderer="none")
        edit_clip(settings, home / "first")
    return home, settings


def forbidden(*arguments, **options):
    raise AssertionError("this was computed already")


@pytest.fixture
def lazy(filled, monkeypatch):
    """Everything that tracks or encodes is taken away."""
    home, settings = filled
    monkeypatch.setenv("CMET_HOME", str(home))
    monkeypatch.setattr(clip, "track", forbidden)
    monkeypatch.setattr(blendshapes.Solver, "track", forbidden)
    monkeypatch.setattr(speech.Encoder, "frame_features", forbidden)
    monkeypatch.setattr(recordings, "_encode", forbidden)
    return home, settings


def test_another_strength_neither_tracks_nor_encodes_again(lazy):
    home, settings = lazy
    again = edit_clip(settings.model_copy(update={"strength": 0.5}), home / "weaker", force=True)
    one, other = (pipeline.CoefficientTrack.load(home / name / "edited.npz") for name in ("first", "weaker"))
    assert again.files and not np.array_equal(one.coefficients, other.coefficients)


def test_what_comes_from_the_cache_is_what_was_computed(lazy):
    home, settings = lazy
    edit._cached_deltas.clear()
    edit_clip(settings, home / "again", force=True)
    for name in ("source.npz", "edited.npz"):
        assert (home / "first" / name).read_bytes() == (home / "again" / name).read_bytes()


def test_a_changed_clip_is_tracked_again(lazy, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(lazy[1].clip.read_bytes() + b"\0\0\0\x08free")
    with pytest.raises(AssertionError, match="computed already"):
        track_clip(path)


@pytest.mark.parametrize(
    "changed", ["cmet_engine.face.tracker", "cmet_engine.face.blendshapes", "cmet_engine.emotion.recordings"]
)
def test_changed_code_of_a_stage_computes_it_again_and_only_it(lazy, monkeypatch, changed):
    home, settings = lazy
    code = fingerprint.code
    monkeypatch.setattr(fingerprint, "code", lambda *modules: "changed" if changed in modules else code(*modules))
    with pytest.raises(AssertionError, match="computed already"):
        edit_clip(settings, home / "changed", force=True)
    if changed == "cmet_engine.emotion.recordings":
        track_clip(settings.clip)


def test_a_damaged_entry_is_replaced(filled, monkeypatch):
    home, settings = filled
    monkeypatch.setenv("CMET_HOME", str(home))
    name = cache.key("test", settings.clip, "code")
    cache.put(name, lambda folder: (folder / "arrays.npz").write_bytes(b"not an archive"))
    assert cache.arrays(name, lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]
    assert cache.arrays(name, forbidden)["a"].tolist() == [0, 1, 2]


def test_what_is_put_keeps_the_cache_below_its_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path))
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "16000")
    for number in range(80):
        cache.put(f"test-{number:02d}", lambda folder: (folder / "data").write_bytes(bytes(400)))
        assert cache.size() <= 17000
    assert cache.size() >= 15000 and cache.get("test-79")


def test_the_least_recently_used_goes_first_and_a_killed_writers_rest_too(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path))
    for number in range(4):
        cache.put(f"test-{number}", lambda folder: (folder / "data").write_bytes(bytes(1000)))
        cache.os.utime(cache.folder() / f"test-{number}", (number, number))
    rest = cache.folder() / ".new-abandoned"
    rest.mkdir()
    cache.os.utime(rest, (0, 0))
    assert cache.get("test-0")
    assert cache.size() == 4000
    assert cache.shrink(2000) == 2000
    assert {p.name for p in cache.folder().iterdir()} == {"test-0", "test-3"}
