"""A shot of the studio in Blender: the clip, the performance, and each emotion as a strip, as a .blend."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
from short_clips import small

from cmet_engine import arkit
from cmet_engine.client import HANDOVER
from cmet_engine.timeline import EmotionKey

FRAMES = 24


def test_a_shot_becomes_strips_that_show_the_edit(bpy, project, random_tracks, rig_file, tmp_path):
    source = random_tracks(frames=FRAMES, fps=25)
    change = random_tracks(frames=FRAMES, fps=25, seed=1, low=-0.2, high=0.3, turn=0).coefficients
    happy = replace(source, coefficients=source.coefficients + change)
    corrected = replace(source, coefficients=source.coefficients.copy())
    corrected.coefficients[10, arkit.NAMES.index("jawOpen")] += 0.4
    for name, track in (("source", source), ("happy", happy), ("corrected", corrected)):
        track.save(tmp_path / f"{name}.npz")
    key = EmotionKey("happy", 0.8, 0.2, 0.8, 0.2, 0.2, strength_keys=((0.0, 1.0), (0.3, 0.5)))
    layers = [
        {"key": vars(key), "edited": "happy.npz"},
        {"key": None, "edited": "corrected.npz", "below": "source.npz"},
    ]
    document = {
        "format": HANDOVER, "clip": str(small(tmp_path / "take.mp4", frames=FRAMES, size=64)), "rig": str(rig_file),
        "source": "source.npz", "mode": "add", "layers": layers,
    }  # fmt: skip
    (tmp_path / "shot.json").write_text(json.dumps(document))
    out = tmp_path / "shot.blend"
    command = [sys.executable, "-m", "cmet_blender", "shot", tmp_path / "shot.json", "-o", out, "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["strips"] == ["happy", "corrections"]

    bpy.ops.wm.open_mainfile(filepath=str(out))
    from cmet_blender import footage, keyframes

    scene = bpy.context.scene
    assert (scene.render.fps, scene.frame_end) == (25, FRAMES) and footage.source(scene) is not None
    back = keyframes.read_track(bpy.data.objects["Head"], (1, FRAMES))
    weight = key.envelope(np.arange(FRAMES) / 25, FRAMES / 25)[:, None]
    expected = corrected.coefficients + weight * change
    assert np.abs(back.coefficients - expected).max() < 0.01
    assert scene.camera.name == "C-MET footage"
