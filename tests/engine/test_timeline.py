"""The emotion timeline: text and JSON forms, envelopes, sums, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cmet_engine.errors import CmetError
from cmet_engine.timeline import EASINGS, REGIONS, REMAINS, EmotionKey, EmotionTimeline, parse_blend

MANY = settings(suppress_health_check=list(HealthCheck))
NAMES = st.sampled_from(["happy", "sad", "0.7*happy+0.3*fear", "-angry", "two-part", "user_1"])
TIMES = st.floats(0, 600)


@st.composite
def keys(draw: st.DrawFn) -> EmotionKey:
    start = draw(TIMES)
    end = draw(st.one_of(st.none(), st.floats(start + 0.01, start + 700)))
    return EmotionKey(
        draw(NAMES),
        draw(st.floats(-10, 10)),
        start,
        end,
        draw(st.floats(0, 5)),
        draw(st.floats(0, 5)),
        draw(st.sampled_from(EASINGS)),
        draw(st.sampled_from([None, "2", "anna"])),
        draw(st.dictionaries(st.sampled_from(list(REGIONS)), st.floats(0, 3), max_size=2)),
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("happy", EmotionKey("happy")),
        ("sad=0.6", EmotionKey("sad", 0.6)),
        ("happy@0-2.5", EmotionKey("happy", 1, 0, 2.5)),
        ("sarcastic=0.6@2.5-", EmotionKey("sarcastic", 0.6, 2.5, None)),
        ("happy@-2", EmotionKey("happy", 1, 0, 2)),
        ("happy@.5-1.", EmotionKey("happy", 1, 0.5, 1)),
        ("happy=-0.5", EmotionKey("happy", -0.5)),
        (" happy = 2 @ 1-2 ", EmotionKey("happy", 2, 1, 2)),
        ("happy@0-2#anna", EmotionKey("happy", 1, 0, 2, person="anna")),
        ("surprised@1-4~natural", EmotionKey("surprised", 1, 1, 4, easing="natural")),
        ("sad=0.5 ~ step #anna", EmotionKey("sad", 0.5, easing="step", person="anna")),
        ("angry=0.5 # 2", EmotionKey("angry", 0.5, person="2")),
        ("0.7*happy+0.3*fear=1.5@1-2", EmotionKey("0.7*happy+0.3*fear", 1.5, 1, 2)),
        ("angry[brows=1.2,mouth=0.6]=0.8@1-3", EmotionKey("angry", 0.8, 1, 3, regions={"brows": 1.2, "mouth": 0.6})),
        ("sad [ eyes = 0 ] #2", EmotionKey("sad", person="2", regions={"eyes": 0})),
    ],
)
def test_text_form(text: str, key: EmotionKey) -> None:
    assert EmotionKey.parse(text) == key


@pytest.mark.parametrize(
    "text",
    ["", " ", "=1", "@0-1", "happy=", "happy=x", "happy@", "happy@-", "happy@1", "happy@a-b", "happy@2-1", "happy@1-1",
     "happy=nan", "happy=inf", "happy=11", "happy=-11", "happy@1--2", "happy@-1-2", "ha ppy!", "0.7*", "happy++sad",
     "happy@0-1@2-3", "happy#", "happy#0", "happy#a b", "happy#a#b", "#anna", "happy#2@0-1", "*happy", "1e5*happy", "happy=1e999", "happy@0-1e9",
     "happy[", "happy[]", "happy[brows]", "happy[nose=1]", "happy[brows=4]", "happy[brows=-1]", "happy[brows=1]x", "happy[brows=nan]"],
)  # fmt: skip
def test_text_that_is_no_key_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(CmetError) as caught:
        EmotionKey.parse(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).rstrip().endswith(".")


@MANY
@given(st.text(max_size=30))
@example("happy=1_0")
@example("happy=٣")
@example("h@" + "9" * 400 + "-")
@example("9" * 400 + "*happy")
@example("happy=" + "9" * 400)
def test_any_text_is_a_key_or_one_sentence(text: str) -> None:
    try:
        key = EmotionKey.parse(text)
    except CmetError as error:
        assert str(error)
    else:
        assert math.isfinite(key.strength) and key.start >= 0
        assert np.isfinite(key.envelope(np.linspace(0, 10, 20), 10.0)).all()


@MANY
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda s: s.encode("utf-8", "surrogatepass")),
        st.builds(
            lambda keys: json.dumps({"format": "cmet-timeline/1", "keys": keys}).encode(),
            st.lists(
                st.one_of(
                    st.integers(),
                    st.dictionaries(
                        st.sampled_from(["emotion", "strength", "start", "end", "ease_in", "ease_out", "easing", "other"]),
                        st.one_of(
                            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), NAMES,
                            st.lists(st.integers(), max_size=2), st.sampled_from([10**400, "smooth", "linear"]),
                        ),
                    ),
                ),
                max_size=3,
            ),
        ),
    )
)  # fmt: skip
@example(b"[" * 100_000)
@example(b'{"format": "cmet-timeline/1", "keys": [{"emotion": "happy", "easing": ["smooth"]}]}')
@example(b'{"format": "cmet-timeline/1", "keys": [{"emotion": "happy", "easing": {}}]}')
@example(b'{"format": "cmet-timeline/1", "keys": [{"emotion": "happy", "end": true}]}')
@example(b"\xff\xfe")
@example(b"1" * 5000)
def test_any_file_is_a_timeline_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("t") / "keys.json"
    path.write_bytes(data)
    try:
        timeline = EmotionTimeline.load(path)
    except CmetError as error:
        assert str(error).startswith("keys.json") and "\n" not in str(error)
    else:
        times = np.linspace(0, 5, 7)
        timeline = EmotionTimeline([k for k in timeline.keys if k.start < 5])
        assert all(np.isfinite(v).all() for v in timeline.weights(times, 5.0).values())


@MANY
@given(st.lists(keys(), max_size=4))
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, made: list[EmotionKey]) -> None:
    path = tmp_path_factory.mktemp("t") / "keys.json"
    path.write_text(EmotionTimeline(made).to_json())
    assert EmotionTimeline.load(path).keys == made


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("nonsense", "not valid JSON"),
        ("[]", "not an emotion timeline"),
        ('{"format": "other", "keys": []}', "not an emotion timeline"),
        ('{"format": "cmet-timeline/1", "keys": {}}', "not an emotion timeline"),
        ('{"format": "cmet-timeline/1", "keys": [{}]}', 'key 1 has no text "emotion"'),
        (
            '{"format": "cmet-timeline/1", "keys": [{"emotion": "a"}, {"emotion": "b", "stregth": 1}]}',
            "key 2 .*'stregth'",
        ),
        ('{"format": "cmet-timeline/1", "keys": [{"emotion": "a", "strength": "1"}]}', "key 1: .*strength"),
        ('{"format": "cmet-timeline/1", "keys": [{"emotion": "a", "end": -1}]}', "key 1: .*ends"),
        (
            '{"format": "cmet-timeline/1", "keys": [{"emotion": "a", "easing": "bounce"}]}',
            "smooth, linear, step, natural",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, document: str, says: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(document)
    with pytest.raises(CmetError, match=says) as caught:
        EmotionTimeline.load(path)
    assert "keys.json" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CmetError, match="Cannot read"):
        EmotionTimeline.load(tmp_path / "absent.json")


@MANY
@given(keys(), st.floats(0.05, 900))
def test_an_envelope_stays_within_its_key(key: EmotionKey, duration: float) -> None:
    times = np.linspace(0, duration, 200)
    envelope = key.envelope(times, duration)
    assert envelope.dtype == np.float32
    assert np.all(np.abs(envelope) <= abs(key.strength) * (1 + 1e-6))
    end = duration if key.end is None else key.end
    outside = (times < key.start - 1e-6) | (times > end + 1e-6)
    assert np.all(envelope[outside] == 0)
    assert np.all(np.sign(envelope[envelope != 0]) == np.sign(key.strength))


def test_a_key_over_the_whole_clip_is_level() -> None:
    for easing in EASINGS:
        envelope = EmotionKey("happy", 0.8, easing=easing).envelope(np.arange(100) / 25, 4.0)
        np.testing.assert_allclose(envelope, 0.8, rtol=1e-6)


@pytest.mark.parametrize("easing", EASINGS)
def test_ramps(easing: str) -> None:
    key = EmotionKey("happy", 1, 1, 3, 0.5, 0.5, easing)
    at = dict(zip([0.9, 1.0, 1.25, 1.5, 2.0, 2.5, 2.75, 2.999, 3.0, 3.1],
                  key.envelope(np.array([0.9, 1.0, 1.25, 1.5, 2.0, 2.5, 2.75, 2.999, 3.0, 3.1]), 4.0), strict=True))  # fmt: skip
    assert at[0.9] == at[3.0] == at[3.1] == 0
    assert at[2.0] == at[1.5] == at[2.5] == 1
    if easing == "step":
        assert at[1.0] == at[2.999] == 1
    else:
        assert at[1.0] == 0
        assert at[1.25] == pytest.approx(0.5) and at[2.75] == pytest.approx(0.5)


def test_a_natural_apex_relaxes_and_surprise_does_first() -> None:
    times = np.arange(0, 10, 0.04)
    happy, surprised = (
        EmotionKey(name, 0.8, 1, 9, 0.5, 0.5, "natural").envelope(times, 10.0) for name in ("happy", "surprised")
    )
    apex = [(times[e > 0.8 * 0.99].min(), times[e > 0.8 * 0.99].max()) for e in (happy, surprised)]
    assert apex[0] == pytest.approx((1.5, 5.5), abs=0.08) and apex[1] == pytest.approx((1.5, 2.5), abs=0.08)
    for envelope in (happy, surprised):
        assert envelope[np.abs(times - 8.4) < 0.03] == pytest.approx(0.8 * REMAINS, abs=0.01)
        assert np.abs(np.diff(envelope)).max() < 0.8 * 0.15  # no step anywhere
    level = EmotionKey("happy", 1, easing="natural").envelope(np.array([0.0, 3.9, 8.0]), 10.0)
    assert level == pytest.approx([1, 1, REMAINS], abs=0.01)
    blend = EmotionKey("0.5*happy+0.5*surprised", 1, 1, 9, 0.5, 0.5, "natural").envelope(times, 10.0)
    assert blend == pytest.approx(surprised / 0.8)


def test_ramps_of_a_short_key_shrink_to_fit() -> None:
    times = np.linspace(0, 2, 2001)
    envelope = EmotionKey("happy", 1, 1.0, 1.2, 0.5, 0.5).envelope(times, 2.0)
    assert envelope.max() == pytest.approx(1, abs=0.01)
    assert times[envelope.argmax()] == pytest.approx(1.1, abs=0.01)


def test_overlapping_keys_add() -> None:
    timeline = EmotionTimeline.parse(["happy=0.8", "happy=0.4", "0.5*happy+0.5*sad=1", "fear=-1"])
    weights = timeline.weights(np.array([0.0, 1.0]), 2.0)
    assert weights["happy"] == pytest.approx([1.7, 1.7])
    assert weights["sad"] == pytest.approx([0.5, 0.5])
    assert weights["fear"] == pytest.approx([-1, -1])
    assert timeline.names() == ["happy", "sad", "fear"]


def test_times_beyond_the_clip_are_named() -> None:
    with pytest.raises(CmetError, match=r"'happy' starts at 5 s, but the clip ends at 4.00 s"):
        EmotionTimeline.parse(["happy@5-6"]).weights(np.zeros(1), 4.0)
    late_end = EmotionTimeline.parse(["happy@1-60"]).weights(np.array([3.9]), 4.0)
    assert late_end["happy"][0] == 1  # an end beyond the clip is its end: no ramp


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("happy", {"happy": 1}),
        ("-sad", {"sad": -1}),
        ("0.7*happy+0.3*fear", {"happy": 0.7, "fear": 0.3}),
        ("0.7 * happy + 0.3 * fear", {"happy": 0.7, "fear": 0.3}),
        ("happy-0.5*sad", {"happy": 1, "sad": -0.5}),
        ("two-part", {"two-part": 1}),
        ("happy+happy", {"happy": 2}),
        (".5*happy+-sad", {"happy": 0.5, "sad": -1}),
    ],
)
def test_blends(text: str, weights: dict[str, float]) -> None:
    assert parse_blend(text) == pytest.approx(weights)


def test_the_command_line_takes_an_opposite_as_it_is_written():
    from cmet_engine.cli.main import build_parser, joined

    given = ["edit", "clip.mp4", "-o", "out", "--emotion", "-0.7*happy", "--emotion", "sad", "--mode", "add"]
    options = build_parser().parse_args(joined(given))
    assert options.emotion == ["-0.7*happy", "sad"] and options.mode == ["add"]


def test_keys_are_told_apart_by_person():
    timeline = EmotionTimeline.parse(["happy@0-2#anna", "angry#2", "sad@2-3#anna", "fear"])
    assert timeline.people() == ["anna", "2", None]
    assert timeline.of("anna") == EmotionTimeline.parse(["happy@0-2#anna", "sad@2-3#anna"])
    assert timeline.of(None).names() == ["fear"]
    assert "person" not in EmotionTimeline.parse(["fear"]).to_json()


@pytest.mark.parametrize("name", ["strength", "start", "end", "ease_in", "ease_out"])
def test_a_number_too_large_for_a_float_is_said(tmp_path, name):
    path = tmp_path / "timeline.json"
    path.write_text(json.dumps({"format": "cmet-timeline/1", "keys": [{"emotion": "happy", name: 10**400}]}))
    with pytest.raises(CmetError, match="happy"):
        EmotionTimeline.load(path)


def test_strength_keys_multiply_the_strength_and_travel_in_the_file(tmp_path):
    key = EmotionKey("happy", 2.0, 1.0, 3.0, ease_in=0, ease_out=0, strength_keys=[[0, 0], [1, 1], [1.5, 0.5]])
    assert key.envelope(np.array([0.5, 1.5, 2.0, 2.9]), 4.0).tolist() == pytest.approx([0, 1.0, 2.0, 1.0])
    path = tmp_path / "keys.json"
    path.write_text(EmotionTimeline([key]).to_json())
    assert EmotionTimeline.load(path).keys == [key]
    for wrong in ([[1, 1], [0, 1]], [[0, 99]], [[0]], "ab", 3):
        with pytest.raises(CmetError, match="strength_keys"):
            EmotionKey("happy", strength_keys=wrong)


def test_a_refusal_stays_on_one_line_whatever_it_quotes():
    with pytest.raises(CmetError) as error:
        EmotionKey("happy", regions={"\r\x1b[2J": 1.0})
    assert str(error.value) == "emotion 'happy': region '??[2J' is not one of brows, eyes, cheeks, mouth."
