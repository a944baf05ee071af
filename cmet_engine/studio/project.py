"""The work on one clip, as it is saved continuously and found again: emotions, corrections, and how to render."""

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cmet_engine.corrections import Correction
from cmet_engine.emotions import LIKE
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import read_json, whole_file
from cmet_engine.timeline import EmotionKey, EmotionTimeline

FORMAT = "cmet-studio/1"
STEPS = 200  # that can be undone
SETTINGS = {
    "mode": "add",
    "quality": "auto",
    "format": "mp4",
    "matte": False,
    "shot_data": False,
    "consent": "",
}

Step = tuple[tuple[EmotionKey, ...], tuple[str, ...]]


@dataclass
class Project:
    """The work on a clip.

    Attributes:
        path: of the project's file.
        clip: the footage.
        face: whose face the keys without a person are for, as `spec_base.Face`.
        people: rows of everyone in the clip, as the engine lists them; empty while it was not asked.
        keys: the emotions; `strength_keys` and gains included.
        corrections: points of curves in text form.
        reference: picture, clip or take whose expression the keys named `like` put on; empty for none.
        reference_name: what the user calls it.
        reference_notes: what is said of it, as sentences.
        settings: how to render; see `SETTINGS`.
        renders: the engine's jobs for this clip, oldest first: `id`, `title`, `quality` and `seconds` of footage.
    """

    path: Path
    clip: str
    face: int | str = 0
    people: list[dict[str, Any]] = field(default_factory=list)
    keys: tuple[EmotionKey, ...] = ()
    corrections: tuple[str, ...] = ()
    reference: str = ""
    reference_name: str = ""
    reference_notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    renders: list[dict[str, Any]] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)
    done: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, clip: str) -> "Project":
        """The project of a clip, from its file in `folder`; a new one where there is none that can be read."""
        path = folder / f"{Path(clip).stem[:60]}-{hashlib.sha256(clip.encode()).hexdigest()[:8]}.json"
        with contextlib.suppress(CmetError, OSError, ValueError, KeyError, TypeError):
            return cls._read(path)
        return cls(path, clip)

    @classmethod
    def _read(cls, path: Path) -> "Project":
        document = read_json(path)
        if document["format"] != FORMAT:
            raise InvalidInput(f"{path.name} is not a project of the studio.")
        keys, corrections = _checked(document["timeline"]["keys"], document["corrections"])
        settings = {name: document["settings"].get(name, value) for name, value in SETTINGS.items()}
        people, renders = document["people"], document["renders"]
        reference, name = document.get("reference", ""), document.get("reference_name", "")
        notes, face = document.get("reference_notes", []), document["face"]
        return cls(path, document["clip"], face, people, keys, corrections, reference, name, notes, settings, renders)

    def save(self) -> None:
        """Write the project's file, whole or not at all."""
        document = {
            "format": FORMAT, "clip": self.clip, "face": self.face, "people": self.people, "settings": self.settings, "renders": self.renders,
            "timeline": json.loads(EmotionTimeline(list(self.keys)).to_json()), "corrections": self.corrections, "reference": self.reference, "reference_name": self.reference_name, "reference_notes": self.reference_notes,
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path, force=True) as temporary:
            temporary.write_text(json.dumps(document, indent=1), "utf-8")

    def change(self, keys: list[dict[str, Any]], corrections: list[str]) -> None:
        """Another timeline, which can be undone.

        Raises:
            InvalidInput: a key or a correction is wrong; everything stays as it was.
        """
        step = _checked(keys, corrections)
        if step != (self.keys, self.corrections):
            self.done = [*self.done, (self.keys, self.corrections)][-STEPS:]
            self.undone = []
            self.keys, self.corrections = step
            self.save()

    @property
    def person(self) -> str | None:
        """Whom new keys and corrections are for: nobody by name where only one is there."""
        if len(self.people) < 2:
            return None
        return self.face.removeprefix("#") if isinstance(self.face, str) else called(self.people[0])

    def choose(self, face: str) -> None:
        """Another person, whose edit is seen; what was for the one before stays theirs."""
        if (before := self.person) is not None:
            self.keys = tuple(key if key.person else replace(key, person=before) for key in self.keys)
            points = [Correction.parse(text) for text in self.corrections]
            self.corrections = tuple(str(p if p.person else replace(p, person=before)) for p in points)
        self.face = face
        self.save()

    def undo(self) -> bool:
        """Take the last change back; whether there was one."""
        return self._step(self.done, self.undone)

    def redo(self) -> bool:
        """Make the change again that was taken back last; whether there was one."""
        return self._step(self.undone, self.done)

    def _step(self, taken: list[Step], put: list[Step]) -> bool:
        if not taken:
            return False
        put.append((self.keys, self.corrections))
        self.keys, self.corrections = taken.pop()
        self.save()
        return True

    def plain_keys(self) -> list[dict[str, Any]]:
        """The keys as plain values, as the page and the engine take them."""
        return [asdict(key) for key in self.keys]

    def edit(self) -> dict[str, Any]:
        """What is asked of the engine: the fields that requests about this edit have in common."""
        edit = {
            "clip": self.clip, "face": self.face, "keys": self.plain_keys(), "corrections": list(self.corrections),
            "mode": self.settings["mode"],
        }  # fmt: skip
        return {**edit, "like": self.reference} if LIKE in EmotionTimeline(list(self.keys)).names() else edit

    def alone(self) -> dict[str, Any]:
        """`edit` of the chosen person alone, whom its keys and corrections do not name."""
        keys = [asdict(replace(key, person=None)) for key in self.keys if key.person in (None, self.person)]
        points = [Correction.parse(text) for text in self.corrections]
        mine = [str(replace(point, person=None)) for point in points if point.person in (None, self.person)]
        return {**self.edit(), "keys": keys, "corrections": mine}

    def readable(self, message: str) -> str:
        """A sentence of the engine, with the name that the user knows in place of that of the file that was sent."""
        return message.replace(Path(self.reference).name, self.reference_name) if self.reference_name else message


def called(row: dict[str, Any]) -> str:
    """What a person is called in keys."""
    return str(row["name"] or row["id"])


def recent(folder: Path, most: int = 8) -> list[str]:
    """The clips worked on last that are still there, newest first."""
    clips = []
    for path in sorted(folder.glob("[!.]*.json"), key=lambda path: -path.stat().st_mtime)[: 4 * most]:
        with contextlib.suppress(CmetError, KeyError, TypeError):
            clips.append(str(read_json(path)["clip"]))
    return [clip for clip in clips if Path(clip).exists()][:most]


def _checked(keys: list[dict[str, Any]], corrections: list[str]) -> Step:
    for text in corrections:
        Correction.parse(text)
    return tuple(EmotionKey(**key) for key in keys), tuple(corrections)
