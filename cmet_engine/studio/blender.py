"""The open shot in Blender: its files in a folder of their own, and the user's Blender, or the package bpy, that opens them."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cmet_engine.client import HANDOVER
from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import read_json, whole_file
from cmet_engine.processes import group_options
from cmet_engine.studio.session import Session
from cmet_engine.timeline import EmotionKey

SCRIPT = Path(__file__).parents[2] / "cmet_blender" / "open_shot.py"
OPENING_SECONDS = 120.0  # for Blender to start and open the shot; a cold start from a slow disk takes half a minute
BLEND_SECONDS = 600.0
USUAL = ("/Applications/Blender.app/Contents/MacOS/Blender", "C:/Program Files/Blender Foundation/*/blender.exe")
"""Where installers put Blender."""


def find(given: Path | None) -> Path | None:
    """The user's Blender: the one that was named, else on the path, else where installers put it; None where there is none.

    Raises:
        InvalidInput: what was named is no program.
    """
    if given is not None:
        if not shutil.which(given):
            raise InvalidInput(f"{given} is not a program that can be run; name Blender's own with --blender.")
        return given
    if on_path := shutil.which("blender"):
        return Path(on_path)
    there = [path for pattern in USUAL for path in sorted(Path("/").glob(pattern.partition("/")[2]))]
    return there[-1] if there else None


def write_shot(session: Session, rig: str) -> Path:
    """Compute the tracks of the open clip's chosen person, one for each emotion, and keep them with the shot's file.

    Args:
        session: what is open.
        rig: a character's file; empty for the demo head.

    Returns:
        The shot's file, alone with its tracks in a folder that is named after the clip.

    Raises:
        CmetError: the character is missing, or the engine cannot compute a track.
    """
    project = session.opened()
    if rig:
        session.link.ask(lambda engine: engine.folder(Path(rig).parent))  # refuses what the studio may not use
        if not Path(rig).is_file():
            raise InvalidInput(f"The character {rig} does not exist; give the path of its file.")
    folder = session.folder.parent / "shots" / project.path.stem
    folder.mkdir(parents=True, exist_ok=True)
    alone, made = project.alone(), dict[str, dict[str, str]]()

    def tracks(fields: dict[str, Any]) -> dict[str, str]:
        name = json.dumps(fields, sort_keys=True)
        if name not in made:
            job = session.wait(session.link.ask(lambda engine: engine.edit(**fields, renderer="none")))
            made[name] = _kept(job["files"], folder, len(made))
        return made[name]

    layers = [{"key": key, **tracks({**alone, "keys": [_whole(key)], "corrections": []})} for key in alone["keys"]]
    if alone["corrections"]:  # what they change of all emotions together
        corrected = tracks(alone)
        below = tracks({**alone, "corrections": []})["edited"] if layers else corrected["source"]
        layers.append({"key": None, **corrected, "below": below})
    source = layers[0]["source"] if layers else _source(session, folder)
    shot = folder / "shot.json"
    document = {
        "format": HANDOVER, "clip": project.clip, "rig": rig, "source": source, "mode": alone["mode"],
        "layers": layers,
    }  # fmt: skip
    with whole_file(shot, force=True) as temporary:
        temporary.write_text(json.dumps(document, indent=1), "utf-8")
    return shot


def _whole(key: dict[str, Any]) -> dict[str, Any]:
    """The emotion of a key at strength 1 over the whole clip; the strip's influence does the rest."""
    return asdict(replace(EmotionKey(**key), strength=1.0, start=0.0, end=None, strength_keys=(), heard={}))


def _kept(files: dict[str, str], folder: Path, number: int) -> dict[str, str]:
    """Copy the tracks of a finished edit into a folder; their names there."""
    names = {"source": "source.npz", "edited": f"edited_{number + 1}.npz"}
    for name, kept in names.items():
        _copy(files[f"{name}.npz"], folder / kept)
    return names


def _copy(file: str, to: Path) -> None:
    with whole_file(to, force=True) as temporary:
        shutil.copyfile(file, temporary)


def _source(session: Session, folder: Path) -> str:
    """Keep the clip's own track in a folder, where nothing is edited."""
    job = session.wait(session.link.ask(lambda engine: engine.track(session.opened().clip, face=session.opened().face)))
    _copy(job["files"]["track.npz"], folder / "source.npz")
    return "source.npz"


def open_shot(program: Path, shot: Path) -> str:
    """Open a shot in Blender's window; returns what Blender says of it, a sentence.

    Raises:
        CmetError: Blender ends at once, or cannot open the shot.
    """
    answer, log = shot.with_suffix(".answer.json"), shot.with_suffix(".log")
    answer.unlink(missing_ok=True)
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )  # the panels find this engine
    with log.open("wb") as said:
        process = subprocess.Popen(
            [str(program), "--python", str(SCRIPT), "--", str(shot)],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, "PATH": path}, **group_options(),
        )  # fmt: skip
    until = time.monotonic() + OPENING_SECONDS
    while time.monotonic() < until and not answer.exists():
        if process.poll() is not None and not answer.exists():
            lines = log.read_text("utf-8", "replace").strip().splitlines() or ["it says nothing"]
            raise CmetError(f"Blender ended before the shot was open: {lines[-1]}")
        time.sleep(0.1)
    if not answer.exists():
        return "Blender was started; it takes its time to open the shot."
    told = read_json(answer)
    if "error" in told:
        raise CmetError(str(told["error"]))
    return str(told["done"])


def write_blend(shot: Path) -> Path:
    """The shot as a .blend, by the package bpy, where there is no Blender.

    Raises:
        MissingWeights: that package is missing, too; the message says what can be done.
        CmetError: the shot cannot be opened.
    """
    blend = shot.with_suffix(".blend")
    command = [sys.executable, "-m", "cmet_blender", "shot", str(shot), "--output", str(blend), "--force", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BLEND_SECONDS)
    if finished.returncode:
        sentence = (finished.stderr.strip().splitlines() or ["Blender ended without a message."])[-1].removeprefix(
            "cmet: "
        )
        if "Blender as a module is missing" in sentence:
            raise MissingWeights(
                "No Blender was found. Name its program with cmet studio --blender PROGRAM, or open the shot yourself: "
                f'blender --python "{SCRIPT}" -- "{shot}"'
            )
        raise CmetError(sentence)
    return blend
