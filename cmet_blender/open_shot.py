"""Run by Blender itself: `blender --python open_shot.py -- SHOT.json` opens a shot of the studio; see `shot`.

The add-on does it where that is switched on; else this folder's package does, whose panels are there for as long as this Blender runs.
What became of it is written beside the shot, as SHOT.answer.json: `done` or `error`, a sentence.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import bpy

PACKAGE, ENGINE = "cmet_blender", "cmet_engine"


def shot_module() -> Any:
    """The module `shot` of the add-on that is switched on, else of the package that this file is in."""
    for name in bpy.context.preferences.addons.keys():  # noqa: SIM118 - a collection of Blender's, which yields its items
        if name.rpartition(".")[2] == PACKAGE and importlib.util.find_spec(f"{name}.shot"):
            return importlib.import_module(f"{name}.shot")
    here = Path(__file__).resolve().parents[1]
    for name in (ENGINE, PACKAGE):
        if name not in sys.modules:
            start = here / name / "__init__.py"
            spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(start.parent)])
            assert spec and spec.loader
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    if not hasattr(bpy.types.Scene, "cmet"):
        importlib.import_module(PACKAGE).register()
    return importlib.import_module(f"{PACKAGE}.shot")


def main(shot: Path) -> None:
    """Open a shot and say what became of it."""
    try:
        module = shot_module()
        made = module.open_shot(shot)
        strips = f"{len(made['strips'])} strip{'' if len(made['strips']) == 1 else 's'}"
        answer = {"done": " ".join([f"The shot is open in Blender: {strips} on '{made['object']}'.", *made["notes"]])}
    except Exception as error:
        answer = {"error": str(error) if type(error).__module__.endswith("errors") else f"Blender: {error!r}"}
    else:
        if not bpy.app.background:
            bpy.app.timers.register(
                lambda: module.show(bpy.data.objects[made["object"]]), first_interval=module.DRAWN_SECONDS
            )
    print(*answer.values())
    written = shot.with_suffix(".answer.tmp")
    written.write_text(json.dumps(answer), "utf-8")
    written.replace(shot.with_suffix(".answer.json"))


if __name__ == "__main__" and "--" in sys.argv:
    main(Path(sys.argv[sys.argv.index("--") + 1]))
