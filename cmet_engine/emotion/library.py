"""The library of emotions: vectors that ship with the project, the user's own, and how a new one is made from recordings.

An emotion vector is the mean of a pool of emotional speech minus the mean of a pool of neutral speech, in the
emotion2vec+ large space (C-MET, section 3.1). The embedded vectors come from the teacher's own features of speakers
that the speech encoder was trained with; vectors made here come from the encoder, which lives in the same space.
"""

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine import cache, files, fingerprint
from cmet_engine.emotion.acoustics import RATE, acoustics
from cmet_engine.emotion.backbone import VOICE_MEAN
from cmet_engine.emotion.speech import SPACE, Encoder, Listened, check_voice
from cmet_engine.errors import CmetError
from cmet_engine.files import check_writable, whole_file
from cmet_engine.media import audio
from cmet_engine.models import assets
from cmet_engine.models.tensors import read_arrays
from cmet_engine.progress import Progress, Stage

FORMAT = "cmet-emotion/1"
EMBEDDED = "emotion_library.safetensors"
JUDGED = "reliability.json"  # what a judge of faces said about edits, from `cmet eval emotion`
SOUNDS = frozenset(".wav .flac .mp3 .m4a .aac .ogg .oga .opus .aif .aiff .mp4 .mov .mkv .webm .avi .m4v .wma".split())
MOST_SECONDS = 600.0  # of one recording; beyond that it adds nothing to a mean

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_RESERVED = frozenset("voice con prn aux nul".split()) | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}
_WEAK = 3.0  # length of a vector that is hardly more than the spread of neutral speech; strong emotions measure 8 to 15
_LOOSE = 0.4  # mean pairwise cosine of the recordings below which they do not sound alike
_OTHER_VOICE = 1.6  # `voice_distance` above which it is somebody else; strong emotion passes it in one pool of twenty
_OTHER_CLIP = 2.2  # the same where a pool is a clip or two
_TWO_VOICES = 1.75  # distance of the two groups of voices in a pool above which they are two people


@dataclass(frozen=True)
class EmotionVector:
    """One emotion as a direction in the speech encoder's space.

    Attributes:
        name: as the timeline calls it.
        vector: float32 [1024], difference from neutral.
        reliability: 0 to 1, how far it can be trusted. Embedded: measured agreement with speakers never heard. The user's
            own: how consistent the recordings are with each other; None where that cannot be told (a single recording).
        meta: `origin` (`embedded`, `user`), `near` (cosines with known emotions), `length`, `files`, `neutral_files`,
            `consistency`, `messages` (sentences to show), as far as known; embedded ones also `recognised` (share of edited clips
            that a judge named right), `taken_for`, `realised` (measured over asked change of the face).
    """

    name: str
    vector: np.ndarray
    reliability: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def load_library() -> dict[str, EmotionVector]:
    """Every emotion that can be asked for: the embedded ones, then the user's, by name.

    A file of the user's that is damaged does not hide the others: it is left out, and `user_problems` names it.

    Raises:
        CmetError: the embedded library is missing or damaged.
    """
    library = dict(_embedded())
    for path in _user_files():
        try:
            vector = read_vector(path)
        except CmetError:
            continue
        library.setdefault(vector.name, vector)
    return library


def user_problems() -> list[str]:
    """One sentence for every file of the user's library that cannot be used."""
    problems = []
    for path in _user_files():
        try:
            read_vector(path)
        except CmetError as error:
            problems.append(str(error))
    return problems


def neutral_place() -> np.ndarray:
    """Where the encoder puts neutral speech on average over its training speakers: float32 [1024]."""
    return _tensor("neutral_place")


