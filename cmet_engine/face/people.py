"""Everyone in a clip: who is seen when, with numbers and names to choose them by.

Some frames of every second are searched. Faces that stay at a place are one appearance of somebody; appearances that look alike
are one person, unless both are seen at the same moment.
"""

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from cmet_engine import cache, fingerprint
from cmet_engine.errors import CmetError, InvalidInput, NotFound
from cmet_engine.face import best_view
from cmet_engine.face.cuts import CutFinder, thumbnail_of
from cmet_engine.face.follower import upright_turns
from cmet_engine.face.identity import IDENTITY_FILE, distance
from cmet_engine.face.mesh import Box, Detector, Mesh, box_of, cut_window, turned
from cmet_engine.face.person import SURELY_OTHER, seen_clearly, signature
from cmet_engine.files import read_json, whole_file
from cmet_engine.media.info import Frame
from cmet_engine.media.picture import read_picture
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.models import assets
from cmet_engine.progress import Progress, Stage
from cmet_engine.timeline import PERSON

FORMAT = "cmet-faces/1"
SEARCHED_SECONDS = 0.2
"""Seconds from one searched frame to the next."""
TILED_EVERY = 5
"""Of these frames, every fifth is searched for very small faces, too."""
SAME_PLACE = 0.2
"""Overlap (intersection over union) of the boxes of one face in two searched frames."""
FEWEST_SIGHTINGS = 2
"""A face that is found only once is a false detection, unless nobody is found more often."""
ALIKE = 0.6
"""Distance of two appearances up to which they are one person; between means of several views it is smaller than of single ones."""
LEAST_LIKE = 0.85
"""Distance beyond which nobody in the clip is the one on a picture, which was taken at another time, in other light."""
MOST_SIGNATURES = 12
"""Views of a person that are kept to compare with."""
PICTURE = 256
"""Side of a person's picture, pixels."""
PICTURE_ROOM = 1.7
"""Side of what it shows over the side of the face."""


@dataclass
class Appearance:
    """One person over a stretch of a clip, or over several.

    Attributes:
        frames: numbers of the searched frames that show the face.
        times: seconds of each.
        sides: pixels of the face in each.
        box: where the face was last.
        signatures: of its clearest views.
        views: to choose a picture from.
    """

    frames: list[int]
    times: list[float]
    sides: list[float]
    box: Box
    views: list[best_view.View]
    signatures: list[np.ndarray] = field(default_factory=list)

    def add(self, other: "Appearance") -> None:
        """Take in another stretch of the same person."""
        self.views = best_view.kept(self.views + other.views)
        self.frames = self.frames + other.frames
        self.times, self.sides = self.times + other.times, self.sides + other.sides
        self.signatures = self.signatures + other.signatures


@dataclass(frozen=True)
class SeenPerson:
    """A person in a clip.

    Attributes:
        number: from 1, by size of the face times how long it is seen.
        first, last: seconds when the face is first and last seen.
        share: of the searched frames that show it, 0 to 1.
        size: pixels of the face's side in the median.
        signatures: float32 [K, D]; empty where the face was never seen well.
        picture: uint8 [256, 256, 3].
        name: given by the user.
    """

    number: int
    first: float
    last: float
    share: float
    size: float
    signatures: np.ndarray
    picture: np.ndarray
    name: str | None = None


def find_people(clip: Path | Source, progress: Progress | None = None) -> list[SeenPerson]:
    """Everyone in the whole of a clip, with the names that were given; cached by the clip's content.

    Raises:
        CmetError: the clip cannot be read, or shows no face.
    """
    code = fingerprint.code(__name__)
    whole = replace(Source.of(clip), first=0, end=None)
    checksums = assets.checksums(IDENTITY_FILE)
    name = cache.key("people", whole.path, code, checksums, *whole.reading) if whole.path.is_file() else None
    found = cache.arrays(name, lambda: _as_arrays(_search(whole, progress)))
    named = {number: given for given, number in names(whole.path).items()}
    return [replace(person, name=named.get(person.number)) for person in _from_arrays(found)]


def names_file(clip: Path) -> Path:
    """Where the names of a clip's people are kept: `interview.faces.json` beside `interview.mp4`."""
    return clip.with_name(f"{clip.stem}.faces.json")


def names(clip: Path) -> dict[str, int]:
    """Numbers of the people of a clip by the names that were given to them.

    Raises:
        InvalidInput: the file of names is damaged.
    """
    path = names_file(clip)
    if not path.exists():
        return {}
    document = read_json(path)
    given = document.get("names") if isinstance(document, dict) and document.get("format") == FORMAT else None
    if not isinstance(given, dict) or not all(
        PERSON.fullmatch(name) and isinstance(number, int) and number > 0 for name, number in given.items()
    ):
        raise InvalidInput(f'{path.name} does not hold names of people; it needs "format": "{FORMAT}" and "names".')
    return given


