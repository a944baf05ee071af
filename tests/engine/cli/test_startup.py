"""What the command line loads before it has anything to do; every option of the specifications is offered."""

import os
import subprocess
import sys

import pytest
from short_clips import small
from voices import speak, write_wav

from cmet_engine.choices import CODEC_OUT, CODEC_TITLES, COLOR_SPACES, Codec, TrackFormat, VideoFormat
from cmet_engine.cli.main import build_parser
from cmet_engine.cli.options import spec_of
from cmet_engine.jobs.columns import COLUMNS, HELP, KINDS
from cmet_engine.media import codecs, display
from cmet_engine.media.formats import MOVIE_OUT, SEQUENCE_OUT, TRACK
from cmet_engine.spec import KINDS as SPECS
from cmet_engine.spec import EditSpec, ExportSpec, FacesSpec, RenderSpec, TrackSpec, VectorSpec

HEAVY = (
    "torch",
    "pydantic",
    "cv2",
    "av",
    "mediapipe",
    "librosa",
    "transformers",
    "scipy",
    "fastapi",
    "ray",
    "c2pa",
    "cryptography",
)


def test_a_draft_edit_with_a_voice_loads_no_heavy_package(tmp_path):
    clip = small(tmp_path / "clip.mp4", frames=12, size=192)
    voice = write_wav(tmp_path / "voice.wav", speak(1.0, pitch=210, lively=0.5))
    command = ["edit", str(clip), "--emotion", "happy=0.4", "--speech", str(voice), "--quality", "draft", "-q"]
    absent = ("torch", "transformers", "librosa", "matplotlib", "bpy")
    script = f"""import sys; from cmet_engine.cli import main; status = main({[*command, "-o", str(tmp_path / "out")]!r})
print(status, [name for name in {absent!r} if name in sys.modules])"""
    nothing_kept = {**os.environ, "CMET_CACHE_BYTES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=nothing_kept, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "--help"], ["edit", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    blocked = "".join(f"sys.modules['{name}'] = None; " for name in (*HEAVY, "numpy"))
    script = f"import sys; {blocked}from cmet_engine.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: cmet" in done.stdout


@pytest.mark.parametrize(
    ("command", "spec"),
    [
        (["faces", "a.mp4"], FacesSpec),
        (["track", "a.mp4", "-o", "a.npz"], TrackSpec),
        (["edit", "a.mp4", "-o", "a"], EditSpec),
        (["render", "a.mp4", "--track", "a.npz", "-o", "b.mp4"], RenderSpec),
        (["vector", "a.wav", "--name", "wistful"], VectorSpec),
        (["export", "a.npz", "-o", "a.csv"], ExportSpec),
    ],
)
def test_the_command_line_offers_every_field_that_the_output_does_not_say(command, spec):
    values = {
        "emotions": ("--emotion", "happy"), "keys": ("--keys", "k.json"), "speech": ("--speech", "v.wav"), "face": ("--face", "1"),
        "neutral": ("--neutral", "n.wav"), "strength": ("--strength", "0.5"), "mode": ("--mode", "add"), "quality": ("--quality", "draft"),
        "renderer": ("--renderer", "liveportrait" if spec is RenderSpec else "edtalk"), "lips": ("--lips", "v.wav"), "portrait": ("--portrait", "p.png"),
        "device": ("--device", "cuda:1"), "format": ("--format", ".mov"), "rate_factor": ("--rate-factor", "20"),
        "codec": ("--codec", "hevc"), "like_source": ("--like-source",), "shot_data": ("--shot-data", "s.json"),
        "range_from": ("--from", "1"), "range_to": ("--to", "20f"), "handles": ("--handles", "3"),
        "source": ("--source", "s.npz"), "replace": ("--force",), "rig": ("--rig", "r.blend"), "object": ("--object", "Head"),
        "mapping": ("--mapping", "m.json"), "spread": ("--no-spread",), "fps": ("--fps", "24000/1001"), "start": ("--start", "5"),
        "simplify": ("--simplify", "0.01"), "frames": ("--frames", "1", "9"), "colorspace": ("--colorspace", "LogC3"), "ocio": ("--colorspace", "LogC3", "--ocio", "c.ocio"),
        "matte": ("--matte", "matte.mkv"), "watermark": ("--no-watermark",), "preset": ("--preset", "unity"), "take_format": ("--format", "facecap"), "consent": ("--consent", "Anna, today"),
        "names": ("--name", "2=anna"), "calibrate": ("--calibrate",), "rest_frame": ("--rest-frame", "10-40"),
        "steady": ("--steady", "brows=1,mouth=0.3"), "mirror": ("--mirror",),
        "corrections": ("--correct", "jawOpen=0.2@1.4"),
        "follow": ("--follow",), "like": ("--like", "face.jpg"), "bearing": ("--bearing",),
        "people": ("--track", "b.npz#2") if spec is RenderSpec else ("--strength", "0.4#2"),
    }  # fmt: skip
    said = {TrackSpec: {"format"}, ExportSpec: {"format"}, RenderSpec: {"format", "renderer"}}.get(
        spec, set()
    )  # by the output, or no choice
    fields = set(spec.model_fields) - {"kind", "clip", "track", "paths", "name"} - said
    without_edtalk = fields & {"like", "bearing", "calibrate", "rest_frame"}  # which all others are tried with
    for asked in (fields - without_edtalk, without_edtalk):
        options = [word for name in sorted(asked) for word in values[name]]
        renderer = ["--renderer", "none"] if spec is EditSpec and asked & without_edtalk else []
        read = spec_of(spec, build_parser().parse_args([*command, *renderer, *options]))
        assert read.model_fields_set >= asked
    plain = spec_of(spec, build_parser().parse_args(command))
    assert all(getattr(plain, name) == spec.model_fields[name].default for name in fields)


def test_a_manifest_has_a_column_for_every_field():
    assert set(KINDS) == set(SPECS) - {"faces", "vector"}
    assert set(COLUMNS) - {"output"} == {name for kind in KINDS for name in SPECS[kind].model_fields}
    assert all(name in HELP for name in (*KINDS, *COLUMNS))


def test_every_format_can_be_written():
    assert list(CODEC_OUT) == list(CODEC_TITLES) == list(Codec.__args__)
    assert {name: kind.title for name, kind in codecs._KINDS.items()} == CODEC_TITLES
    assert set(COLOR_SPACES) <= {*display.ORDINARY_NAMES, *display.OWN_NAMES, *display.CAMERA_NAMES}
    assert {f".{name}" for name in VideoFormat.__args__} == {*MOVIE_OUT, *SEQUENCE_OUT}
    assert {f".{name}" for name in TrackFormat.__args__} == set(TRACK)
