"""Picture sequences in and out: what is not changed comes back bit for bit, in the depth that it has."""

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import MakeClip
from space_clips import sample, write_exrs, write_movie

from cmet_engine.choices import GUESSED, InputSpace
from cmet_engine.media import dpx, openexr
from cmet_engine.media.info import Mastering
from cmet_engine.media.planes import views, write_change
from cmet_engine.media.probe import part_of
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter

RANDOM = np.random.default_rng(3)
WIDTH, HEIGHT, FRAMES = 37, 22, 3
CREATED = "2024-05-06T07:08:09.000000Z"


def numbers(pixels: str) -> np.ndarray:
    """A picture of chance in a packed or planar format of FFmpeg's, as `VideoFrame.from_ndarray` takes it."""
    channels = {"gray": 1, "rgba": 4, "gbra": 4}.get(pixels[:4], 3)
    bits = next((b for b in (10, 12) if str(b) in pixels), 16 if any(n in pixels for n in ("48", "64", "16")) else 8)
    shape = (HEIGHT, WIDTH, channels)[: 2 if channels == 1 else 3]
    return RANDOM.integers(0, 2**bits, shape).astype(np.uint8 if bits == 8 else np.uint16)


def encoded(codec: str, pixels: str) -> bytes:
    frame = av.VideoFrame.from_ndarray(numbers(pixels), format=pixels)
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, pixels, Fraction(1, 25)
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def pictures(folder: Path) -> list[list[bytes]]:
    """The stored numbers of every file of a folder, row by row."""
    result = []
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        about, packed = frame.format, len(frame.planes) == 1
        used = about.padded_bits_per_pixel // 8 // (1 if packed else len(frame.planes)) * frame.width
        rows = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, :used] for plane in frame.planes]
        result.append([about.name.encode(), *(row.tobytes() for row in rows)])
    return result


def passed_on(
    source: Path, target: Path, change: Any = None, space: InputSpace = GUESSED, **options: Any
) -> VideoWriter:
    """Every frame of a clip written again; `change(frame, info)` may write into its planes."""
    reader = VideoReader(source, space=space)
    info = reader.info
    with VideoWriter(target, info.width, info.height, info.fps, sound_from=info, **options) as writer:
        for frame in reader.frames(planes=writer.takes_planes):
            if change and frame.source:
                change(frame.source, info)
            writer.write(frame.image if frame.source is None else frame.source, frame.time)
    return writer


