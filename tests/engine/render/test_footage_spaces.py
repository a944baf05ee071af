"""HDR, log and scene-linear footage through tracking and rendering: the result is in the footage's own space."""

import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from soak_cases import soak

from cmet_engine import arkit
from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.cli.main import main
from cmet_engine.errors import CmetError
from cmet_engine.face.clip import track_clip
from cmet_engine.media import openexr
from cmet_engine.media.planes import views
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer

sys.path.append(str(Path(__file__).parents[1] / "media"))
from space_clips import sample, write_exrs, write_movie

SIZE, FRAMES = 256, 6
SPACES = {
    "PQ": GUESSED,
    "HLG": GUESSED,
    "LogC3": InputSpace("LogC3"),
    "S-Log3": InputSpace("S-Log3"),
    "ACEScg": InputSpace("ACEScg"),
}
HDR10 = "log-level=error:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def damaged(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Pictures with samples in the face that are no numbers, as renderers leave them."""
    for light in pictures:
        light[128, 110], light[100, 130] = np.nan, np.inf
        yield light


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("spaces")
    made = {"sRGB": write_movie(folder / "sdr.mkv", sample(FRAMES, SIZE), "sRGB", "ffv1", "yuv444p")}
    made["PQ"] = write_movie(
        folder / "pq.mp4", sample(FRAMES, SIZE), "PQ", "libx265", "yuv420p10le", **{"crf": "4", "x265-params": HDR10}
    )
    made["HLG"] = write_movie(folder / "hlg.mkv", sample(FRAMES, SIZE), "HLG", "ffv1", "yuv420p10le")
    made["LogC3"] = write_movie(folder / "logc3.mov", sample(FRAMES, SIZE), "LogC3", "prores_ks", "yuv444p10le")
    made["S-Log3"] = write_movie(folder / "slog3.mkv", sample(FRAMES, SIZE), "S-Log3", "ffv1", "yuv422p10le")
    made["ACEScg"] = write_exrs(folder / "acescg", damaged(sample(FRAMES, SIZE)), "ACEScg")
    return made


def landmarks(clip: Path, space: InputSpace) -> np.ndarray:
    geometry, _ = track_clip(Source.of(clip, space))
    assert geometry.valid.all()
    return np.concatenate([part for _, part in geometry.chunks()])[..., :2]


@pytest.mark.parametrize("name", [*SPACES][::2] + soak(*[*SPACES][1::2]))
def test_the_face_is_found_where_it_is_in_the_sdr_clip(clips: dict[str, Path], name: str) -> None:
    apart = np.linalg.norm(landmarks(clips[name], SPACES[name]) - landmarks(clips["sRGB"], GUESSED), axis=2)
    # two samples of the face that are no numbers (ACEScg) move its landmarks by 0.4 of a pixel at 512
    assert apart.mean() * 512 / SIZE < 0.8 and np.quantile(apart, 0.95) * 512 / SIZE < 1.5
    before, after = (next(iter(VideoReader(clips[n], space=SPACES.get(n, GUESSED)))).image for n in ("sRGB", name))
    assert np.abs(before.astype(int) - after).mean() < 3


def smiling(clip: Path, space: InputSpace, output: VideoOutput) -> list[str]:
    """Render a clip with a smile."""
    geometry, source = track_clip(Source.of(clip, space))
    coefficients = source.coefficients.copy()
    for name in ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"):
        coefficients[:, arkit.NAMES.index(name)] = 0.9
    edited = type(source)(source.fps, coefficients, source.head_rotation, source.eye_rotation, source.valid, {})
    output.path.parent.mkdir(exist_ok=True)
    return render_video(Source.of(clip, space), WarpRenderer(geometry, source, edited), output)


def compared(clip: Path, result: Path, space: InputSpace, mattes: list[np.ndarray]) -> None:
    """Check that samples differ within the mattes, and nowhere else."""
    readers = (VideoReader(path, space=space).frames(planes=True) for path in (clip, result))
    changed = 0
    for before, after, matte in zip(*readers, mattes, strict=True):
        assert before.source is not None and after.source is not None
        assert before.source.format.name == after.source.format.name and before.time == after.time
        assert 0.05 < (matte > 127).mean() < 0.6
        for one, other in zip(views(before.source), views(after.source), strict=True):
            kind = np.dtype(f"u{one.itemsize}")
            differs = one.view(kind) != other.view(kind)
            inside = cv2.resize(matte, one.shape[::-1], interpolation=cv2.INTER_AREA) > 0
            assert not (differs & ~inside).any()
            changed += int(differs.sum())
    assert changed > 1000


