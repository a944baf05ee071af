"""Conventions: how one kind of character names its shapes or bones; read from `rigs/*.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cmet_engine import arkit
from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.files import read_json

from .rows import CONVENTION, Rotation, Row, parse_rotation

FORMAT = "cmet-rig/1"


@dataclass(frozen=True)
class Convention:
    """How one kind of character names its shapes or bones; see `rigs/*.json`.

    `shapes` holds alternatives by coefficient: the first that a rig has is used. Where it is `approximate`, its shapes are whole
    mouths and brows; they drive rigs of this kind, and do not fill gaps of others.
    """

    name: str
    shapes: dict[str, tuple[dict[str, float], ...]]
    bones: dict[str, dict[str, float]]
    rotations: dict[str, dict[str, Any]]
    unit: tuple[str, str] | None
    approximate: bool = False

    def rows(self) -> dict[str, Row]:
        """A row for each coefficient that the convention names."""
        return {
            n: Row(n, w, CONVENTION, 1.0)
            for n, w in {**self.bones, **{k: v[0] for k, v in self.shapes.items()}}.items()
        }

    def first_rotations(self) -> dict[str, Rotation]:
        """Rotations of the head and the eyes, each on the first bone that the convention names for it."""
        return {
            key: parse_rotation(key, {**entry, "target": entry["bones"][0]}) for key, entry in self.rotations.items()
        }


def rigs_folder() -> Path:
    """The folder of mapping files: inside the installed add-on, or beside the package in the project.

    Raises:
        NotFound: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "rigs", package.parent / "rigs"):
        if (folder / "arkit.json").is_file():
            return folder
    raise NotFound(f"The folder of rig mappings is missing beside {package}; install the add-on again.")


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a convention or of a saved mapping.

    Raises:
        NotFound: the file does not exist.
        InvalidInput: it cannot be read, or is not of this format.
    """
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput(f'{path.name}: not a rig mapping; it needs "format": "{FORMAT}".')
    return document


def read_convention(path: Path) -> Convention:
    """A convention from its file.

    Raises:
        CmetError: see `read_document`; or a coefficient does not exist.
    """
    document = read_document(path)
    unit = document.get("unit")
    for part in ("shapes", "bones"):
        for name in document.get(part, {}):
            if name not in arkit.INDEX:
                raise InvalidInput(f"'{name}' in '{part}' is not one of the 52 ARKit coefficients.")
    return Convention(
        str(document.get("name", path.stem)),
        {
            name: tuple(entry) if isinstance(entry, list) else (entry,)
            for name, entry in document.get("shapes", {}).items()
        },
        document.get("bones", {}),
        document.get("rotations", {}),
        tuple(unit) if unit else None,
        bool(document.get("approximate", False)),
    )


@lru_cache(maxsize=1)
def conventions() -> tuple[Convention, ...]:
    """Every convention of `rigs/`, plain ARKit first."""
    files = sorted(rigs_folder().glob("*.json"), key=lambda p: (p.stem != "arkit", p.stem))
    return tuple(read_convention(path) for path in files if "rows" not in read_document(path))


def bone_convention(bones: Iterable[str]) -> Convention | None:
    """The convention whose face bones are here: at least half of them."""
    have = set(bones)
    for convention in conventions():
        wanted = {c.rpartition("/")[0] for weights in convention.bones.values() for c in weights}
        if wanted and len(wanted & have) >= 0.5 * len(wanted):
            return convention
    return None


def find_rotations(bones: Iterable[str], label: str) -> dict[str, Rotation]:
    """Bones that turn with the head and the eyes, by the names of the convention `label` first, then of all others."""
    have = {b.lower(): b for b in bones}
    result: dict[str, Rotation] = {}
    for convention in sorted(conventions(), key=lambda c: c.name != label):
        for key, entry in convention.rotations.items():
            found = next((have[b.lower()] for b in entry["bones"] if b.lower() in have), None)
            if key not in result and found:
                result[key] = parse_rotation(key, {**entry, "target": found})
    return result