@pytest.mark.parametrize(
    ("codec", "suffix", "pixels"),
    [("png", "png", p) for p in ("rgb24", "rgba", "gray", "rgb48be", "rgba64be", "gray16be")]
    + [("tiff", "tif", p) for p in ("rgb24", "rgba", "gray", "rgb48le", "rgba64le", "gray16le")]
    + [("dpx", "dpx", p) for p in ("rgb24", "rgba", "gbrp10le", "gbrp12le", "rgb48le", "rgba64le", "gray16le")],
)
def test_integers_come_back_as_they_are(tmp_path: Path, codec: str, suffix: str, pixels: str) -> None:
    (tmp_path / "in").mkdir()
    for index in range(FRAMES):
        (tmp_path / "in" / f"f{index:03d}.{suffix}").write_bytes(encoded(codec, pixels))
    passed_on(tmp_path / "in", tmp_path / "out" / f"f_%03d.{suffix}")
    for before, after in zip(pictures(tmp_path / "in"), pictures(tmp_path / "out"), strict=True):
        assert before == after


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("names", ["RGB", "RGBA", "Y"])
def test_floats_come_back_as_they_are_with_their_header(tmp_path: Path, kind: type, names: str) -> None:
    size = {np.float16: np.uint16, np.float32: np.uint32}[kind]
    header = {
        "owner": openexr.Attribute("string", b"house"),
        "chromaticities": openexr.Attribute("chromaticities", struct.pack("<8f", 0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)),
        "pixelAspectRatio": openexr.Attribute("float", struct.pack("<f", 1.0)),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    stored = []
    for index in range(FRAMES):
        # every pattern of bits: not-a-number, infinity, negative zero and values far above white among them
        channels = {n: RANDOM.integers(0, np.iinfo(size).max, (HEIGHT, WIDTH), size).view(kind) for n in names}
        numbered = {**header, "timeCode": openexr.Attribute("timecode", struct.pack("<II", index, 0))}
        (tmp_path / "in" / f"f{index:03d}.exr").write_bytes(openexr.exr_bytes(channels, numbered))
        stored.append(channels)
    assert VideoReader(tmp_path / "in").info.display.name == "ACEScg"
    passed_on(tmp_path / "in", tmp_path / "out" / "f_%03d.exr")
    for before, after in zip(pictures(tmp_path / "in"), pictures(tmp_path / "out"), strict=True):
        assert before == after
    for index, path in enumerate(sorted((tmp_path / "out").iterdir())):
        found = openexr.read_header(path)
        assert found["timeCode"].data[0] == index and openexr.text(found, "owner") == "house"
        assert openexr.channel_names(found) == sorted(names)


def test_a_part_of_a_sequence_takes_the_headers_of_its_own_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(4):
        header = {"timeCode": openexr.Attribute("timecode", struct.pack("<II", index, 0))}
        data = openexr.exr_bytes(dict.fromkeys("RGB", np.full((8, 8), index, np.float16)), header)
        (tmp_path / "in" / f"f{index:03d}.exr").write_bytes(data)
    passed_on(part_of(tmp_path / "in", "2f", None), tmp_path / "out" / "f_%03d.exr")
    written = sorted((tmp_path / "out").iterdir())
    assert [openexr.read_header(path)["timeCode"].data[0] for path in written] == [2, 3]


def test_a_change_of_scene_linear_light_leaves_the_rest_alone(tmp_path: Path) -> None:
    write_exrs(tmp_path / "in", sample(2, 64), "ACEScg")
    box = (10, 12, 30, 40)

    def brighter(frame: av.VideoFrame, info: Any) -> None:
        before = np.zeros((28, 20, 3), np.float32)
        write_change(frame, box, before, before + np.float32(51), info.colors)

    passed_on(tmp_path / "in", tmp_path / "out" / "f_%03d.exr", brighter)
    for source, result in zip(sorted((tmp_path / "in").iterdir()), sorted((tmp_path / "out").iterdir()), strict=True):
        frames = []
        for path in (source, result):
            with av.open(str(path)) as container:
                frames.append([v.copy() for v in views(next(container.decode(video=0)))])
        for one, other in zip(*frames, strict=True):
            inside = np.zeros(one.shape, bool)
            inside[12:40, 10:30] = True
            np.testing.assert_array_equal(one[~inside].view(np.uint16), other[~inside].view(np.uint16))
            np.testing.assert_allclose(one[inside].astype(float) + 0.2, other[inside].astype(float), atol=1e-3)


@pytest.mark.parametrize(
    ("suffix", "pixels", "depth"),
    [("png", "yuv420p10le", "rgb48be"), ("tif", "yuv422p10le", "rgb48le"), ("dpx", "gbrp10le", "gbrp10le"), ("png", "yuva444p10le", "rgba64be")],
)  # fmt: skip
def test_the_depth_follows_the_clip(tmp_path: Path, suffix: str, pixels: str, depth: str) -> None:
    clip = write_movie(tmp_path / "in.mkv", sample(2, 64), "LogC3", "ffv1", pixels)
    passed_on(clip, tmp_path / "out" / f"f_%03d.{suffix}")
    with av.open(str(tmp_path / "out" / f"f_001.{suffix}")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == depth
    for space in ("sRGB", "LogC3"):  # the numbers are still those of the clip's own space
        before, after = (next(iter(VideoReader(p, space=InputSpace(space)))).image for p in (clip, tmp_path / "out"))
        assert np.abs(before.astype(int) - after).max() <= (1 if space == "sRGB" else 4)


def test_ten_bits_become_sixteen_and_return(tmp_path: Path) -> None:
    clip = write_movie(tmp_path / "in.mkv", sample(1, 64), "LogC3", "ffv1", "gbrp10le")
    passed_on(clip, tmp_path / "out" / "f_%03d.png")
    deep, ten = (next(VideoReader(p).frames(planes=True)).source for p in (tmp_path / "out", clip))
    assert deep is not None and ten is not None
    for one, other in zip(views(deep), views(ten), strict=True):
        np.testing.assert_array_equal(np.rint(one * (1023 / 65535)).astype(int), other)


def test_a_movie_and_a_png_of_scene_linear_light_show_it(tmp_path: Path) -> None:
    write_exrs(tmp_path / "in", sample(3, 64, exposure=2.0), "ACEScg")
    shown = [frame.image for frame in VideoReader(tmp_path / "in")]
    # FFmpeg reads ProRes 4444 with 12 bits, and writes it with 10
    for target, bits, read in (("out.mov", 10, 12), ("png/f_%03d.png", 16, 16), ("dpx/f_%03d.dpx", 16, 16)):
        path = tmp_path / target
        notes = " ".join(passed_on(tmp_path / "in", path).notes)
        assert f"{path.suffix} holds no scene-linear light: it goes in as a display picture of {bits} bits" in notes
        again = VideoReader(path.parent if "%" in path.name else path)
        assert again.info.bit_depth == read and again.info.display.ordinary and not again.warnings
        for before, after in zip(shown, again, strict=True):
            assert np.abs(before.astype(int) - after.image).mean() < 1.5


def test_an_exr_of_a_log_clip_holds_its_light(tmp_path: Path) -> None:
    light = next(sample(1, 64))
    clip = write_movie(tmp_path / "in.mkv", [light, light], "LogC3", "ffv1", "gbrp16le")
    passed_on(clip, tmp_path / "out" / "f_%03d.exr", space=InputSpace("LogC3"))
    with av.open(str(tmp_path / "out" / "f_001.exr")) as container:
        green, blue, red = (v.astype(float) for v in views(next(container.decode(video=0))))
    np.testing.assert_allclose(np.stack([red, green, blue], 2), light, rtol=2e-3, atol=2e-4)
    assert VideoReader(tmp_path / "out").info.display.name == "Linear Rec.709 (sRGB)"


def run_lengths(data: bytes) -> bytes:
    """A block of an OpenEXR file compressed as RLE, of pieces as they are alone."""
    raw = np.frombuffer(data, np.uint8)
    halves = np.concatenate([raw[0::2], raw[1::2]])
    halves[1:] = halves[1:] - halves[:-1] + np.uint8(128)
    pieces = [halves[place : place + 100].tobytes() for place in range(0, len(halves), 100)]
    return b"".join(bytes([256 - len(piece)]) + piece for piece in pieces)


@pytest.mark.parametrize("compression", [3, 2, 1, 0])
def test_further_channels_are_copied(tmp_path: Path, compression: int) -> None:
    """Depth, identities and a layer; `exr_bytes` writes ZIP, the other kinds are made of its parts."""
    (tmp_path / "in").mkdir()
    part = RANDOM.random((HEIGHT, WIDTH))
    channels = {name: part.astype(np.float16) for name in ("R", "G", "B", "diffuse.R")}
    channels |= {"Z": (part * 1000).astype(np.float32), "id": RANDOM.integers(0, 2**32, part.shape, np.uint32)}
    kind = openexr.Attribute("compression", bytes([compression]))
    data = openexr.exr_bytes(channels, {"compression": kind, "owner": openexr.Attribute("string", b"x" * 3_000_000)})
    if compression < 3:
        rows = b"".join(
            np.concatenate([channels[name][row].view(np.uint8) for name in sorted(channels)]).tobytes()
            for row in range(HEIGHT)
        )
        size = len(rows) // HEIGHT
        blocks = [rows[row * size : (row + 1) * size] for row in range(HEIGHT)]
        blocks = [
            block if not compression else run_lengths(block) if compression == 1 else zipped(block) for block in blocks
        ]
        head = data[: openexr._parsed(data)[1]]
        places, place = [], len(head) + 8 * HEIGHT
        for block in blocks:
            places.append(place)
            place += 8 + len(block)
        data = head + struct.pack(f"<{HEIGHT}Q", *places)
        data += b"".join(struct.pack("<ii", row, len(block)) + block for row, block in enumerate(blocks))
    (tmp_path / "in" / "f1.exr").write_bytes(data)
    writer = passed_on(tmp_path / "in", tmp_path / "out" / "f_%03d.exr")
    assert not writer.notes
    (path,) = (tmp_path / "out").iterdir()
    assert sorted(openexr.channel_names(openexr.read_header(path))) == sorted(channels)
    assert len(openexr.text(openexr.read_header(path), "owner")) == 3_000_000
    for name, values in openexr.further_channels(path).items():
        np.testing.assert_array_equal(values, channels[name])


def test_channels_that_are_lost_are_said(tmp_path: Path) -> None:
    part = np.zeros((8, 8), np.float16)
    data = bytearray(openexr.exr_bytes(dict.fromkeys(["R", "G", "B", "Z"], part)))
    data[data.index(b"compression\0compression\0") + 28] = 4  # PIZ
    (tmp_path / "f.exr").write_bytes(data)
    assert "the channels Z are not kept" in openexr.losses(tmp_path / "f.exr")[0]
    assert openexr.further_channels(tmp_path / "f.exr") == {}
    data[5] |= openexr.PARTS >> 8
    (tmp_path / "f.exr").write_bytes(data)
    assert any("several parts" in sentence for sentence in openexr.losses(tmp_path / "f.exr"))


def television(order: str, word: int) -> bytes:
    """The parts of a DPX header for film and television, and what its user added."""
    parts = bytearray(2048 - 1664 + 32 + 100)
    struct.pack_into(
        f"{order}2s2s2s6s4s32s5I", parts, 0, b"12", b"34", b"56", b"789012", b"3456", b"", 86400, 0, 0, 0, 0
    )
    struct.pack_into(f"{order}f32s100s", parts, 60, 24.0, b"frame id", b"slate 7A take 3")
    struct.pack_into(f"{order}2I4B3f", parts, 1920 - 1664, word, 0x12345678, 0, 0, 0, 0, 0.0, 0.0, 24.0)
    parts[2048 - 1664 :] = b"HOUSE".ljust(32, b"\0") + bytes(range(100))
    return bytes(parts)


@pytest.mark.parametrize("pixels", ["gbrp10be", "gbrp10le"])
def test_dpx_headers_come_back(tmp_path: Path, pixels: str) -> None:
    (tmp_path / "in").mkdir()
    order = ">" if pixels.endswith("be") else "<"
    for index in range(2):
        picture = bytearray(encoded("dpx", pixels))
        more = television(order, 0x01020300 + index)
        size = 1664 + len(more)
        struct.pack_into(f"{order}I", picture, 4, size)
        struct.pack_into(f"{order}I", picture, 780 + 28, size)
        struct.pack_into(f"{order}I", picture, 32, len(more) - 384)
        struct.pack_into(f"{order}IfIf3B", picture, 784, 95, 0.0, 685, 2.046, 50, 1, 1)  # printing density
        struct.pack_into(f"{order}H", picture, 768, 1)
        struct.pack_into(f"{order}24s32s32s", picture, 1532, b"2024:05:06:07:08:09Z", b"camera 5", b"serial 77")
        (tmp_path / "in" / f"f{index:03d}.dpx").write_bytes(picture[:1664] + more + picture[1664:])
    info = VideoReader(tmp_path / "in").info
    assert (info.timecode, info.fps, info.created) == ("01:02:03:00", 24, "2024-05-06T07:08:09.000000Z")
    assert not passed_on(tmp_path / "in", tmp_path / "out" / "f_%03d.dpx").notes
    written = sorted((tmp_path / "out").iterdir())
    assert pictures(tmp_path / "in") == pictures(tmp_path / "out")
    for index, path in enumerate(written):
        header, old = dpx.read_header(path), dpx.read_header(tmp_path / "in" / f"f{index:03d}.dpx")
        assert header[1408 : len(old)] == old[1408:] and struct.unpack_from("<I", header, 1920) == (0x01020300 + index,)
        assert header[768:770] == b"\1\0" and header[784:803] == old[784:803]
        assert b"slate 7A" in header and bytes(range(100)) in header


def zipped(block: bytes) -> bytes:
    return openexr._zipped(np.frombuffer(block, np.uint8)[None])


@pytest.mark.parametrize(
    ("primaries", "name"),
    [((0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767), "ACEScg"), ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290), "Linear Rec.2020"),
     ((0.5, 0.3, 0.3, 0.5, 0.2, 0.1, 0.31, 0.33), "Linear Rec.709 (sRGB)"), (None, "Linear Rec.709 (sRGB)")],
)  # fmt: skip
def test_the_header_of_an_exr_names_its_space(tmp_path: Path, primaries: tuple[float, ...] | None, name: str) -> None:
    said = {"chromaticities": openexr.Attribute("chromaticities", struct.pack("<8f", *primaries))} if primaries else {}
    reader = VideoReader(write_exrs(tmp_path / "in", sample(1, 32), "ACEScg", said))
    assert reader.info.display.name == name
    assert f"taken as {name}" in reader.warnings[0] and "--colorspace" in reader.warnings[0]
    assert not VideoReader(tmp_path / "in", space=InputSpace("ACES2065-1")).warnings


