"""Manifests of many clips: read into checked rows, or written for a folder of clips. `columns` describes the format."""

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmet_engine.choices import PORTRAITS
from cmet_engine.errors import CmetError, InvalidInput
from cmet_engine.files import identities, is_hidden, whole_file
from cmet_engine.jobs.columns import COLUMNS, KINDS
from cmet_engine.media.formats import VIDEO
from cmet_engine.media.output import files_written
from cmet_engine.spec import KINDS as SPECS
from cmet_engine.spec import RenderRigSpec, RenderSpec, TrackSpec, Work
from cmet_engine.spec_rig import ExportSpec, RigSpec

DEFAULT_OUTPUT = {
    "edit": "{stem}-edited",
    "hear": "{stem}.timeline.json",
    "export": "{stem}.fbx",
    "apply": "{stem}.blend",
    "bake": "{stem}-baked.fbx",
    "read": "{stem}.npz",
    "match": "{stem}.mapping.json",
    "render_rig": "{stem}-edited.mp4",
}
LISTS = {"emotions": ";", "corrections": ";", "frames": None}
"""Columns that hold a list, and what separates its entries in a CSV file (None: blanks)."""


@dataclass
class Row:
    """One line of a manifest.

    Attributes:
        number: of the line; a CSV file's header is 1.
        identity: a hash of what is asked; of a row with a problem also of its number.
        kind: of the work, as far as it is known.
        clip: what is worked on, to show.
        spec: what to do; None for a row that cannot be done as it stands.
        output: where the result goes; empty where `spec` is None.
        problem: why it cannot be done as it stands, one sentence.
    """

    number: int
    identity: str
    kind: str
    clip: str
    spec: Work | None = None
    output: Path = Path()
    problem: str | None = None

    @property
    def place(self) -> Path:
        """The file or folder that holds the result: of numbered pictures their folder."""
        return self.output.parent if "%" in self.output.name else self.output

    def fail(self, problem: str) -> None:
        """Give the row a problem. It is told from a row that asks for the same from then on, so that each has its own result."""
        self.problem, self.identity = problem, _hash([self.identity, self.number])

    def task(self, force: bool) -> dict[str, Any]:
        """What a worker is asked to do."""
        assert self.spec is not None
        spec = {"kind": self.spec.kind, **self.spec.model_dump(mode="json", exclude_unset=True)}
        return {"spec": spec, "output": str(self.output), "force": force}


def read_manifest(path: Path) -> list[Row]:
    """The rows of a `.csv`, `.jsonl` or `.ndjson` manifest, checked; a wrong row says so in its `problem`.

    Raises:
        InvalidInput: the file is no manifest, its header is wrong, or it has no rows.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is not a text file in UTF-8.") from error
    if path.suffix.lower() == ".csv":
        entries = list(_csv_entries(path.name, text))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        entries = list(_json_entries(text))
    else:
        raise InvalidInput(f"{path.name}: a manifest is a .csv or .jsonl file.")
    if not entries:
        raise InvalidInput(f"{path.name} has no rows.")
    rows = [_row(path.parent.absolute(), number, entry) for number, entry in entries]
    outputs: dict[object, int] = {}
    own = set().union(*(identities(file) for file in (path, results_of(path), lock_of(path))))
    for row in rows:
        if row.spec is None or row.problem:
            continue
        marks = set().union(*(identities(file) for file in (row.place, *files_written(row.spec, row.output))))
        if marks & own:
            row.fail(f"Its output {row.output} is the manifest itself or belongs to it; give it another name.")
        elif others := [outputs[mark] for mark in marks if mark in outputs]:
            row.fail(f"It writes to the same output as row {min(others)}; give each row its own.")
        else:
            outputs |= dict.fromkeys(marks, row.number)
    return rows


def results_of(manifest: Path) -> Path:
    """The file of results of a manifest, with one line per row."""
    return manifest.with_name(manifest.stem + ".results.jsonl")


def lock_of(manifest: Path) -> Path:
    """The file that is there while a manifest is run."""
    return results_of(manifest).with_suffix(".lock")


def _csv_entries(name: str, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Numbers of lines, and their values by column; or what is wrong with a line."""
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        unknown = sorted({column.strip() for column in reader.fieldnames or []} - {*COLUMNS, ""})
        if unknown:
            raise InvalidInput(f"{name}: {_unknown(unknown[0])}")
        for entry in reader:
            if None in entry:
                yield reader.line_num, "The row has more cells than the header has columns."
                continue
            values: dict[str, Any] = {k.strip(): (v or "").strip() for k, v in entry.items() if k and k.strip()}
            for column, separator in LISTS.items():
                if values.get(column):
                    values[column] = [part.strip() for part in values[column].split(separator) if part.strip()]
            yield reader.line_num, values
    except csv.Error as error:
        raise InvalidInput(f"{name} row {reader.line_num}: {error}.") from error


