"""How long work reports where it stands: `progress(stage, done, total)`."""

from collections.abc import Callable
from enum import StrEnum

Progress = Callable[[str, int, int | None], None]
"""Called as `progress(stage, done, total)`; `total` is None where it is unknown. An exception raised in it cancels the work."""


class Stage(StrEnum):
    """A stage of the work. Its value is what clients of the engine read; `label` and `unit` are for people."""

    label: str
    unit: str

    def __new__(cls, value: str, label: str, unit: str) -> "Stage":
        """A member that is the string `value`."""
        member = str.__new__(cls, value)
        member._value_, member.label, member.unit = value, label, unit
        return member

    PEOPLE = "people", "looking for people", "frame"
    TRACKING = "tracking", "tracking the face", "frame"
    SOLVING = "solving", "solving for coefficients", "frame"
    OCCLUSION = "occlusion", "looking for what covers the face", "frame"
    SPEECH = "speech", "encoding the speech", "file"
    HEAR = "hear", "hearing the voice", "phrase"
    ENCODE = "encode", "encoding the driving frames", "frame"
    FIT = "fit", "fitting to the clip", "step"
    RENDER = "render", "rendering", "frame"
    CONVERT = "convert", "converting the weights", "file"

    BAKE = "bake", "baking", "frame"
    READ_RIG = "read_rig", "reading the rig", "frame"

    CORPUS_SPEECH = "corpus_speech", "encoding the recordings", "file"
    CORPUS_TRACKING = "corpus_tracking", "tracking the clips", "clip"
    OBSERVE = "observe", "labelling the pictures", "picture"
    SYNTHESISE = "synthesise", "synthesising faces", "face"
    SCORE = "score", "scoring the pictures", "file"
    EXTRACT = "extract", "extracting EDTalk codes", "clip"
    AUGMENT = "augment", "augmenting the recordings", "file"
    WARP = "warp", "rendering training samples", "sample"
    TRAIN = "train", "training", "step"
    KERNEL = "kernel", "fitting the kernels", "fit"
    FOLD = "fold", "cross-validating", "fold"
    HOLD_OUT = "hold_out", "leaving one emotion out", "emotion"
    MEASURE = "measure", "measuring", "clip"
    CLASSIFY = "classify", "classifying", "clip"


_BY_VALUE = {stage.value: stage for stage in Stage}


def label_of(stage: str) -> str:
    """What a stage is called for people; one that is no member (a download names its file) is its own label."""
    return _BY_VALUE[stage].label if stage in _BY_VALUE else stage


def unit_of(stage: str) -> str:
    """What a stage counts in."""
    return _BY_VALUE[stage].unit if stage in _BY_VALUE else "frame"
