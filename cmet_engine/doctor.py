"""`cmet doctor`: what works on this machine, what is missing, and how to mend it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmet_engine.errors import CmetError

NEEDED = ("numpy", "scipy", "torch", "transformers", "librosa", "mediapipe", "av", "safetensors", "fastapi", "uvicorn")
DISK_NEEDED = 2 << 30  # bytes; a long clip's results and temporary files


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok` True works, False is broken, None is absent but not needed; `advice` mends it."""

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything the engine uses, one finding after the other."""
    version = platform.python_version()
    yield Finding(
        "Python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "Install Python 3.11."
    )
    for name in NEEDED:
        try:
            yield Finding(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed", f"pip install {name}")
    numpy = importlib.metadata.version("numpy")
    if int(numpy.split(".")[0]) >= 2:
        yield Finding("numpy version", False, numpy, "mediapipe and bpy need numpy below 2: pip install 'numpy<2'")
    yield _gpu()
    yield _codecs()
    yield _tracker()
    yield _embedded()
    if importlib.util.find_spec("bpy"):
        yield Finding("Blender (bpy)", True, importlib.metadata.version("bpy"))
    else:
        yield Finding(
            "Blender (bpy)", None, "not installed", "Only needed to export onto rigs: pip install 'cmet[blender]'"
        )
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk",
        free > DISK_NEEDED,
        f"{free / 2**30:.1f} GiB free in {folder}",
        "" if free > DISK_NEEDED else "Free some space.",
    )
    writable = os.access(folder, os.W_OK)
    yield Finding(
        "temporary folder", writable, str(folder), "" if writable else "Set TMPDIR to a folder you may write to."
    )


def _gpu() -> Finding:
    try:
        import torch
    except Exception as error:
        return Finding("GPU", False, f"torch does not load: {error}", "Install torch again.")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding(
            "GPU", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        )
    return Finding(
        "GPU", None, "none; everything runs on the CPU", "For a GPU install its driver and a CUDA build of torch."
    )


def _codecs() -> Finding:
    import av.codec

    missing = [name for name in ("libx264", "aac", "prores_ks", "png", "exr") if name not in av.codec.codecs_available]
    if missing:
        return Finding(
            "codecs",
            False,
            f"missing: {', '.join(missing)}",
            "Install av from the package registry: pip install --force-reinstall av",
        )
    return Finding("codecs", True, "H.264, AAC, ProRes, PNG, EXR")


def _tracker() -> Finding:
    try:
        from cmet_engine.face.mesh import Mesh

        Mesh().close()
    except Exception as error:
        return Finding(
            "face tracker",
            False,
            f"does not start: {error}",
            "pip install mediapipe==0.10.21, and the system library libgl1",
        )
    return Finding("face tracker", True, "starts")


def _embedded() -> Finding:
    import json

    from cmet_engine.models import CHECKSUMS, asset

    try:
        names = list(json.loads(CHECKSUMS.read_text("utf-8")))
        for name in names:
            asset(name)
    except (OSError, CmetError) as error:
        return Finding("embedded models", False, str(error), "Install the package again.")
    return Finding("embedded models", True, f"{len(names)} files, checksums right")