def test_a_damaged_header_is_no_reason_to_stop(tmp_path: Path) -> None:
    for name, data in (
        ("a.exr", b""),
        ("b.exr", b"\x76\x2f\x31\x01\x02\0\0\0channels\0chl"),
        ("c.exr", b"\x89PNG...."),
    ):
        (tmp_path / name).write_bytes(data)
        assert openexr.read_header(tmp_path / name) == {}


def test_what_numbered_pictures_do_not_say_of_a_movie_is_said(make_clip: MakeClip, tmp_path: Path) -> None:
    movie = make_clip("clip.mkv", codec="ffv1", frames=2, fps=Fraction(30000, 1001))
    info = replace(
        VideoReader(movie).info,
        timecode="00:00:59;25",
        reel="B007",
        created=CREATED,
        pixel_aspect=Fraction(4, 3),
        mastering=Mastering(light=(1000, 400)),
    )
    notes = {}
    for suffix in (".png", ".exr", ".dpx"):
        with VideoWriter(tmp_path / f"out{suffix[1:]}" / f"f{suffix}", 64, 48, info.fps, source=info) as writer:
            for frame in VideoReader(movie):
                writer.write(frame.image)
        (notes[suffix],) = writer.notes
    for said in ("timecode (00:00:59;25)", "reel (B007)", "HDR mastering metadata"):
        assert said in notes[".png"] and (said in notes[".exr"]) == said.startswith("HDR")
        assert (said in notes[".dpx"]) == (not said.startswith("timecode"))
    assert "frame rate (29.97)" in notes[".png"] and "pixel aspect (4/3)" in notes[".png"]
    assert "rate" not in notes[".exr"] and "aspect" not in notes[".exr"]
    for folder, reel in (("outexr", "B007"), ("outdpx", "")):
        written = VideoReader(tmp_path / folder).info
        assert (written.pixel_aspect, written.timecode, written.reel) == (Fraction(4, 3), "00:00:59;25", reel)
        assert (written.fps, written.created) == (info.fps, CREATED)
    last = dpx.read_header(max((tmp_path / "outdpx").iterdir()))
    assert dpx.tags(last, info.fps)["timecode"] == "00:00:59;26"
    header = openexr.read_header(next((tmp_path / "outexr").iterdir()))
    assert struct.unpack("<iI", header["framesPerSecond"].data) == (30000, 1001)


