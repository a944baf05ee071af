"""What `from cmet_engine import …` offers, and that it costs nothing before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import cmet_engine

STUB = Path(cmet_engine.__file__).with_suffix(".pyi")


def test_everything_public_is_there_and_the_stub_says_the_same():
    offered = {name for name in cmet_engine.__all__ if getattr(cmet_engine, name) is not None}
    imported = [node for node in ast.parse(STUB.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    assert offered == {"__version__", *(alias.asname for node in imported for alias in node.names)}
    for node in imported:
        for alias in node.names:
            assert getattr(cmet_engine, alias.name) is getattr(sys.modules[str(node.module)], alias.name)


def test_a_name_that_is_not_offered_is_an_attribute_error():
    try:
        cmet_engine.nonsense  # noqa: B018
    except AttributeError as error:
        assert "nonsense" in str(error)
    else:
        raise AssertionError("an unknown name was found")


def test_the_package_and_what_blender_imports_need_numpy_alone():
    script = (
        "import sys\n"
        "for name in ('torch', 'pydantic', 'cv2', 'av', 'scipy', 'mediapipe', 'fastapi', 'tqdm'): sys.modules[name] = None\n"
        "import cmet_engine, cmet_engine.client, cmet_engine.files\n"
        "from cmet_engine import CoefficientTrack, EmotionTimeline\n"
        "print(cmet_engine.__version__, EmotionTimeline.parse(['happy']).names())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [cmet_engine.__version__, "['happy']"]


def test_a_specification_is_made_like_any_other_object():
    spec = cmet_engine.EditSpec(clip="take.mp4", emotions=["happy@0-2.5"])
    assert spec.clip == Path("take.mp4") and spec.timeline().names() == ["happy"]
