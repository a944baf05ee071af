"""Runs in a Blender of its own: installs the extension's zip into a throw-away profile, looks at its preferences and uses them.

    setup_session.py ZIP [WHEELS SCRIPT]

WHEELS is a folder that holds an engine; SCRIPT makes environments quickly. Prints one JSON object.
"""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy

zip_file, *more = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(filepath=zip_file, repo="user_default", enable_on_install=True)
package = "bl_ext.user_default.cmet_blender"
settings = bpy.context.preferences.addons[package].preferences
answer: dict = {"button": "setup_engine" in dir(bpy.ops.cmet)}


class Layout:
    """Stands for Blender's layout: keeps the texts and buttons of the preferences."""

    def __init__(self):
        self.texts, self.buttons, self.made = [], [], SimpleNamespace()

    def row(self, **options):
        return self

    column = box = row

    def prop(self, data, name, **options):
        assert name in data.bl_rna.properties

    def label(self, text="", **options):
        self.texts.append(text)

    def operator(self, name, text="", **options):
        self.buttons.append(text or name)
        return self.made


def shown():
    """What the preferences show."""
    layout = Layout()
    stand_in = SimpleNamespace(
        layout=layout, **{name: getattr(settings, name) for name in map(str, settings.bl_rna.properties.keys())}
    )
    stand_in.bl_rna = settings.bl_rna
    type(settings).draw(stand_in, SimpleNamespace(region=SimpleNamespace(width=2000)))
    return layout


def attempt(operator, **options):
    """An operator's result, or its complaint."""
    try:
        return sorted(operator(**options))
    except RuntimeError as error:
        return str(error).strip()


layout = shown()
answer |= {"texts": layout.texts, "link": getattr(layout.made, "url", "")}
if more:
    wheels, script = more
    importlib.import_module(f"{package}.setup.environment").VENV = ("-c", script)
    answer["online"] = bpy.app.online_access
    answer["refused"] = attempt(bpy.ops.cmet.setup_engine)
    settings.setup_source, settings.setup_wheels = "FOLDER", wheels
    settings.setup_folder = str(Path(wheels).parent / "engine")
    answer["set_up"] = attempt(bpy.ops.cmet.setup_engine)
    answer["python"] = settings.engine_python
    layout = shown()
    answer |= {"texts_after": layout.texts, "buttons_after": layout.buttons}
    answer["removed"] = attempt(bpy.ops.cmet.remove_engine)
    answer["python_after"] = settings.engine_python
    answer["removed_again"] = attempt(bpy.ops.cmet.remove_engine)
    bpy.ops.preferences.addon_disable(module=package)
print(json.dumps(answer))