@pytest.mark.parametrize(("said", "rate"), [((24, 1), 24), ((24000, 1001), Fraction(24000, 1001)), ((2997, 100), Fraction(30000, 1001)), ((0, 0), 25)])  # fmt: skip
def test_pictures_that_name_their_rate_have_it(tmp_path: Path, said: tuple[int, int], rate: Fraction) -> None:
    header = {"framesPerSecond": openexr.Attribute("rational", struct.pack("<iI", *said))}
    write_exrs(tmp_path / "exr", sample(3, 32), "lin_rec709", header)
    assert VideoReader(tmp_path / "exr").info.fps == rate
    picture = encoded("dpx", "gbrp10le")
    header = bytearray(dpx.described(picture, Fraction(25), Fraction(1), None, ""))
    struct.pack_into("<f", header, 1724, said[0] / max(said[1], 1))
    struct.pack_into("<f", header, 1940, 0)
    (tmp_path / "dpx").mkdir()
    for index in range(3):
        (tmp_path / "dpx" / f"f{index}.dpx").write_bytes(dpx.with_header(picture, bytes(header)))
    info = VideoReader(tmp_path / "dpx").info
    assert (info.fps, info.variable) == (rate, False)
    assert [frame.time for frame in VideoReader(tmp_path / "dpx")] == [i / Fraction(rate) for i in range(3)]