def give_names(clip: Path | Source, given: dict[str, int]) -> None:
    """Keep names for people of a clip; a person has one name, and a name one person.

    Raises:
        CmetError: there is no such person, or the file of names cannot be written.
    """
    count, path = len(find_people(clip)), Source.of(clip).path
    for number in given.values():
        if not 1 <= number <= count:
            raise NotFound(_no_person(path, f"#{number}", count))
    kept = {name: n for name, n in names(path).items() if name not in given and n not in given.values()}
    document = {"format": FORMAT, "names": dict(sorted({**kept, **given}.items()))}
    with whole_file(names_file(path), force=True) as temporary:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def number_of(clip: Path | Source, person: str, progress: Progress | None = None) -> int:
    """The number of a person in a clip.

    Args:
        clip: the footage.
        person: the number in text form, or a name that was given.
        progress: called while people are looked for.

    Raises:
        NotFound: there is no such person.
    """
    path = Source.of(clip).path
    if not person.isdigit():
        known = names(path)
        if person in known:
            return known[person]
        called = f"; known are {', '.join(known)}" if known else ""
        raise NotFound(
            f"Nobody in {path.name} is called '{person}'{called}. Name people by: cmet faces {path.name} --name 2={person}"
        )
    count = len(find_people(clip, progress))
    if not 1 <= int(person) <= count:
        raise NotFound(_no_person(path, f"#{person}", count))
    return int(person)


def signatures_of(clip: Path | Source, face: str | Path, progress: Progress | None = None) -> np.ndarray:
    """Signatures [K, D] of the person that `spec.Face` means by a text or by a picture.

    A picture means the person of the clip who looks most like it.

    Raises:
        CmetError: there is no such person, or the picture shows no face.
    """
    if isinstance(face, Path):
        return _like_picture(clip, face, progress).signatures
    person = find_people(clip, progress)[number_of(clip, face.removeprefix("#"), progress) - 1]
    if not len(person.signatures):
        raise InvalidInput(
            f"Person {face} of {Source.of(clip).path.name} is never seen well enough to be found again; give the rank of the face instead."
        )
    return person.signatures


def _like_picture(clip: Path | Source, picture: Path, progress: Progress | None) -> SeenPerson:
    """The person of a clip who looks most like a picture."""
    wanted = picture_signature(picture)
    people = [person for person in find_people(clip, progress) if len(person.signatures)]
    unlike = [distance(wanted, person.signatures) for person in people]
    if not people or min(unlike) > LEAST_LIKE:
        name = Source.of(clip).path.name
        raise NotFound(f"Nobody in {name} looks like {picture.name}. cmet faces {name} lists who is there.")
    return people[int(np.argmin(unlike))]


