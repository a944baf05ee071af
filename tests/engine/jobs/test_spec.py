"""One description of work: what it takes, and what it says in the words of whoever asked."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine.cli.options import option_called
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.spec import KINDS, EditSpec, LiveSpec, RenderSpec, TrackSpec, read_work

GIVEN = {"track": "a.npz", "clip": "a.mp4", "rig": "a.blend", "paths": ["a.wav"], "name": "wistful"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_work_survives_json(kind):
    fields = KINDS[kind].model_fields
    spec = read_work({"kind": kind, **{name: value for name, value in GIVEN.items() if name in fields}})
    assert read_work(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "CLIP is missing."),
        ({"clip": "a", "rate_factor": 60}, "--rate-factor is '60'; it must be at most 51."),
        ({"clip": "a", "strength": "much"}, "--strength is 'much', which is not a number that it can take."),
        ({"clip": "a", "strength": float("nan")}, "--strength is 'nan', which is not a number that it can take."),
        ({"clip": "a", "face": 0.5}, "--face is '0.5', which is not a whole number."),
        ({"clip": "a", "face": 21}, "--face is '21'; it must be at most 20."),
        ({"clip": "a", "face": "#a b"}, "--face is '#a b'; use a person's number, from 1, or a name of letters, digits, '_' and "
         "'-', beginning with a letter."),
        ({"clip": "a", "device": "tpu"}, "--device is 'tpu', not one of auto, cpu, cuda, mps."),
        ({"clip": "a", "quality": "superb"}, "--quality is 'superb', not one of auto, draft, standard, best."),
        ({"clip": "a", "emotions": ["x\ny"]}, "--emotion is 'x?y', which holds control characters."),
        ({"clip": "a", "lips": "b"}, "--lips needs the renderer edtalk; choose that, or leave it out."),
        ({"clip": "a", "colour": "red"}, "--colour is unknown."),
        ({"clip": "a", "keys": [{"emotion": "sad", "start": -1}]}, "--keys is '-1'; it must be at least 0."),
        ({"kind": "export", "track": "a", "fps": 0}, "--fps is '0'; it must be above 0."),
        ({"kind": "render", "clip": "a", "track": "b", "renderer": "none"}, "--renderer is 'none', not one of auto, "
         "warp, liveportrait, performrecast, edtalk."),
        ({"kind": "render", "clip": "a", "track": ["b", "c#2"], "renderer": "edtalk"}, "--renderer is 'edtalk', which edits one "
         "person of a clip; use warp for several."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_words_of_the_command_line(values, sentence):
    with pytest.raises(InvalidInput) as error:
        read_work(values, option_called)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("given", "meant"), [(2, 2), ("2", 2), ("#2", "#2"), ("#anna", "#anna"), ("ref/anna.png", Path("ref/anna.png"))]
)
def test_a_face_is_a_rank_a_person_or_a_picture(given, meant):
    spec = EditSpec.read({"clip": "a.mp4", "face": given})
    assert (spec.face == meant and type(spec.face) is type(meant)) or isinstance(meant, Path)
    assert EditSpec.read(json.loads(spec.model_dump_json())) == spec
    moved = spec.with_inputs(lambda _, path: Path("/there") / path)
    assert moved.face == (Path("/there") / meant if isinstance(meant, Path) else meant)


def test_a_wrong_key_is_found_before_anything_is_done():
    for keys in ({"emotions": ["happy@5-1"]}, {"keys": [{"emotion": "happy", "start": 3, "end": 2}]}):
        with pytest.raises(CmetError, match="ends at"):
            EditSpec.read({"clip": "a.mp4", **keys})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(KINDS)), st.data())
def test_any_values_make_a_specification_or_one_sentence_without_jargon(kind, data):
    values = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(KINDS[kind].model_fields, JSON)))
    try:
        read_work({**values, "kind": kind})
    except CmetError as error:
        sentence = str(error)
        assert sentence.endswith(".") and "\n" not in sentence
        for jargon in ("pydantic", "Spec", "tuple[", "regex", "pattern", "validation error", "Input should"):
            assert jargon in json.dumps(values, default=str, ensure_ascii=False) or jargon not in sentence


def test_a_timeline_file_becomes_part_of_what_is_sent(tmp_path):
    timeline = EditSpec(clip=Path("a.mp4"), emotions=("happy@0-2", "0.5*sad=-1@2-")).timeline()
    (tmp_path / "keys.json").write_text(timeline.to_json())
    spec = LiveSpec.read({"clip": "a.mp4", "keys": str(tmp_path / "keys.json"), "emotions": ["fear"], "time": 1})
    assert dict(spec.input_paths()) == {"clip": Path("a.mp4"), "keys": tmp_path / "keys.json"}
    read = spec.with_keys_read()
    assert read.timeline() == spec.timeline() and dict(read.input_paths()) == {"clip": Path("a.mp4")}


@pytest.mark.parametrize("kind", [EditSpec, TrackSpec, RenderSpec])
def test_a_part_of_a_clip_in_any_notation(kind: type) -> None:
    about = {"clip": "a.mp4", **({"track": "t.npz"} if kind is RenderSpec else {})}
    spec = kind.read({**about, "range_from": 1.5, "range_to": "01:00:00:00", "handles": 8})
    assert spec.part == ("1.500000", "01:00:00:00", 8)
    assert kind.read(spec.model_dump(mode="json")) == spec
    assert kind.read({**about, "range_from": "120f"}).part == ("120f", None, 0)
    for wrong in ({"range_from": "-1"}, {"range_to": True}, {"range_to": "nan"}, {"handles": 3}, {"range_from": "#12"}):
        with pytest.raises(InvalidInput):
            kind.read({**about, **wrong})


def test_settings_of_one_person_are_written_behind_a_sharp_everywhere():
    about = {"clip": "a.mp4", "emotions": ["happy#anna", "sad#2"]}
    text = EditSpec.read({**about, "mode": "add; replace#anna", "strength": ["0.5#2", 0.8], "quality": "best#anna"})
    plain = [{"person": "anna", "mode": "replace", "quality": "best"}, {"person": "2", "strength": 0.5}]
    assert {p.person: p for p in text.people} == {p.person: p for p in EditSpec.read({**about, "people": plain}).people}
    anna, other = text.of("anna"), text.of("2")
    assert (anna.face, anna.mode, anna.strength, anna.quality) == ("#anna", "replace", 0.8, "best")
    assert (other.face, other.mode, other.strength, other.quality) == ("#2", "add", 0.5, "auto")
    assert [key.strength for key in text.strengthened(text.timeline()).keys] == [0.8, 0.5]
    with pytest.raises(InvalidInput, match=r"--mode is 'replace#a b', not one of add, replace"):
        EditSpec.read({**about, "mode": "replace#a b"}, option_called)


def test_curves_of_several_people_are_one_request():
    tracks = ["a/anna.npz#anna", "2.npz#2"]
    spec = RenderSpec.read({"clip": "a.mp4", "track": tracks, "source": "s.npz#2", "quality": ["draft", "best#2"]})
    assert RenderSpec.read(json.loads(spec.model_dump_json())) == spec
    first, second = (one for _, one in spec.everyone())
    assert (first.face, first.track, first.source, first.quality) == ("#anna", Path("a/anna.npz"), None, "draft")
    assert (second.face, second.track, second.source, second.quality) == ("#2", Path("2.npz"), Path("s.npz"), "best")
    assert [path.name for _, path in spec.input_paths()] == ["a.mp4", "anna.npz", "2.npz", "s.npz"]
    moved = spec.with_inputs(lambda _, path: Path("/there") / path)
    assert moved.people[0].source == Path("/there/s.npz")
    with pytest.raises(InvalidInput, match="is whom a"):
        RenderSpec.read({"clip": "a.mp4", "face": 1, "track": tracks})
    with pytest.raises(InvalidInput, match=r"--track is missing for a person"):
        RenderSpec.read({"clip": "a.mp4", "track": "a.npz", "quality": "best#2"}, option_called)