def test_hdr_stays_hdr(clips: dict[str, Path], tmp_path: Path) -> None:
    output = VideoOutput(tmp_path / "out" / "edited.mkv", codec="ffv1", matte=tmp_path / "out" / "matte.mkv")
    messages = smiling(clips["PQ"], GUESSED, output)
    assert any("taken as PQ" in message for message in messages)
    assert VideoReader(output.path).info.colors == VideoReader(clips["PQ"]).info.colors
    assert output.matte is not None
    with av.open(str(output.matte)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "gray"
        mattes = [frame.to_ndarray() for frame in container.decode(video=0)]
    compared(clips["PQ"], output.path, GUESSED, mattes)


def test_hevc_keeps_the_mastering_metadata_of_an_edit(clips: dict[str, Path], tmp_path: Path) -> None:
    smiling(clips["PQ"], GUESSED, VideoOutput(tmp_path / "out" / "edited.mp4"))
    before, after = VideoReader(clips["PQ"]).info, VideoReader(tmp_path / "out" / "edited.mp4").info
    assert (before.colors, before.mastering, before.bit_depth) == (after.colors, after.mastering, after.bit_depth)
    assert before.mastering.light == (1000, 400)


def test_log_footage_stays_log(clips: dict[str, Path], tmp_path: Path) -> None:
    output = VideoOutput(tmp_path / "out" / "edited.mkv", codec="ffv1", matte=tmp_path / "out" / "matte" / "%04d.png")
    smiling(clips["S-Log3"], SPACES["S-Log3"], output)
    mattes = [frame.image[..., 0] for frame in VideoReader(tmp_path / "out" / "matte")]
    compared(clips["S-Log3"], output.path, SPACES["S-Log3"], mattes)


def test_scene_linear_light_stays_itself_and_takes_the_matte_as_a_channel(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    output = VideoOutput(tmp_path / "out" / "shot.%04d.exr", matte_channel=True)
    smiling(clips["ACEScg"], SPACES["ACEScg"], output)
    mattes = []
    for path in sorted((tmp_path / "out").iterdir()):
        assert openexr.channel_names(openexr.read_header(path)) == ["B", "G", "R", "matte"]
        mattes.append(channel(path, "matte"))
    compared(clips["ACEScg"], tmp_path / "out", SPACES["ACEScg"], mattes)
    before, after = (next(VideoReader(p).frames(planes=True)).source for p in (clips["ACEScg"], tmp_path / "out"))
    assert before is not None and after is not None
    for one, other in zip(views(before), views(after), strict=True):
        assert not np.isfinite(other[128, 110]) and (np.isfinite(one) == np.isfinite(other)).all()
        assert np.nanmax(other[np.isfinite(other)]) <= 1.05 * np.nanmax(one[np.isfinite(one)])  # nothing overshoots


def channel(path: Path, name: str) -> np.ndarray:
    """A channel of half floats, 0 to 1, of a file of `openexr.exr_bytes`: uint8 [H, W]."""
    data, header = path.read_bytes(), openexr.read_header(path)
    names, window = openexr.channel_names(header), openexr.box(header, "dataWindow")
    assert window is not None
    width, height = window[2] + 1, window[3] + 1
    blocks = -(-height // openexr.LINES)
    head = data.index(b"\0\0", data.index(b"channels\0chlist\0"))  # the end of the list of channels, the last attribute
    while struct.unpack_from("<Q", data, head)[0] != head + 8 * blocks:
        head += 1
    rows = []
    for index in range(blocks):
        start = struct.unpack_from("<Q", data, head + 8 * index)[0]
        top, size = struct.unpack_from("<ii", data, start)
        lines = min(openexr.LINES, height - top)
        raw = np.frombuffer(zlib.decompress(data[start + 8 : start + 8 + size]), np.uint8).copy()
        raw[1:] += 128
        halves = np.cumsum(raw, dtype=np.uint8)
        middle = (len(halves) + 1) // 2
        bytes_ = np.empty_like(halves)
        bytes_[0::2], bytes_[1::2] = halves[:middle], halves[middle:]
        rows.append(bytes_.view(np.float16).reshape(lines, len(names), width)[:, names.index(name)])
    return np.rint(np.concatenate(rows).astype(np.float32) * 255).astype(np.uint8)


def test_scene_linear_light_goes_into_quicktime_with_all_its_colours(clips: dict[str, Path], tmp_path: Path) -> None:
    smiling(clips["ACEScg"], SPACES["ACEScg"], VideoOutput(tmp_path / "out.mov"))
    assert VideoReader(tmp_path / "out.mov").info.pixels.startswith("yuv444")


def test_an_unknown_space_ends_in_one_sentence(clips: dict[str, Path]) -> None:
    with pytest.raises(CmetError, match=r"The color space 'LogC9' is unknown; near it are .*LogC"):
        track_clip(Source.of(clips["LogC3"], InputSpace("LogC9")))


def test_people_of_a_log_clip_are_shown_as_it_is_displayed(clips, tmp_path, capsys) -> None:
    for name, space in (("sRGB", []), ("LogC3", ["--colorspace", "LogC3"])):
        assert main(["faces", str(clips[name]), *space, "-o", str(tmp_path / name)]) == 0
    one, other = (cv2.imread(str(tmp_path / name / "1.png")).astype(float) for name in ("sRGB", "LogC3"))
    assert np.abs(one - other).mean() < 6
    found = track_clip(Source.of(clips["LogC3"], InputSpace("LogC3")), face="#1")[0]
    assert found.valid.all()
