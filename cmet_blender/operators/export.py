"""The rig with its animation as a file."""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty
from bpy_extras.io_utils import ExportHelper

from cmet_engine.errors import InvalidInput
from cmet_engine.files import inputs_kept
from cmet_engine.take_formats import FORMATS

from .. import export, performers, sealing, session
from .base import SimpleOperator, chosen, files_read, mapping_of


def _path(context: Any) -> Path:
    """The file that Export writes; where none is named, one of the rig's name beside the scene."""
    name = context.scene.cmet.export_path.strip()
    if name:
        return Path(bpy.path.abspath(name))
    one = performers.current(context.scene.cmet)
    folder = Path(bpy.data.filepath).parent if bpy.data.filepath else session.results_folder()
    return folder / f"{bpy.path.clean_name(one.rig.name) if one.rig is not None else 'character'}.fbx"


class CMET_OT_export(SimpleOperator, bpy.types.Operator):
    """Write the rig with its animation, or its animation as a take; the suffix chooses the format"""

    bl_idname = "cmet.export"
    panel = "export"
    bl_label = "Export"

    replace: BoolProperty(
        name="Replace", description="Replace a file that is there", default=False, options={"SKIP_SAVE"}
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        path = _path(context)
        if path.exists() and not bpy.app.background:
            self.replace = True
            return context.window_manager.invoke_confirm(
                self, event, title="Replace File?", message=f"{path.name} exists already."
            )
        return self.execute(context)

    def work(self, context: Any) -> str:
        settings = context.scene.cmet
        if settings.export_path.startswith("//") and not bpy.data.filepath:
            raise InvalidInput(
                "The file's path is relative to the .blend, which is not saved yet; save it, or choose an absolute path."
            )
        path = _path(context)
        preset = None if settings.preset == "none" else settings.preset
        one = chosen(context)
        with inputs_kept(files_read(settings)):
            export.write(one.rig, path, preset=preset, mapping=mapping_of(one), force=self.replace)
        signing = sealing.signed(one.rig, path, settings.consent.strip(), one.track, replaced=self.replace)
        return " ".join([f"Written: {path}.", *export.sampling_notes(one.rig, path), *signing])


class CMET_OT_export_take(SimpleOperator, bpy.types.Operator, ExportHelper):
    """Write what the face does as a take, as another application records it"""

    bl_idname = "cmet.export_take"
    panel = "export"
    bl_label = "Export Face Take"

    filename_ext = ""
    form: EnumProperty(
        name="For",
        items=[(name, one.title, f"{one.suffix}. {one.leaves_out}") for name, one in FORMATS.items()],
        description="Application whose file is written",
    )

    def check(self, context: Any) -> bool:
        """The suffix follows the format."""
        path = self._path()
        changed = bool(path != self.filepath)  # type: ignore[has-type]
        self.filepath = path
        return changed

    def _path(self) -> str:
        path = Path(self.filepath)
        return str(path.with_suffix(FORMATS[self.form].suffix)) if path.name else self.filepath

    def work(self, context: Any) -> str:
        one, path = chosen(context), Path(bpy.path.abspath(self._path()))
        with inputs_kept(files_read(context.scene.cmet)):
            export.track(one.rig, path, mapping=mapping_of(one), form=self.form, force=True)
        return " ".join(filter(None, [f"Written: {path}.", FORMATS[self.form].leaves_out]))