def find_emotions(names: Iterable[str], library: Mapping[str, EmotionVector]) -> dict[str, EmotionVector]:
    """The vectors of `names`.

    Raises:
        CmetError: one is unknown; the message gives the nearest spelling and the known ones.
    """
    found = {}
    for name in names:
        match = name if name in library else next((known for known in library if known.lower() == name.lower()), None)
        if match is None:
            near = difflib.get_close_matches(name.lower(), list(library), 1, 0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise CmetError(f"The emotion '{name}' is unknown.{hint} Known are {', '.join(sorted(library))}.")
        found[name] = library[match]
    return found


def user_folder() -> Path:
    """The folder of the user's own emotions."""
    return files.user_folder() / "emotions"


def check_name(name: str) -> str:
    """Check a name for a new emotion; returns it.

    Raises:
        CmetError: it is not a plain word, is taken by an embedded emotion, or has a meaning of its own.
    """
    if not _NAME.fullmatch(name):
        raise CmetError(
            f"'{name}' cannot name an emotion; use up to 40 letters, digits, '_' and '-', beginning with a letter."
        )
    if name.lower() in _embedded():
        raise CmetError(f"'{name}' is an emotion of the embedded library; choose another name.")
    if name.lower() in _RESERVED:
        raise CmetError(f"'{name}' is reserved; choose another name.")
    return name


def check_new(name: str, *, force: bool = False) -> Path:
    """Check that an emotion of this name can be added to the user's library; returns the file it will be.

    Raises:
        CmetError: the name cannot be used, it exists and `force` is off, or the folder cannot be written.
    """
    check_name(name)
    folder = user_folder()
    path = folder / f"{name}.json"
    known = next((file.stem for file in _user_files() if file.stem.lower() == name.lower()), None)
    if known is not None and (not force or known != name):
        advice = "choose another name" if known != name else "choose another name or add --force to replace it"
        raise CmetError(f"Your library holds '{known}' already; {advice}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmetError(f"Cannot make the folder of your emotions {folder}: {error.strerror}.") from error
    return check_writable(path, force=force)


def save_user_vector(vector: EmotionVector, *, force: bool = False) -> Path:
    """Add an emotion to the user's library; returns the file.

    Raises:
        CmetError: see `check_new`.
    """
    path = check_new(vector.name, force=force)
    document = {
        "format": FORMAT,
        "name": vector.name,
        "reliability": vector.reliability,
        "meta": vector.meta,
        "vector": [round(float(value), 6) for value in vector.vector],
    }
    with whole_file(path, force=force) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path


def remove_user_vector(name: str) -> None:
    """Remove an emotion from the user's library.

    Raises:
        CmetError: it is not there, or is an embedded one.
    """
    path = user_folder() / f"{check_name(name)}.json"
    if not path.is_file():
        raise CmetError(f"Your library holds no emotion '{name}'.")
    path.unlink()


def read_vector(path: str | Path) -> EmotionVector:
    """Read one file of the user's library.

    Raises:
        CmetError: it cannot be read or is not an emotion; the message names the file and the field.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CmetError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CmetError(f"{path.name}: not valid JSON; make the emotion again with `cmet vector`.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CmetError(f'{path.name}: not an emotion; it needs "format": "{FORMAT}".')
    name = document.get("name")
    if name != path.stem or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CmetError(f'{path.name}: the field "name" must be the file\'s own name.')
    try:
        vector = np.asarray(document["vector"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise CmetError(f'{path.name}: the field "vector" must be a list of {SPACE} numbers.') from error
    if vector.shape != (SPACE,) or not np.isfinite(vector).all():
        raise CmetError(f'{path.name}: the field "vector" must be a list of {SPACE} numbers.')
    reliability, meta = document.get("reliability"), document.get("meta", {})
    if not (reliability is None or isinstance(reliability, int | float)) or not isinstance(meta, dict):
        raise CmetError(f'{path.name}: the fields "reliability" and "meta" must be a number and a table.')
    return EmotionVector(name, vector, None if reliability is None else float(reliability), meta)


def emotion_vector(
    paths: Sequence[str | Path],
    neutral_paths: Sequence[str | Path] | None,
    name: str,
    encoder: Encoder,
    *,
    progress: Progress | None = None,
) -> EmotionVector:
    """An emotion from how recordings sound.

    Args:
        paths: recordings of the emotion: files, or folders of files.
        neutral_paths: recordings of the same voice speaking neutrally; None or empty: the library's neutral, which
            leaves something of the speaker in the vector.
        name: what to call it; not checked against the library (see `check_name`).
        encoder: what hears.
        progress: called as `progress(stage, done, total)`.

    Returns:
        The vector with what is known of it in `meta`: how long it is against the known ones, which of them it is near,
        how consistent the recordings are with each other, and messages that the user should see.

    Raises:
        CmetError: a path is missing, a folder holds no recordings, a recording cannot be used (too short, silent,
            nobody speaks, not sound), or the same file is in both pools.
    """
    wanted, neutral = sound_files(paths), sound_files(neutral_paths or [])
    if not wanted:
        raise CmetError(
            "No recording of the emotion was given; name files or folders of it first, then the neutral ones."
        )
    both = {p.resolve() for p in wanted} & {p.resolve() for p in neutral}
    if both:
        raise CmetError(
            f"{sorted(both)[0].name} is given both as the emotion and as neutral; take it out of one of them."
        )
    heard: list[_Recording] = []
    for number, path in enumerate([*wanted, *neutral]):
        if progress:
            progress(Stage.SPEECH, number, len(wanted) + len(neutral))
        heard.append(_hear(path, encoder))
    messages = [recording.message for recording in heard if recording.message]
    pool, calm = heard[: len(wanted)], heard[len(wanted) :]
    strangers = _identity(pool, calm)
    drawn = np.zeros(SPACE, np.float32)  # hides how recordings differ
    if calm and not strangers:
        features, rest, drawn = encoder.pools([r.heard for r in pool], [r.heard for r in calm])
    else:  # neutral speech of somebody else says nothing of how this voice departs from its own rest
        features, rest = (np.array([encoder.told(r.heard).features for r in part]) for part in (pool, calm))
    each = features - (rest.mean(0) if calm else neutral_place())  # [N, 1024]
    vector = each.mean(0).astype(np.float32)
    each = each - drawn
    length = float(np.linalg.norm(vector))
    near = _near(vector)
    consistency = _pairwise_cosine(each)
    if not calm:
        messages.append(
            "No neutral recordings were given: the vector is measured from the library's neutral and keeps something of "
            "the speaker; a few neutral sentences of the same voice make it cleaner."
        )
    if len(pool) == 1:
        messages.append("Made from a single recording: whether another one agrees cannot be told; ten make it steady.")
    elif len(calm) == 1:
        messages.append("The neutral pool is a single recording; ten make it steady.")
    if length < _WEAK:
        messages.append(
            f"It lies only {length:.1f} from neutral (strong emotions 8 to 15): the recordings sound almost neutral."
        )
    if consistency is not None:
        messages += _mixed(pool, each, consistency)
    if calm:
        messages += _swapped(pool, calm)
    messages += strangers
    reliability = None if consistency is None else float(np.clip(consistency, 0, 1))
    meta = {
        "origin": "user",
        "length": round(length, 2),
        "near": {key: round(value, 3) for key, value in near.items()},
        "consistency": None if consistency is None else round(consistency, 3),
        "files": [p.name for p in wanted],
        "neutral_files": [p.name for p in neutral],
        "messages": messages,
    }
    return EmotionVector(name, vector, reliability, meta)


def describe_vector(vector: EmotionVector) -> str:
    """What is known of an emotion, as a few lines of text."""
    meta = vector.meta
    length = float(meta.get("length", np.linalg.norm(vector.vector)))
    lines = [f"{vector.name}: {length:.1f} from neutral ({_strength_word(length)})"]
    near = sorted((meta.get("near") or _near(vector.vector)).items(), key=lambda item: -item[1])
    near = [(key, value) for key, value in near if key != vector.name]
    if length > 1e-3:
        close = [f"{key} {value:.2f}" for key, value in near[:3] if value > 0.2]
        lines.append("near: " + (", ".join(close) if close else "no known emotion") + " (cosine)")
    if meta.get("files"):
        pool, calm = len(meta["files"]), len(meta.get("neutral_files") or [])
        against = f"{calm} neutral" if calm else "the library's neutral"
        lines.append(f"made from {pool} recording{'s' * (pool != 1)} against {against}")
    if meta.get("consistency") is not None:
        lines.append(f"recordings agree with each other: {meta['consistency']:.2f} (mean cosine)")
    if vector.reliability is not None:
        lines.append(f"reliability: {vector.reliability:.2f}")
    lines += [f"note: {message}" for message in meta.get("messages", [])]
    return "\n".join(lines)


def sound_files(paths: Sequence[str | Path]) -> list[Path]:
    """The recordings that `paths` mean: files as they are, folders by the sound files in them, sorted by name.

    Raises:
        CmetError: a path does not exist, or a folder holds no recordings (it says where they might be instead).
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SOUNDS and not p.name.startswith("."))
            if not inside:
                deeper = sorted({p.parent for p in path.rglob("*") if p.suffix.lower() in SOUNDS})
                hint = f"; its folder {deeper[0].relative_to(path)} does, give that" if deeper else ""
                raise CmetError(f"The folder {path} holds no recordings (.wav, .flac, .mp3, .mp4, …){hint}.")
            found += inside
        else:
            raise CmetError(f"{path} does not exist; give a recording or a folder of recordings.")
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Recording:
    path: Path
    heard: Listened
    neutral: float  # probability
    message: str | None

    @property
    def voice(self) -> np.ndarray:
        """Whose voice it is, to the network that was trained to tell people apart: float32 [256]."""
        return self.heard.statistics[VOICE_MEAN]


def _hear(path: Path, encoder: Encoder) -> _Recording:
    """One recording, heard once: what was heard is cached by its content."""

    def listen() -> dict[str, np.ndarray]:
        recording = _heard(path, encoder)
        told = {"neutral": np.array(recording.neutral), "message": np.array(recording.message or "")}
        return {**recording.heard._asdict(), **told}

    name = (
        cache.key("utterance", path, fingerprint.code(__name__), path.name, encoder.identity)
        if encoder.identity
        else None
    )
    found = cache.arrays(name, listen)
    heard = Listened(*(found[name] for name in Listened._fields))
    return _Recording(path, heard, float(found["neutral"]), str(found["message"]) or None)


def _heard(path: Path, encoder: Encoder) -> _Recording:
    wave = audio.load(path, RATE)[: int(MOST_SECONDS * RATE)]
    message = audio.check_speech(wave, RATE, path.name)
    wave = audio.without_pauses(wave)
    heard = acoustics(wave)
    check_voice(heard, path.name)
    listened = encoder.listen(wave, heard)
    neutral = encoder.told(listened).probabilities()[encoder.emotions.index("neutral")]
    return _Recording(path, listened, float(neutral), message)


def voice_distance(one: np.ndarray, other: np.ndarray) -> float:
    """How unlike two voices are, from the mean `_Recording.voice` [256] of some recordings each.

    Distance in the directions in which the training speakers differ most against their own emotions (linear
    discriminants). Between all emotional and all neutral clips of one speaker not trained on it passes 1 in 5 % of cases.
    """
    return float(np.sqrt(np.mean(((one - other) @ _tensor("voice_directions")) ** 2)))


def _identity(pool: list[_Recording], calm: list[_Recording]) -> list[str]:
    """A sentence when the voices of the two pools, or within the pool, are of different people."""
    if calm:
        if _voices_apart(pool) > _TWO_VOICES > _voices_apart(calm):
            return [
                "The recordings of the emotion seem to be of several people, the neutral ones are not: the vector then holds who "
                "speaks beside how; give neutral recordings of all of them."
            ]
        apart = voice_distance(np.mean([r.voice for r in pool], 0), np.mean([r.voice for r in calm], 0))
        limit = _OTHER_VOICE if min(len(pool), len(calm)) > 2 else _OTHER_CLIP
        if apart > limit:
            return [
                f"The voices of the emotion and of neutral differ a lot ({apart:.1f}; above {limit:g} it is mostly another person): "
                "the vector then holds who speaks beside how; use neutral recordings of the same voice."
            ]
        return []
    pairs = [voice_distance(a.voice, b.voice) for a, b in itertools.combinations(pool[:40], 2)]
    if (pairs and float(np.median(pairs)) > _OTHER_CLIP) or _voices_apart(pool) > _TWO_VOICES:
        return ["The recordings seem to be of several people; give neutral recordings of the same people."]
    return []


def _voices_apart(pool: list[_Recording]) -> float:
    """How unlike the voices of the two groups are into which a pool falls most easily; 0 for a few recordings or a stray one.

    Over pools of eight clips of speakers left out it passes `_TWO_VOICES` in 2 % of those of one person, and in 60 % of those that are
    half of another one.
    """
    if len(pool) < 4:
        return 0.0
    voices = np.stack([recording.voice for recording in pool])
    one = _two_groups(voices @ _tensor("voice_directions"))
    if not 2 <= one.sum() <= len(one) - 2:
        return 0.0
    return voice_distance(voices[one].mean(0), voices[~one].mean(0))


def _swapped(pool: list[_Recording], calm: list[_Recording]) -> list[str]:
    """A sentence when the labels of the two pools seem to be mixed up."""
    wanted, neutral = np.mean([r.neutral for r in pool]), np.mean([r.neutral for r in calm])
    if neutral < 0.35 and wanted > neutral + 0.25:
        return ["The neutral recordings sound more emotional than those of the emotion; were the two pools exchanged?"]
    return []


def _mixed(pool: list[_Recording], each: np.ndarray, consistency: float) -> list[str]:
    """A sentence when the recordings [N, 1024] hardly agree, fall into two groups, or one is unlike all others.

    Over 74 pools of seven speakers that the encoder never heard the limits speak up in 8 % of those of one emotion; they find 35 %
    of those that are half of another one, and 22 % of the single strays, 81 % of which they name right.
    """
    if consistency < _LOOSE:
        return [
            f"The recordings hardly agree with each other (mean cosine {consistency:.2f}); they may hold several emotions."
        ]
    if len(pool) < 4:
        return []
    unit = each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    with_others = np.array([_cosine(own, each.sum(0) - own) for own in each])
    order = with_others.argsort()
    least, second = with_others[order[:2]]
    if min(np.median(with_others) - least, 2 * (second - least)) > 0.4 and np.median(with_others) > 0.8:
        return [f"{pool[order[0]].path.name} sounds unlike the others; is its label right?"]
    one = _two_groups(unit)
    few = one if one.sum() * 2 <= len(one) else ~one
    if few.sum() < 2:
        return []
    between = float(cosines[np.ix_(few, ~few)].mean())
    within = min(float(cosines[np.ix_(g, g)].sum() - g.sum()) / (g.sum() * (g.sum() - 1)) for g in (few, ~few))
    if between < 0.6 and within - between > 0.35:
        names = [recording.path.name for recording, here in zip(pool, few, strict=True) if here]
        return [
            f"The recordings fall into two groups that sound unlike each other; are the labels mixed up? One group is "
            f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''}."
        ]
    return []


