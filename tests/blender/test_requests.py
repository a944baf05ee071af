"""What the add-on asks of the engine: descriptions of work that the engine reads."""

from types import SimpleNamespace

import pytest

spec = pytest.importorskip("cmet_engine.spec", reason="needs pydantic, which comes with the engine's packages")


@pytest.fixture
def scene(bpy, head, track, tmp_path, monkeypatch):
    """A scene with a clip, its track, a rig and two recordings; results go to a folder of this test."""
    import cmet_blender
    from cmet_blender import session

    cmet_blender.register()
    monkeypatch.setattr(session, "user_folder", lambda: tmp_path / "user")
    settings = bpy.context.scene.cmet
    for name in ("clip", "voice", "neutral_voice"):
        path = tmp_path / f"{name}.bin"
        path.write_bytes(b"")
        setattr(settings, name, str(path))
    settings.track = str(track.save(tmp_path / "track.npz"))
    settings.rig = head
    yield bpy.context.scene
    cmet_blender.unregister()


@pytest.fixture
def ask(bpy, scene):
    """`ask(operator, **properties)`: the specification that an operator's request is."""
    from cmet_blender import operators

    kinds = {"track": spec.TrackSpec, "edit": spec.EditSpec, "render": spec.RenderSpec, "vector": spec.VectorSpec}

    def request(name, **properties):
        operator = SimpleNamespace(emotion="", **properties)
        _, values = getattr(operators, f"CMET_OT_{name}").request(operator, bpy.context)
        return kinds[values["kind"]].read(values)

    return request


def test_the_face_is_asked_for(scene, ask):
    scene.cmet.face = 2
    asked = ask("track")
    assert asked.clip.name == "clip.bin" and asked.face == 2 and asked.colorspace is None


def test_the_colour_space_is_asked_for_everywhere(scene, ask):
    scene.cmet.colorspace, scene.cmet.emotion = "LogC3", "sad"
    assert {ask(name).colorspace for name in ("track", "add_emotion", "render_video")} == {"LogC3"}


def test_an_emotion_is_asked_for_with_its_mode_and_without_a_video(scene, ask):
    scene.cmet.mode = "replace"
    scene.cmet.emotion = "sad"
    asked = ask("add_emotion")
    assert asked.emotions == ("sad",) and asked.mode == "replace" and asked.renderer == "none"


def test_strips_are_asked_for_as_keys(scene, ask, head, random_tracks):
    from cmet_blender import emotion_strips

    emotion_strips.add(head, "happy", random_tracks(low=-0.1, high=0.1, turn=0), strength=0.5)
    (key,) = ask("recompute").keys
    assert key.emotion == "happy" and key.strength == 0.5 and 0 <= key.start < key.end


@pytest.mark.parametrize("neutral", [True, False], ids=["with a neutral voice", "with the neutral of the library"])
def test_an_own_emotion_is_asked_for_from_its_recordings(scene, ask, neutral):
    scene.cmet.voice_name, scene.cmet.replace_emotion = "wistful", True
    scene.cmet.neutral_voice = scene.cmet.neutral_voice if neutral else ""
    asked = ask("new_emotion")
    assert [p.name for p in asked.paths] == ["voice.bin"] and [p.name for p in asked.neutral] == [
        "neutral_voice.bin"
    ] * neutral
    assert asked.name == "wistful" and asked.replace


@pytest.mark.parametrize("quality", ["auto", "draft", "standard", "best"])
@pytest.mark.parametrize(("rate", "factor"), [("small", 28), ("default", None), ("large", 6)])
def test_a_video_is_asked_for_with_the_renderers_quality_and_a_rate_factor(scene, ask, quality, rate, factor):
    scene.cmet.quality, scene.cmet.rate_factor, scene.cmet.video_format = quality, rate, "mkv"
    scene.cmet.watermark = quality != "draft"
    asked = ask("render_video")
    assert asked.watermark == scene.cmet.watermark
    assert asked.quality == quality and asked.rate_factor == factor and asked.format == "mkv"
    assert asked.track.is_file() and asked.source.is_file()


def test_the_device_of_the_preferences_goes_into_every_request(scene, ask, monkeypatch):
    from cmet_blender import session

    monkeypatch.setattr(session, "preferences", lambda: SimpleNamespace(device="cpu"))
    assert {ask(name).device for name in ("add_emotion", "new_emotion", "render_video")} == {"cpu"}


def test_a_kind_of_job_that_does_not_exist_is_refused(tmp_path):
    from cmet_blender.engine import Engine
    from cmet_engine.errors import InvalidInput

    with pytest.raises(InvalidInput, match="'dance' is not a kind of job"):
        Engine(folder=tmp_path).submit({"kind": "dance"})
