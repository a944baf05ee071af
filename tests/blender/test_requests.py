"""What the add-on asks of the engine: descriptions of work that the engine reads."""

from types import SimpleNamespace

import numpy as np
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

    def request(name, **properties):
        kind, operator = getattr(operators, f"CMET_OT_{name}"), SimpleNamespace(emotion="", **properties)
        _, values = kind.requests(operator, bpy.context)[0] if name == "track" else kind.request(operator, bpy.context)
        return spec.KINDS[values["kind"]].read(values)

    return request


def test_the_face_is_asked_for(scene, ask):
    scene.cmet.face = 2
    asked = ask("track")
    assert asked.clip.name == "clip.bin" and asked.face == 2 and asked.colorspace is None


def test_the_colour_space_is_asked_for_everywhere(scene, ask):
    scene.cmet.colorspace, scene.cmet.emotion = "LogC3", "sad"
    assert {ask(name).colorspace for name in ("find_people", "track", "add_emotion", "render_video")} == {"LogC3"}


def test_an_emotion_is_asked_for_with_its_mode_and_without_a_video(scene, ask):
    scene.cmet.mode = "replace"
    scene.cmet.emotion = "sad"
    asked = ask("add_emotion")
    assert asked.emotions == ("sad",) and asked.mode == "replace" and asked.renderer == "none"


def test_the_expression_of_a_face_is_asked_for_with_gains_and_head_and_gaze(scene, ask, tmp_path):
    (tmp_path / "face.jpg").write_bytes(b"")
    scene.cmet.reference, scene.cmet.gain_mouth, scene.cmet.bearing = str(tmp_path / "face.jpg"), 0.5, True
    asked = ask("from_face")
    assert asked.like.name == "face.jpg" and asked.emotions == ("like[mouth=0.5]",)
    assert asked.bearing and asked.renderer == "none" and not ask("render_video").model_dump().get("bearing")


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


def test_a_video_is_asked_for_with_the_renderers_quality_and_a_rate_factor(scene, ask):
    for quality in ("auto", "draft", "standard", "best"):
        for rate, factor in (("small", 28), ("default", None), ("large", 6)):
            scene.cmet.quality, scene.cmet.rate_factor, scene.cmet.video_format = quality, rate, "mkv"
            scene.cmet.watermark = quality != "draft"
            scene.cmet.renderer = "liveportrait" if quality == "best" else "warp"
            asked = ask("render_video")
            assert asked.renderer == scene.cmet.renderer
            assert asked.watermark == scene.cmet.watermark
            assert asked.quality == quality and asked.rate_factor == factor and asked.format == "mkv"
            assert asked.track.is_file() and asked.source.is_file()


def test_the_voice_is_asked_for_and_becomes_strips(bpy, scene, ask, head, track, monkeypatch, tmp_path):
    from cmet_blender import emotion_strips, session
    from cmet_engine.edit_take import edit_take
    from cmet_engine.emotion.clip_emotions import Hearing

    asked = ask("from_voice", follow=False)
    assert asked.emotions == ("auto",) and asked.neutral.name == "neutral_voice.bin" and asked.renderer == "none"
    shares = np.zeros((2, 14), np.float32)
    shares[0, 1] = shares[1, 6] = 1.0  # angry, then sad
    spans = np.array([[0.0, 0.8], [1.0, track.duration]])
    frames = int(track.duration / 0.25)
    hearing = Hearing(
        track.duration, spans, shares, np.ones((frames, 13), np.float32), np.ones(frames), np.zeros(frames)
    )
    monkeypatch.setattr(Hearing, "of", lambda *_: hearing)

    requests = []

    class InProcess:
        """An engine that does the edits of a take here."""

        def run(self, request):
            requests.append(request)
            files, _ = edit_take(spec.EditSpec.read(request), tmp_path / f"job{len(requests)}")
            return {"state": "done", "files": {name: str(path) for name, path in files.items()}}

        def health(self):
            return None

    monkeypatch.setattr(session, "engine", lambda *_: InProcess())
    scene.cmet.clip = ""
    assert bpy.ops.cmet.from_voice(follow=True) == {"FINISHED"}, scene.cmet.message
    assert [request.get("emotions") for request in requests] == [None, ["angry"], ["sad"]]
    assert requests[0]["follow"] and list(emotion_strips.strips(head)) == ["angry", "sad"]
    keys = emotion_strips.timeline(head).weights(np.array([0.3, 1.6]), track.duration)
    assert keys["angry"][0] > 0.8 > 0.1 > keys["angry"][1] and keys["sad"][1] > 0.8 > 0.1 > keys["sad"][0]
    assert bpy.ops.cmet.recompute() == {"FINISHED"}, scene.cmet.message  # of the take: there is no clip
    assert list(emotion_strips.strips(head)) == ["angry", "sad", "exact"] and len(requests[-1]["keys"]) >= 2


