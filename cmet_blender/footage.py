"""A clip in the scene and in its sequencer, with sound; and the edited clip beside it."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy

from cmet_engine.errors import InvalidInput, NotFound

from .frames import scene_fps, set_rate

SOURCE, SOUND, EDITED = "C-MET source", "C-MET sound", "C-MET edited"
_RATES = tuple(Fraction(r) for r in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60"))


def rate_of(clip: Any) -> Fraction:
    """Frames a second of a movie clip: the usual rate that its single-precision figure stands for."""
    near = min(_RATES, key=lambda rate: abs(float(rate) - clip.fps))
    return near if abs(float(near) - clip.fps) < 0.002 else Fraction(clip.fps).limit_denominator(1001)


def load(
    scene: Any, path: str | Path, start_frame: int = 1, *, match_rate: bool = True, sound: bool = True
) -> dict[str, Any]:
    """Put a clip into a scene: as a movie clip, which `footage_view.show` shows, and into its sequencer, in sync.

    Args:
        scene: the scene.
        path: a video.
        start_frame: scene frame of the clip's first frame.
        match_rate: give the scene the clip's rate, length and picture size. Off: the sequencer's strip is retimed to the scene's
            rate; the background shows one picture a scene frame, so it is out of step, and a note says so.
        sound: add the clip's sound.

    Returns:
        `clip` (the movie clip), `fps`, `frames`, `size`, `has_sound`, and `notes` in plain words.

    Raises:
        NotFound: the file does not exist.
        InvalidInput: it is no video that Blender can read.
    """
    path = Path(bpy.path.abspath(str(path)))
    clip = _open(path)
    fps, frames = rate_of(clip), clip.frame_duration
    notes = []
    if match_rate:
        set_rate(scene, fps)
        scene.frame_start, scene.frame_end = start_frame, start_frame + frames - 1
        scene.render.resolution_x, scene.render.resolution_y = clip.size
        scene.render.resolution_percentage = 100
    elif fps != scene_fps(scene):
        notes.append(
            f"The clip runs at {float(fps):g} frames a second, the scene at {float(scene_fps(scene)):g}; the camera "
            "background is out of step, the sequencer is not."
        )
    clip.frame_start = start_frame
    has_sound = _into_sequencer(scene, path, start_frame, frames / float(fps), sound)
    return {
        "clip": clip,
        "fps": fps,
        "frames": frames,
        "size": tuple(clip.size),
        "has_sound": has_sound,
        "notes": notes,
    }


def _open(path: Path) -> Any:
    """The movie clip of a file.

    Raises:
        NotFound: the file does not exist.
        InvalidInput: it is no video that Blender can read.
    """
    if not path.is_file():
        raise NotFound(f"The clip {path} does not exist.")
    try:
        clip = bpy.data.movieclips.load(str(path), check_existing=True)
    except RuntimeError as error:
        raise InvalidInput(f"{path.name} cannot be read as a video: {str(error).strip()}") from error
    if clip.frame_duration < 1 or clip.size[0] == 0:
        bpy.data.movieclips.remove(clip)
        raise InvalidInput(f"{path.name} is not a video that Blender can read.")
    return clip


def _into_sequencer(scene: Any, path: Path, start_frame: int, seconds: float, sound: bool) -> bool:
    """Put a clip into the sequencer in place of an earlier one; returns whether it has sound there."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    for name in (SOURCE, SOUND):
        _remove(editor, _named(scene, name))
    movie = _strips(editor).new_movie(
        name=SOURCE, filepath=str(path), channel=_channel(editor, 2), frame_start=start_frame
    )
    movie.name = SOURCE
    retime(editor, movie, seconds * float(scene_fps(scene)))
    audio = None
    if sound:
        with contextlib.suppress(RuntimeError):  # no sound in the file
            audio = _strips(editor).new_sound(
                name=SOUND, filepath=str(path), channel=_channel(editor, 1), frame_start=start_frame
            )
        if audio is not None and audio.sound.channels == "INVALID":
            _strips(editor).remove(audio)
            audio = None
        if audio is not None:
            audio.name = SOUND
    scene.sync_mode = "FRAME_DROP" if audio is None else "AUDIO_SYNC"
    workspace = getattr(bpy.context, "workspace", None)
    if workspace is not None and hasattr(workspace, "sequencer_scene"):
        workspace.sequencer_scene = scene
    return audio is not None


