"""Many clips: a manifest, worker processes or a Ray cluster, and one line of result for every row.

The manifest is a CSV file with a header, or JSON lines, with these columns (only `clip` is needed):

    kind       edit (default), track, render, export or apply
    clip       the footage; for `export` and `apply` the track
    output     edit: a folder; otherwise a file. Default: beside the clip, named after it
    emotions   keys in text form, separated by semicolons: happy@0-2.5; sarcastic=0.6@2.5-
    keys       an emotion timeline (.json)
    speech     a recording that sounds like the wanted emotion, or a folder of them
    neutral    the same voice without the emotion
    strength   multiplies all strengths (1)
    mode       add (default) or replace
    renderer   warp (default), edtalk or none
    quality    of warp: auto (default), draft, standard or best
    face       which face, 0 the largest (0)
    track      render: the wanted curves
    source     render: the clip's own curves
    rig        export, apply: the character. `export` writes .fbx .glb .usdc .abc .blend (without a rig .csv .json .npz),
               `apply` a .blend with the keys on the character

Paths are relative to the manifest's folder. A row that takes what another row writes (`take-edited/edited.npz` of an edit) waits
for it. A row that is wrong fails alone. Rows that put tracks on characters run in a process of their own with `bpy`.

With `--ray`, manifest, inputs and outputs must lie on storage that every machine of the cluster sees under the same path,
and every machine needs this package (with `bpy` for export and apply) and its models. A row asks Ray for one core and
2 GiB, and for a GPU only where it has use for one (to draw, unless the quality is draft) and the cluster has any.
"""

import csv
import hashlib
import io
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file

KINDS = ("edit", "track", "render", "export", "apply")
COLUMNS = (
    "kind",
    "clip",
    "output",
    "emotions",
    "keys",
    "speech",
    "neutral",
    "strength",
    "mode",
    "renderer",
    "quality",
    "face",
    "track",
    "source",
    "rig",
)
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
DEFAULT_OUTPUT = {
    "edit": "{stem}-edited",
    "track": "{stem}.npz",
    "render": "{stem}-edited.mp4",
    "export": "{stem}.fbx",
    "apply": "{stem}.blend",
}
INPUTS = ("clip", "keys", "speech", "neutral", "track", "source", "rig")


@dataclass
class Row:
    """One line of the manifest: its `number` (header is 1), its `identity` (a hash of what it asks) and `values`.

    A row that cannot be done as it stands has a `problem`, one sentence, and only the values it was given.
    """

    number: int
    identity: str
    values: dict[str, Any]
    problem: str | None = None

    @property
    def output(self) -> Path:
        """Where the result goes."""
        return Path(self.values["output"])