def test_consent_goes_into_the_request_of_a_video(scene, ask, tmp_path):
    assert ask("render_video").consent is None
    scene.cmet.consent = "Anna, today, in writing"
    assert ask("render_video").consent == "Anna, today, in writing"
    scene.cmet.consent = str(tmp_path / "anna.json")
    assert ask("render_video").consent == (tmp_path / "anna.json").resolve()


def test_what_is_delivered_is_asked_for(scene, ask):
    asked = ask("render_video")
    assert not asked.like_source and asked.format == "mp4" and asked.codec is None and asked.part == (None, None, 0)
    settings = scene.cmet
    settings.video_format, settings.codec, settings.matte, settings.shot_data = "mov", "prores_hq", True, True
    settings.range_from, settings.handles = "01:00:10:00", 12
    asked = ask("render_video")
    assert (asked.format, asked.codec, asked.matte, asked.shot_data) == ("mov", "prores_hq", "matte.mkv", "auto")
    assert asked.part == ("01:00:10:00", None, 12)
    for video_format, matte in (("exr", "channel"), ("png", "matte/%06d.png")):
        settings.video_format = video_format
        assert ask("render_video").matte == matte
    settings.video_format = "source"
    assert ask("render_video").like_source


def test_the_preview_range_becomes_the_range(bpy, scene, ask):
    scene.render.fps, scene.cmet.start_frame = 30, 11
    assert not bpy.ops.cmet.use_preview_range.poll()
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 42, 70
    assert bpy.ops.cmet.use_preview_range() == {"FINISHED"}
    assert ask("render_video").part == ("1.033333", "2", 0)
    scene.frame_preview_start = 1
    bpy.ops.cmet.use_preview_range()
    assert ask("render_video").part == (None, "2", 0)


def test_people_are_asked_for_together(bpy, scene, ask, head, track, make_mesh, random_tracks, tmp_path):
    from cmet_engine import arkit

    settings, other = scene.cmet, make_mesh("Other", arkit.NAMES)
    rows = [{"id": n, "name": None, "first": 0.0, "last": 1.0, "share": 1.0, "picture": None} for n in (1, 2, 3)]
    from cmet_blender import emotion_strips, performers

    settings.rows[0].gain = 0.5
    performers.fill(settings, rows, {})
    anna, bert, _ = settings.people
    assert anna.rig == head and anna.rows[0].gain == 0.5 and not anna.track  # whose the track was is not known
    bert.rig = head
    with pytest.raises(Exception, match="have one rig"):
        ask("track")
    bert.rig, bert.mode, settings.active_person = other, "replace", 1
    assert ask("track").face == "#1"
    assert (ask("add_emotion").face, ask("add_emotion").mode) == ("#2", "replace")
    anna.track = bert.track = str(track.save(tmp_path / "both.npz"))
    emotion_strips.add(other, "happy", random_tracks(low=0.1, high=0.2, turn=0))
    asked = ask("render_video")
    assert asked.face == "#1" and [one.person for one in asked.people] == ["2"]
    from cmet_engine.track import CoefficientTrack

    curves = [CoefficientTrack.load(one.track).coefficients for _, one in asked.everyone()]
    assert abs(curves[0] - curves[1]).max() > 0.05
    performers.forget(settings)
    assert (settings.person, settings.rig, settings.mode) == ("2", other, "replace") and ask("track").face == "#2"


