"""C-MET for Blender: coefficient tracks on rigs, emotions on the timeline, exports, and the edited video.

As an extension, `register` adds the panels and operators. As a module beside `bpy`, its functions work without a
window: `mapping.match`, `keyframes.apply_track`, `keyframes.read_track`, `emotion_strips.add`, `export.fbx` …
"""