def read_manifest(path: Path) -> list[Row]:
    """The rows of a `.csv`, `.jsonl` or `.ndjson` manifest, checked; a wrong row says so in its `problem`.

    Raises:
        CmetError: the file is no manifest, its header is wrong, or it has no rows.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise CmetError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CmetError(f"{path.name} is not a text file in UTF-8.") from error
    entries: list[tuple[int, dict[str, Any]]] = []
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            unknown = sorted({name.strip() for name in reader.fieldnames or []} - {*COLUMNS, ""})
            if unknown:
                raise CmetError(f"{path.name}: {_unknown(unknown[0])}")
            for entry in reader:
                more = {"": None} if None in entry else {}
                values = {k.strip(): (v or "").strip() for k, v in entry.items() if k and k.strip()}
                entries.append((reader.line_num, {**values, **more}))
        except csv.Error as error:
            raise CmetError(f"{path.name} row {reader.line_num}: {error}.") from error
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    entry = None
                entries.append((number, entry if isinstance(entry, dict) else {"": line}))
    else:
        raise CmetError(f"{path.name}: a manifest is a .csv or .jsonl file.")
    if not entries:
        raise CmetError(f"{path.name} has no rows.")
    rows = [_checked(path, number, entry) for number, entry in entries]
    outputs: dict[Path, int] = {}
    for row in rows:
        if row.problem:
            continue
        if row.output in outputs:
            row.problem = f"It writes to the same output as row {outputs[row.output]}; give each row its own."
        outputs.setdefault(row.output, row.number)
    return rows


def _unknown(column: str) -> str:
    return f"The column '{column[:80]}' is unknown; the columns are {', '.join(COLUMNS)}."


def _checked(manifest: Path, number: int, entry: dict[str, Any]) -> Row:
    """One row with its defaults filled in, or with what is wrong with it."""
    try:
        values, problem = _values(manifest, entry), None
    except CmetError as error:
        values, problem = {"kind": str(entry.get("kind") or "edit"), "clip": str(entry.get("clip", ""))}, str(error)
    text = json.dumps(entry if problem else values, sort_keys=True)
    return Row(number, hashlib.sha256(text.encode()).hexdigest()[:24], values, problem)


def _values(manifest: Path, entry: dict[str, Any]) -> dict[str, Any]:
    if "" in entry:
        raise CmetError(
            "The row has more cells than the header has columns." if entry[""] is None else "The row is no JSON object."
        )
    unknown = sorted(set(entry) - set(COLUMNS))
    if unknown:
        raise CmetError(_unknown(unknown[0]))
    values: dict[str, Any] = {name: value for name, value in entry.items() if value not in ("", None)}
    kind = values.setdefault("kind", "edit")
    if kind not in KINDS:
        raise CmetError(f"The kind '{kind}' is not one of {', '.join(KINDS)}.")
    for name in {"edit": (), "track": (), "render": ("track",), "export": (), "apply": ("rig",)}[kind]:
        if name not in values:
            raise CmetError(f"The column '{name}' is empty; a row of kind {kind} needs it.")
    if "clip" not in values:
        raise CmetError("The column 'clip' is empty.")
    for name, convert in (("strength", float), ("face", int)):
        try:
            values[name] = convert(values.get(name, 1 if name == "strength" else 0))
            if not math.isfinite(values[name]) or (name == "face" and values[name] < 0):
                raise ValueError
        except (ValueError, TypeError, OverflowError) as error:
            raise CmetError(f"The column '{name}' is '{values[name]}', which is no number that it can take.") from error
    for name, allowed in (
        ("mode", ("add", "replace")),
        ("renderer", ("warp", "edtalk", "none")),
        ("quality", ("auto", "draft", "standard", "best")),
    ):
        if values.setdefault(name, allowed[0]) not in allowed:
            raise CmetError(f"The column '{name}' is '{values[name]}', not one of {', '.join(allowed)}.")
    for name in (*INPUTS, "output"):
        if name in values:
            if not isinstance(values[name], str) or "\0" in values[name]:
                raise CmetError(f"The column '{name}' is no path.")
            values[name] = os.path.normpath(manifest.parent.absolute() / values[name])
    clip = Path(values["clip"])
    values.setdefault("output", str(clip.parent / DEFAULT_OUTPUT[kind].format(stem=clip.stem)))
    emotions = values.get("emotions", [])
    keys = emotions.split(";") if isinstance(emotions, str) else emotions
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CmetError("The column 'emotions' is no text and no list of texts.")
    values["emotions"] = [key.strip() for key in keys if key.strip()]
    return values


def write_manifest(folder: Path, output: Path, *, emotions: str = "happy", force: bool = False) -> int:
    """Write a manifest with one edit for every clip below a folder; returns the number of rows.

    Raises:
        CmetError: the folder is missing or holds no clips, or the file cannot be written.
    """
    if not folder.is_dir():
        raise CmetError(f"{folder} is not a folder.")
    clips = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if not clips:
        raise CmetError(f"{folder} holds no video files.")
    with whole_file(output, force=force) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["kind", "clip", "output", "emotions", "strength"])
        writer.writeheader()
        for clip in clips:
            relative = os.path.relpath(clip, output.parent)
            writer.writerow(
                {
                    "kind": "edit",
                    "clip": relative,
                    "output": f"{relative.rsplit('.', 1)[0]}-edited",
                    "emotions": emotions,
                    "strength": 1,
                }
            )
    return len(clips)