def _strips(editor: Any) -> Any:
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def _channel(editor: Any, wanted: int) -> int:
    """`wanted`, or the first channel above everything if it is taken."""
    used = {strip.channel for strip in _strips(editor)}
    return wanted if wanted not in used else max(used) + 1


def retime(editor: Any, strip: Any, length: float) -> Any | None:
    """Play a movie strip over `length` scene frames, by a speed effect above it; None where none is needed.

    (Retiming keys would be the newer way; adding one from a script crashes Blender 4.5 and 5.0.)
    """
    length = round(length)
    if length == strip.frame_final_duration:
        return None
    strip.frame_final_duration = length
    options = {"name": f"{strip.name} speed", "type": "SPEED", "channel": _channel(editor, strip.channel + 1), "frame_start": int(strip.frame_final_start), "input1": strip}  # fmt: skip
    known = _strips(editor).bl_rna.functions["new_effect"].parameters.keys()
    options |= {"length": length} if "length" in known else {"frame_end": options["frame_start"] + length}
    effect = _strips(editor).new_effect(**options)
    effect.speed_control = "STRETCH"
    return effect


def _with_effects(editor: Any, strip: Any) -> list[Any]:
    """Effects of a strip, then the strip: the order to remove them in."""
    return [s for s in _strips(editor) if getattr(s, "input_1", None) == strip] + [strip]


def source(scene: Any) -> Any | None:
    """The sequencer's strip of the source clip."""
    return _named(scene, SOURCE)


def edited(scene: Any) -> Any | None:
    """The sequencer's strip of the edited clip."""
    return _named(scene, EDITED)


def shown_file(scene: Any) -> Path:
    """The file of the sequencer's active strip; where that is none of a picture, of the edited clip.

    Raises:
        NotFound: there is neither.
    """
    active = scene.sequence_editor.active_strip if scene.sequence_editor else None
    for strip in (active, edited(scene)):
        if strip is not None and strip.type == "MOVIE":
            return Path(bpy.path.abspath(strip.filepath)).resolve()
        if strip is not None and strip.type == "IMAGE":
            return Path(bpy.path.abspath(strip.directory), strip.elements[0].filename).resolve()
    raise NotFound("No strip of a video or of pictures is active in the sequencer, and there is no edited clip yet.")


def _named(scene: Any, name: str) -> Any | None:
    editor = scene.sequence_editor
    return next((s for s in _strips(editor) if s.name == name), None) if editor is not None else None


def _remove(editor: Any, strip: Any | None) -> None:
    if strip is not None:
        for name in [part.name for part in _with_effects(editor, strip)]:
            _strips(editor).remove(_strips(editor)[name])


def show_edited(scene: Any, path: str | Path | list[Path], start_frame: int = 1, begins: float = 0.0) -> Any:
    """Put the edited clip above the source in the sequencer; a newer one takes the place of an older.

    Args:
        scene: the scene.
        path: a video, or numbered pictures of one folder.
        start_frame: scene frame of the clip's first frame.
        begins: seconds of the clip at which the edited part of it begins.

    Raises:
        NotFound: the file does not exist.
        InvalidInput: it is no video that Blender can read.
    """
    first, *others = path if isinstance(path, list) else [Path(path)]
    if not first.is_file():
        raise NotFound(f"The edited video {first} does not exist.")
    editor = scene.sequence_editor or scene.sequence_editor_create()
    _remove(editor, edited(scene))
    frame = start_frame + round(begins * float(scene_fps(scene)))
    new = _strips(editor).new_image if isinstance(path, list) else _strips(editor).new_movie
    strip = new(name=EDITED, filepath=str(first), channel=_channel(editor, 3), frame_start=frame)
    for picture in others:
        strip.elements.append(picture.name)
    if strip.frame_final_duration < 1:
        _strips(editor).remove(strip)
        raise InvalidInput(f"{first.name} is not a video that Blender can read.")
    strip.name = EDITED
    beside = source(scene)
    if beside is not None:  # scene frames of each frame of the clip
        retime(editor, strip, strip.frame_duration * beside.frame_final_duration / beside.frame_duration)
    return strip


def compare(scene: Any) -> str:
    """Show the other of source and edited clip; returns which is seen now: `before` or `after`.

    Raises:
        NotFound: there is no edited clip yet.
    """
    strip = edited(scene)
    if strip is None:
        raise NotFound("There is no edited video in the sequencer yet; render one first.")
    muted = not strip.mute
    for part in _with_effects(scene.sequence_editor, strip):
        part.mute = muted
    return "before" if muted else "after"
