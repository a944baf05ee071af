"""Runs in a Blender of its own: installs the extension's zip into a throw-away profile and works with it.

    extension_session.py ZIP TRACK FOLDER [CLIP]

Prints one JSON object.
"""

import json
import sys
from pathlib import Path

import bpy
import numpy as np

zip_file, track_file, folder = sys.argv[1:4]
clip = sys.argv[4] if len(sys.argv) > 4 else ""
answer: dict = {}
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(filepath=zip_file, repo="user_default", enable_on_install=True)
package = "bl_ext.user_default.cmet_blender"
answer["enabled"] = package in bpy.context.preferences.addons

import cmet_engine  # noqa: E402 - only there once the extension's wheel is installed

answer["engine_from"] = cmet_engine.__file__
answer["torch"] = "torch" in sys.modules
scene = bpy.context.scene


def attempt(operator, **options):
    """An operator's result, or its complaint."""
    try:
        return sorted(operator(**options))
    except RuntimeError as error:
        return str(error).strip()


answer["without_rig"] = attempt(bpy.ops.cmet.bake)
mesh = bpy.data.meshes.new("Face")
mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [], [(0, 1, 2)])
face = bpy.data.objects.new("Face", mesh)
scene.collection.objects.link(face)
bpy.context.view_layer.objects.active = face
face.shape_key_add(name="Basis")
from cmet_engine import arkit  # noqa: E402

for name in arkit.NAMES:
    key = face.shape_key_add(name=name, from_mix=False)
    key.value = 0.0
    key.data[0].co.z += 0.1


settings = scene.cmet
answer["without_track"] = attempt(bpy.ops.cmet.apply_track)
settings.rig = face
answer["rows"] = len(settings.rows)
settings.track = track_file
scene.render.fps = 24
answer["apply"] = attempt(bpy.ops.cmet.apply_track)
first = face.data.shape_keys.animation_data.action.name
row = next(r for r in settings.rows if r.name == "jawOpen")
row.gain = 0.5
answer["apply_again"] = attempt(bpy.ops.cmet.apply_track)
answer["first_kept"] = first in bpy.data.actions and face.data.shape_keys.animation_data.action.name != first
scene.frame_set(10)
answer["jaw"] = face.data.shape_keys.key_blocks["jawOpen"].value
answer["smile"] = face.data.shape_keys.key_blocks["mouthSmileLeft"].value
row.channels = "cheekPuff=much"
answer["fault"] = row.fault
answer["apply_faulty"] = attempt(bpy.ops.cmet.apply_track)
row.channels = "jawOpen"
answer["kind"] = row.kind
edited = Path(folder) / "grin.npz"
from cmet_engine.track import CoefficientTrack  # noqa: E402

track = CoefficientTrack.load(track_file)
track.coefficients = track.coefficients + np.float32(0.1)
track.save(edited)
answer["strip"] = attempt(bpy.ops.cmet.add_emotion_file, filepath=str(edited))
answer["bake"] = attempt(bpy.ops.cmet.bake)
settings.export_path = str(Path(folder) / "face.fbx")
answer["export"] = attempt(bpy.ops.cmet.export)
answer["export_again"] = attempt(bpy.ops.cmet.export)
answer["exported"] = (Path(folder) / "face.fbx").stat().st_size
mapping_file = Path(folder) / "mapping.json"
answer["save_mapping"] = attempt(bpy.ops.cmet.save_mapping, filepath=str(mapping_file), check_existing=False)
row.gain = 3.0
answer["load_mapping"] = attempt(bpy.ops.cmet.load_mapping, filepath=str(mapping_file))
answer["gain_back"] = next(r for r in settings.rows if r.name == "jawOpen").gain
if clip:
    answer["footage"] = attempt(bpy.ops.cmet.load_footage, filepath=clip)
    answer["strips"] = sorted((s.name, s.type) for s in scene.sequence_editor.strips)
    answer["background"] = scene.camera.data.background_images[0].clip.filepath == clip
    answer["rate"] = [scene.render.fps, round(scene.render.fps_base, 4), scene.frame_end]
answer["no_video_yet"] = attempt(bpy.ops.cmet.compare)
bpy.data.objects.remove(face)
answer["deleted"] = attempt(bpy.ops.cmet.bake)
answer["user_folder"] = bpy.utils.extension_path_user(package)
answer["preferences"] = bpy.context.preferences.addons[package].preferences.port_first
bpy.ops.preferences.addon_disable(module=package)
answer["gone"] = not hasattr(bpy.types.Scene, "cmet")
print(json.dumps(answer))
