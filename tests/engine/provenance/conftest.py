"""A user's folder and an authority for every test, and small files to sign."""

from pathlib import Path

import pytest
from authority import Authority
from short_clips import small

from cmet_engine.provenance.seal import Signatory
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionTimeline


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "provenance"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A movie of eight frames."""
    return small(tmp_path_factory.mktemp("movie") / "take.mp4", frames=8, size=96).read_bytes()


@pytest.fixture
def clip(tmp_path: Path, movie: bytes) -> Path:
    path = tmp_path / "take.mp4"
    path.write_bytes(movie)
    return path


@pytest.fixture
def signed():
    """`signed(clip, path)` signs a file as the edit of a clip; returns the sentences."""

    def sign(clip: Path, path: Path, agreed: str | None = "Anna, 2026-11-01, in writing") -> list[str]:
        spec = EditSpec.read({"clip": clip, "emotions": ["happy=0.8"], "quality": "draft", "consent": agreed})
        seal = Signatory(spec).seal("happy 0.8 (add)", EmotionTimeline.parse(spec.emotions))
        return seal(path, path) + seal.record(path)

    return sign