def test_the_device_of_the_preferences_goes_into_every_request(scene, ask, monkeypatch):
    from cmet_blender import session

    monkeypatch.setattr(session, "preferences", lambda: SimpleNamespace(device="cpu"))
    assert {ask(name).device for name in ("add_emotion", "new_emotion", "render_video")} == {"cpu"}


def test_a_kind_of_job_that_does_not_exist_is_refused(tmp_path):
    from cmet_blender.engine import Engine
    from cmet_engine.errors import InvalidInput

    with pytest.raises(InvalidInput, match="'dance' is not a kind of job"):
        Engine(folder=tmp_path).submit({"kind": "dance"})


def test_the_list_of_people_and_its_pictures_come_back_by_undo(bpy, scene):
    from cmet_blender import icons, performers

    rows = [{"id": n, "name": None, "first": 0.0, "last": 1.0, "share": 1.0, "picture": "p"} for n in (1, 2)]
    for step in ("before", "found"):
        if step == "found":
            performers.fill(scene.cmet, rows, {"p": str(icons.picture("happy"))})
        bpy.ops.ed.undo_push(message=step)
    assert bpy.ops.cmet.forget_people() == {"FINISHED"} and not scene.cmet.people
    bpy.ops.ed.undo_push(message="cleared")
    bpy.ops.ed.undo()
    assert all(person.picture.packed_file for person in bpy.context.scene.cmet.people)
    bpy.ops.ed.undo()
    assert not bpy.context.scene.cmet.people and not bpy.data.images


def test_the_track_is_cleaned_up_and_calibrated_into_new_files(bpy, scene, track):
    from cmet_engine.track import CoefficientTrack

    settings, first = scene.cmet, scene.cmet.track
    settings.rig = None
    assert bpy.ops.cmet.clean_up(mirror=True, resample=True) == {"FINISHED"}, settings.message
    clean = CoefficientTrack.load(settings.track)
    assert settings.track.endswith("track_clean.npz") and clean.fps == 24
    assert abs(clean["mouthLeft"] - track["mouthRight"]).mean() < 0.2 * track["mouthRight"].std() + 0.05
    with pytest.raises(RuntimeError, match="Nothing was asked for"):
        bpy.ops.cmet.clean_up(brows=0, eyes=0, cheeks=0, mouth=0, head=0, resample=False)
    settings.track = first
    assert bpy.ops.cmet.calibrate() == {"FINISHED"} and settings.track.endswith("track_rest.npz")
    assert (CoefficientTrack.load(first).coefficients == track.coefficients).all()


@pytest.mark.parametrize(("emotion", "seconds"), [("surprised", 1.0), ("angry", 4.0)])
def test_a_strip_of_a_natural_course_relaxes_after_its_apex(bpy, scene, head, tmp_path, emotion, seconds):
    from cmet_blender.operators.emotions import added
    from cmet_engine.arkit import COUNT
    from cmet_engine.track import CoefficientTrack

    rate = scene.render.fps
    paths = {
        f"{name}.npz": str(CoefficientTrack(rate, np.full((10 * rate, COUNT), value)).save(tmp_path / f"{name}.npz"))
        for name, value in (("edited", 0.5), ("source", 0.1))
    }
    scene.cmet.natural, scene.cmet.strength, scene.cmet.fade = True, 0.8, rate // 2
    added(bpy.context, head.name, emotion, {"files": paths}, (1 + rate, float("inf")), {"emotion": emotion})
    strip = head.data.shape_keys.animation_data.nla_tracks[f"C-MET: {emotion}"].strips[0]
    curve = strip.fcurves.find("influence")
    at = [curve.evaluate(1 + rate * t) for t in (1.0, 1.5, 1.45 + seconds, 1.5 + seconds + 2.0, 9.9)]
    assert at == pytest.approx([0, 0.8, 0.8, 0.4, 0.4], abs=0.02)
    assert len(curve.keyframe_points) < 20
    scene.cmet.natural = False
    added(bpy.context, head.name, emotion, {"files": paths}, None, {"emotion": emotion})
    strip = head.data.shape_keys.animation_data.nla_tracks[f"C-MET: {emotion} 2"].strips[0]
    assert strip.fcurves.find("influence").evaluate(1 + 9 * rate) == pytest.approx(0.8)
