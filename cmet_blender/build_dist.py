"""Build what a studio hosts for its artists: `python -m cmet_blender.build_dist [-o FOLDER]`, or `make dist`.

The engine's wheel, the extension with that wheel inside, and `index.json`, which makes the folder an extension repository:
Blender takes its address (Preferences > Get Extensions > Repositories > Add Remote Repository). All of one version.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from urllib.request import pathname2url

from cmet_blender.build_extension import ROOT, build
from cmet_engine import __version__ as version

SETUPTOOLS = 77  # pyproject.toml asks for it
INDEX = "index.json"
_EPOCH = "315532800"  # 1980-01-01, the earliest time that a zip file holds: the same sources give the same bytes


def engine_wheel(folder: Path, *leave_out: str) -> Path:
    """Build the wheel of the engine from a copy of the sources, with the setuptools of this environment.

    Args:
        folder: where it goes; made when absent.
        leave_out: names of files and folders that the wheel shall not hold.

    Raises:
        SystemExit: setuptools is missing or too old.
        RuntimeError: it fails.
    """
    try:
        found = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        found = 0
    if found < SETUPTOOLS:
        raise SystemExit(
            f"The wheel needs setuptools {SETUPTOOLS} or newer; run: {sys.executable} -m pip install 'setuptools>={SETUPTOOLS}'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for name in ("cmet_engine", "cmet_blender", "rigs"):
            skip = shutil.ignore_patterns("__pycache__", "*.blend", *leave_out)
            shutil.copytree(ROOT / name, source / name, ignore=skip)
        script = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=source, capture_output=True, text=True, env=os.environ | {"SOURCE_DATE_EPOCH": _EPOCH}, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"The engine's wheel could not be built: {done.stderr.strip()[-2000:]}")
    return folder / f"cmet-{version}-py3-none-any.whl"


def write_index(archive: Path) -> Path:
    """Write `index.json` beside an extension's zip: the list that Blender reads of a repository (version 1 of its format)."""
    with zipfile.ZipFile(archive) as bundle:
        entry = tomllib.loads(bundle.read("blender_manifest.toml").decode())
    wheels = entry.pop("wheels", [])
    tags = {tag.removeprefix("py") for wheel in wheels for tag in wheel.split("-")[2].split(".")}
    data = archive.read_bytes()
    entry |= {
        "python_versions": sorted(tags),
        "archive_url": "./" + pathname2url(archive.name),
        "archive_size": len(data),
        "archive_hash": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }
    path = archive.with_name(INDEX)
    path.write_text(json.dumps({"version": "v1", "blocklist": [], "data": [entry]}, indent=2) + "\n", "utf-8")
    return path


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cmet_blender.build_dist",
        description="Build the engine's wheel, the extension with it, and the index of an extension repository.",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "dist", metavar="FOLDER", help="where they go (default dist)"
    )
    folder = parser.parse_args().output
    wheel = engine_wheel(folder)
    archive = build(folder, engine=wheel)
    for path in (wheel, archive, write_index(archive)):
        print(path, f"{path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