def picture_signature(path: Path) -> np.ndarray:
    """Signature [D] of the largest face on a picture.

    Raises:
        CmetError: the file cannot be read, or shows no face that is large and frontal enough.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}; --face takes a rank, #NUMBER, #NAME or the path of a picture.")
    image = read_picture(path)
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        for box in detector.find(image, tiles=True):
            mesh.forget()
            landmarks = mesh.find(image, box)
            if landmarks is not None:
                landmarks = mesh.find(image, box_of(landmarks))
            if landmarks is not None and (picture := seen_clearly(image, landmarks)) is not None:
                return signature(picture, landmarks)
    raise InvalidInput(f"{path.name} shows no face that is large and frontal enough to recognise somebody by.")


def _no_person(clip: Path, called: str, count: int) -> str:
    people = "one person" if count == 1 else f"{count} people"
    return f"{clip.name} shows {people}; there is no {called}. cmet faces {clip.name} lists them."


def _search(clip: Source, progress: Progress | None) -> list[SeenPerson]:
    """Look for everyone in a clip."""
    reader = VideoReader(clip)
    step = max(1, round(float(reader.info.fps) * SEARCHED_SECONDS))
    cuts, searched = CutFinder(), 0
    done: list[Appearance] = []
    open_ones: list[Appearance] = []
    with contextlib.closing(Detector()) as detector, contextlib.closing(Mesh()) as mesh:
        turns = upright_turns(reader, detector)
        for frame in reader:
            if cuts.is_cut(thumbnail_of(frame)):
                done += open_ones
                open_ones = []
            if frame.index % step:
                continue
            seen = Frame(frame.index, frame.time, turned(frame.image, turns))
            found = _sightings(seen, detector.find(seen.image, tiles=searched % TILED_EVERY == 0), mesh)
            open_ones, ended = _continued(open_ones, found)
            done += ended
            searched += 1
            if progress:
                progress(Stage.PEOPLE, frame.index + 1, reader.info.frames)
    people = _people(done + open_ones)
    if not people:
        raise InvalidInput(f"{clip.path.name}: no face was found in any of its frames; use a clip that shows one.")
    people.sort(key=lambda person: -sum(person.sides))
    return [
        SeenPerson(
            number, min(person.times), max(person.times), len(set(person.frames)) / searched, float(np.median(person.sides)),
            np.array(_spread(person.signatures)), best_view.best(person.views).picture,
        )
        for number, person in enumerate(people, 1)
    ]  # fmt: skip


def _sightings(frame: Frame, boxes: list[Box], mesh: Mesh) -> list[Appearance]:
    """The faces in a frame that landmarks are found in."""
    found: list[Appearance] = []
    for box in boxes:
        mesh.forget()
        landmarks = mesh.find(frame.image, box)
        if landmarks is not None:
            landmarks = mesh.find(frame.image, box_of(landmarks))  # the second time they lie better
        if landmarks is None or any(box_of(landmarks).overlap(other.box) > SAME_PLACE for other in found):
            continue
        place = box_of(landmarks)
        picture = cut_window(frame.image, place.x, place.y, place.side * PICTURE_ROOM, PICTURE)[0]
        picture = cv2.resize(picture, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
        views = [best_view.view(frame.image, landmarks, picture)]
        seen = Appearance([frame.index], [float(frame.time)], [place.side], place, views)
        if (clear := seen_clearly(frame.image, landmarks)) is not None:
            seen.signatures.append(signature(clear, landmarks))
        found.append(seen)
    return found


def _continued(open_ones: list[Appearance], found: list[Appearance]) -> tuple[list[Appearance], list[Appearance]]:
    """Faces found in a frame joined to those of the frame searched before it, by place and look; and those that ended."""
    result, left = [], list(open_ones)
    for seen in found:
        near = [a for a in left if a.box.overlap(seen.box) > SAME_PLACE and _unlike(a, seen) < SURELY_OTHER]
        if near:
            best = max(near, key=lambda a: a.box.overlap(seen.box))
            left.remove(best)
            best.add(seen)
            best.box = seen.box
            result.append(best)
        else:
            result.append(seen)
    return result, left


def _unlike(a: Appearance, b: Appearance) -> float:
    """Distance of two appearances; 0 where one of them was never seen well."""
    if not a.signatures or not b.signatures:
        return 0.0
    mean = np.mean(b.signatures, 0)
    return distance(mean / max(float(np.linalg.norm(mean)), 1e-6), np.array(a.signatures))


def _people(appearances: list[Appearance]) -> list[Appearance]:
    """Appearances joined to people: the two most alike first, until none are alike."""
    people = [a for a in appearances if a.signatures]
    while True:
        alike = [
            (_unlike(a, b), i, j)
            for i, a in enumerate(people)
            for j, b in enumerate(people[:i])
            if not set(a.frames) & set(b.frames)
        ]
        unlike, i, j = min(alike, default=(1.0, 0, 0))
        if unlike > ALIKE:
            break
        people[j].add(people.pop(i))
    people += [a for a in appearances if not a.signatures]
    often = [person for person in people if len(person.frames) >= FEWEST_SIGHTINGS]
    return often or people


def _spread(signatures: list[np.ndarray]) -> list[np.ndarray]:
    """At most `MOST_SIGNATURES` of them, from all of the time."""
    picks = np.linspace(0, len(signatures) - 1, min(len(signatures), MOST_SIGNATURES)).round().astype(int)
    return [signatures[i] for i in picks]


def _as_arrays(people: list[SeenPerson]) -> dict[str, np.ndarray]:
    arrays = {"about": np.array([[p.first, p.last, p.share, p.size] for p in people])}
    for person in people:
        arrays[f"signatures_{person.number}"], arrays[f"picture_{person.number}"] = person.signatures, person.picture
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> list[SeenPerson]:
    return [
        SeenPerson(
            number, float(first), float(last), float(share), float(size), arrays[f"signatures_{number}"],
            arrays[f"picture_{number}"],
        )
        for number, (first, last, share, size) in enumerate(arrays["about"], 1)
    ]  # fmt: skip


def write_people(people: list[SeenPerson], folder: Path, *, force: bool = False) -> dict[str, Path]:
    """Write a picture of each person and a sheet of all into a folder; returns the files by name.

    Raises:
        CmetError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmetError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    pictures = {f"{label(person)}.png": person.picture for person in people}
    pictures["sheet.png"] = sheet(people)
    for name, picture in pictures.items():
        with whole_file(folder / name, force=force) as temporary:
            temporary.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())
    return {name: folder / name for name in pictures}


def label(person: SeenPerson) -> str:
    """What a person is called in names of files: `1`, `2_anna`."""
    return str(person.number) if person.name is None else f"{person.number}_{person.name}"


def sheet(people: list[SeenPerson]) -> np.ndarray:
    """One picture of everyone, six in a row, each with number, name and times: uint8 [H, W, 3]."""
    rows = []
    for start in range(0, len(people), 6):
        tiles = []
        for person in people[start : start + 6]:
            text = f"#{label(person).replace('_', ' ', 1)}  {person.first:.1f}-{person.last:.1f} s"
            tile = np.pad(person.picture, ((0, 28), (0, 4), (0, 0)))
            cv2.putText(tile, text, (6, PICTURE + 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
            tiles.append(tile)
        row = np.hstack(tiles)
        rows.append(np.pad(row, ((0, 0), (0, min(len(people), 6) * (PICTURE + 4) - row.shape[1]), (0, 0))))
    return np.vstack(rows)
