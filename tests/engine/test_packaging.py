"""What the built packages say of themselves, and that it stands in one place."""

import re
import tomllib
from pathlib import Path

import cmet_engine
from cmet_engine.extras import EXTRAS

PROJECT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
MANIFEST = tomllib.loads((PROJECT / "blender_manifest.toml").read_text("utf-8"))


def test_the_version_is_the_engines_everywhere():
    assert "version" not in PYPROJECT["project"] and "version" in PYPROJECT["project"]["dynamic"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "cmet_engine.__version__"}
    assert MANIFEST["version"] == cmet_engine.__version__
    assert MANIFEST["wheels"] == [f"./wheels/cmet_engine_light-{cmet_engine.__version__}-py3-none-any.whl"]


def test_every_extra_says_what_needs_it():
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert set(extras) - {"dev"} == set(EXTRAS)
    core = {re.split(r"[<>=\[]", need)[0] for need in PYPROJECT["project"]["dependencies"]}
    for name, needs in extras.items():
        assert not {re.split(r"[<>=\[]", need)[0] for need in needs} & core, f"{name} repeats what is always there"
