"""Build the library of emotions for Blender's asset browser: `cmet_blender/asset_library`.

    python rigs/build_emotion_assets.py

Needs `bpy` and the engine. Each asset is what an emotion adds to a resting face at strength 1, held as long as wanted.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import numpy as np
from build_gallery import expression

from cmet_blender import emotion_assets
from cmet_engine.arkit import NAMES
from cmet_engine.emotions import BASIC, EXTENDED


def main() -> None:
    """Write the .blend file and its catalogue."""
    emotion_assets.FOLDER.mkdir(exist_ok=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for emotion in (*BASIC, *EXTENDED):
        face = expression(emotion, 1.0)
        emotion_assets.make(emotion, np.array([[face[name] for name in NAMES]]), catalog=emotion_assets.CATALOG)
    text = f"VERSION 1\n\n{emotion_assets.CATALOG}:Emotions:Emotions\n"
    (emotion_assets.FOLDER / "blender_assets.cats.txt").write_text(text, "utf-8")
    bpy.context.preferences.filepaths.save_version = 0
    path = emotion_assets.FOLDER / "emotions.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True, check_existing=False)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