def _two_groups(points: np.ndarray) -> np.ndarray:
    """bool [N]: points [N, any] parted in two by their nearest mean, beginning along the axis of most spread."""
    centred = points - points.mean(0)
    side = centred @ np.linalg.svd(centred, full_matrices=False)[2][0] > 0
    for _ in range(10):
        if side.all() or not side.any():
            break
        one, other = (np.square(points - points[group].mean(0)).sum(1) for group in (side, ~side))
        if ((one < other) == side).all():
            break
        side = one < other
    return side


def _pairwise_cosine(each: np.ndarray) -> float | None:
    """Mean cosine over all pairs of rows of `each` [N, 1024]; None for one row."""
    if len(each) < 2:
        return None
    unit = each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    return float((cosines.sum() - np.trace(cosines)) / (len(each) * (len(each) - 1)))


def _near(vector: np.ndarray) -> dict[str, float]:
    """Cosine of `vector` [1024] with every embedded emotion, the nearest first."""
    cosines = {key: _cosine(vector, known.vector) for key, known in _embedded().items() if key != "neutral"}
    return dict(sorted(cosines.items(), key=lambda item: -item[1]))


def _strength_word(length: float) -> str:
    for limit, word in ((1e-3, "neutral itself"), (_WEAK, "hardly audible"), (8.0, "moderate"), (16.0, "strong")):
        if length < limit:
            return word
    return "very strong"


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 1e-9 else 0.0


def _user_files() -> list[Path]:
    folder = user_folder()
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _embedded() -> dict[str, EmotionVector]:
    if not _cache:
        about = json.loads(_open()[1]["emotions"])
        judged = files.read_json(assets.asset(JUDGED))["emotions"]
        for name, entry in about.items():
            vector = _tensor(name) if name != "neutral" else np.zeros(SPACE, np.float32)
            meta = {"origin": "embedded", **entry["meta"], **judged.get(name, {})}
            _cache[name] = EmotionVector(name, vector, entry["reliability"], meta)
    return _cache


_cache: dict[str, EmotionVector] = {}


def _open() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return read_arrays(assets.asset(EMBEDDED), f"The embedded file {EMBEDDED} is damaged; install the package again.")


def _tensor(name: str) -> np.ndarray:
    return _open()[0][name].astype(np.float32)