def _json_entries(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Numbers of lines, and their values by column; or what is wrong with a line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            yield number, "The row is no JSON object."
            continue
        for name in ("emotions", "corrections"):
            if isinstance(entry.get(name), str):
                entry[name] = [part.strip() for part in entry[name].split(LISTS[name]) if part.strip()]
        yield number, entry


def _called(name: str) -> str:
    return f"The column '{name}'"


def _unknown(column: str) -> str:
    return f"{_called(column[:80])} is unknown; the columns are {', '.join(COLUMNS)}."


def _row(folder: Path, number: int, entry: dict[str, Any] | str) -> Row:
    """One row with what it asks for, or with what is wrong with it."""
    if isinstance(entry, str):
        return Row(number, _hash([number, entry]), "edit", "", problem=entry)
    try:
        spec, output = _work(folder, entry)
    except CmetError as error:
        kind, clip = str(entry.get("kind") or "edit"), str(entry.get("clip", ""))
        return Row(number, _hash([number, entry]), kind, clip, problem=str(error))
    identity = _hash([spec.kind, spec.model_dump(mode="json", exclude_defaults=True), str(output)])
    return Row(number, identity, spec.kind, str(main_input(spec)), spec, output)


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def _work(folder: Path, entry: dict[str, Any]) -> tuple[Work, Path]:
    """What a row asks for, its paths made absolute, and where its result goes."""
    unknown = sorted(set(entry) - set(COLUMNS))
    if unknown:
        raise InvalidInput(_unknown(unknown[0]))
    values = {name: value for name, value in entry.items() if value not in ("", None)}
    kind = values.pop("kind", "edit")
    if kind not in KINDS:
        raise InvalidInput(f"{_called('kind')} is '{str(kind)[:80]}', not one of {', '.join(KINDS)}.")
    if kind in ("export", "apply") and "clip" in values:
        values.setdefault("track", values["clip"])
    given = values.pop("output", None)
    if given is not None and (not isinstance(given, str) or "\0" in given):
        raise InvalidInput(f"{_called('output')} is not a path.")
    fields = SPECS[kind].model_fields
    spec = SPECS[kind].read({name: value for name, value in values.items() if name in fields}, _called)
    spec = spec.with_inputs(lambda _, path: Path(os.path.normpath(folder / path)))
    return spec, default_output(spec) if given is None else Path(os.path.normpath(folder / given))


def main_input(spec: Work) -> Path:
    """The file that some work is about."""
    paths = dict(reversed(list(spec.input_paths())))
    return next(paths[name] for name in ("clip", "track", "rig", "paths") if name in paths)


def default_output(spec: Work) -> Path:
    """Where the result of a row goes when it does not say: beside the clip, named after it."""
    about = main_input(spec)
    if isinstance(spec, TrackSpec):
        name = f"{about.stem}.{spec.format}"
    elif isinstance(spec, RenderSpec):
        numbered = spec.output_name.startswith("frames/")
        name = f"{about.stem}-edited" + (f"/%06d.{spec.format}" if numbered else f".{spec.format}")
    elif isinstance(spec, ExportSpec) and (spec.format or spec.take_format):
        name = f"{about.stem}{Path(spec.output_name).suffix}"
    else:
        name = DEFAULT_OUTPUT[spec.kind].format(stem=about.stem)
    return about.parent / name


def uses_gpu(spec: Work | None) -> bool:
    """Whether a row has use for a GPU: to draw faces anew or to refine (`auto` does where there is one)."""
    if isinstance(spec, RigSpec):
        return isinstance(spec, RenderRigSpec)
    renderer, quality = getattr(spec, "renderer", "none"), getattr(spec, "quality", "draft")
    return renderer in ("edtalk", *PORTRAITS) or (renderer == "warp" and quality != "draft")


def write_manifest(
    folder: Path, output: Path, *, emotions: str = "happy", force: bool = False, notes: list[str] | None = None
) -> int:
    """Write a manifest with one edit for every clip below a folder; returns the number of rows.

    Hidden files and the results of edits are passed over; `notes` takes a sentence about other files.

    Raises:
        CmetError: the folder is missing or holds no clips, or the file cannot be written.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder.")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not is_hidden(p, folder) and not _is_result(p))
    clips = [path for path in files if path.suffix.lower() in VIDEO]
    others = [path for path in files if path not in set(clips) and path.stem.split(".")[0] != output.stem]
    if not clips:
        raise InvalidInput(f"{folder} holds no video files.")
    if others and notes is not None:
        kinds = ", ".join(sorted({path.suffix.lower() or "no suffix" for path in others}))
        notes.append(f"Files that are no clips by their names were left out: {len(others)} ({kinds}).")
    taken: set[str] = set()
    with whole_file(output, force=force) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "clip", "output", "emotions", "strength"])
        for clip in clips:
            relative = os.path.relpath(clip, output.parent)
            writer.writerow(["edit", relative, _new_output(relative, taken), emotions, 1])
    return len(clips)


def _is_result(path: Path) -> bool:
    """Whether a file lies in the results of an edit."""
    return any((folder / "edited.npz").is_file() and (folder / "report.json").is_file() for folder in path.parents[:2])


def _new_output(clip: str, taken: set[str]) -> str:
    """A folder for the edit of a clip, beside it and not in `taken`, to which it is added; letters' case makes no difference."""
    suffix = Path(clip).suffix
    stem = clip.removesuffix(suffix)
    names = itertools.chain([stem, f"{stem}-{suffix[1:].lower()}"], (f"{stem}-{n}" for n in itertools.count(2)))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return f"{name}-edited"
