"""The columns of a batch manifest; standard library only, so that `cmet batch --help` can show them at once."""

KINDS = ("edit", "track", "render", "hear", "export", "apply", "bake", "read", "match", "render_rig")
"""Kinds of rows; see `cmet_engine.spec.KINDS`."""

COLUMNS = {
    "kind": f"{KINDS[0]} (default), {', '.join(KINDS[1:-1])} or {KINDS[-1]}",
    "clip": "the footage, or for edit a take (.csv .txt .json .npz), for hear also a recording; for export and apply the track",
    "output": "edit: a folder; otherwise a file. Default: beside the clip, named after it",
    "emotions": "keys in text form, separated by semicolons: happy@0-2.5; sarcastic=0.6@2.5-; angry[brows=1.2]#2; auto for what is heard",
    "keys": "an emotion timeline (.json)",
    "corrections": "points that edited curves pass through, separated by semicolons: jawOpen=0.2@1.4; mouthSmileLeft=0.5@3~0.4#anna",
    "speech": "a recording that sounds like the wanted emotion, or a folder of them",
    "follow": "follow the recording moment by moment (no)",
    "like": "a picture of a face, a clip or a take, whose expression is put on",
    "bearing": "edit without a video: head, gaze and blinks go with the emotions, too (no)",
    "neutral": "edit, hear: the same voice without the emotion",
    "strength": "multiplies all strengths (1); of one person: 1; 0.5#anna",
    "mode": "add (default) or replace; of one person: add; replace#anna",
    "renderer": "warp (default, also as auto), liveportrait, performrecast, edtalk or, of an edit, none",
    "quality": "of warp: auto (default), draft, standard or best; of one person: draft; best#anna",
    "lips": "a recording that the lips shall speak (edtalk)",
    "portrait": "a picture that shall speak, with the clip's head motion and expression (edtalk)",
    "face": "whose face: a rank, 0 the largest (0); #2 or #anna, as cmet faces shows; or a picture of the person",
    "colorspace": "colour space of the clip, such as ACEScg, LogC3 or PQ (from its tags)",
    "ocio": "an OpenColorIO configuration ($OCIO, else the built-in one)",
    "range_from": "edit, track, render: first frame of a part: seconds (2.5), frames (120f) or timecode (01:00:10:00)",
    "range_to": "the frame behind the last one of the part, likewise",
    "handles": "frames more at either end of the part (0)",
    "calibrate": "track, edit without a video: take off what the relaxed face reads, so that rest is 0 (no)",
    "rest_frame": "calibrate by this frame, or by several (10-40), counted from the first that is tracked",
    "device": "auto (default), cpu, cuda or mps for the networks",
    "format": "of the video: mp4 (default), m4v, mov, mkv, webm, mxf, png, tif, dpx or exr; of a track: npz (default), csv or json; of an export: fbx, glb, csv …",
    "codec": "of the video: h264, hevc, prores, prores_hq, prores_4444, dnxhr_lb, dnxhr_sq, dnxhr_hq, dnxhr_hqx, dnxhr_444, ffv1 or vp9",
    "like_source": "write the format and codec nearest to the clip's own (no)",
    "rate_factor": "of H.264, HEVC and VP9, from 0 (the largest file) to 51",
    "matte": "of the video: a name beside it for the mask of what was changed (matte.mkv, matte/%06d.png), or channel (exr)",
    "shot_data": "edit, render: auto, or a name beside the video, for in and out, timecode and names (.json, and .otio)",
    "consent": "edit, render, render_rig, export, apply, bake: consent of the person shown (who, when, how), or a consent file (.json); it goes into the credentials",
    "watermark": "edit, render: mark the edited faces invisibly as edited (yes)",
    "people": "edit, render, in JSON lines: settings or curves of single people; elsewhere # and the person stand behind a value",
    "track": "render, export, apply: the wanted curves; render of several people: anna.npz#anna; 2.npz#2",
    "source": "render, render_rig: the clip's own curves",
    "rig": "the character of all kinds below export; export writes .fbx .glb .usdc .abc .blend with one, else .npz .csv .json",
    "object": "name of the object on the rig (default: the one with most of the shapes)",
    "mapping": "a saved mapping of shapes (default: by their names)",
    "spread": "show coefficients without a shape of their own by others (yes)",
    "frames": "first and last scene frame: 1 250 (default: what is animated)",
    "fps": "export, apply: frames a second of the scene, such as 24 or 24000/1001",
    "start": "export, apply: scene frame of the first frame (1)",
    "simplify": "export, apply: leave out keys, with an error of at most this (0: keep all)",
    "steady": "export, apply: take jitter off, from 0 to 1, or by region: brows=1,mouth=0.3",
    "mirror": "export, apply: exchange the sides of the face (no)",
    "preset": "export, bake: FBX as unreal, unity or maya expects it",
    "take_format": "export of a track: livelink, audio2face, audio2face-csv, facecap, ifacialmocap or mediapipe (from the suffix)",
}
"""What each column holds, by its name."""

HELP = f"""\
The manifest is a CSV file with a header, or JSON lines, with these columns. What a kind has no use for is passed over.

{chr(10).join(f"  {name:<12} {about}" for name, about in COLUMNS.items())}

apply keeps the track's keys on the character in a .blend; bake folds a character's performance and emotions into one action
and writes it; read writes what a character does as a track; match writes which shape takes which coefficient; render_rig
renders the clip with a character's curves. These, and export with a rig, run in a process of their own with bpy.

Paths are relative to the manifest's folder. A row that takes what another row writes (take-edited/edited.npz of an edit)
waits for it. A row that is wrong fails alone.

With --ray, manifest, inputs and outputs must lie on storage that every machine of the cluster sees under the same path, and
every machine needs this package (with bpy for characters) and its models. A row asks Ray for one core and 2 GiB, and for a
GPU only where it has use for one (to render, unless the quality is draft) and the cluster has any.
"""
