"""`cmet doctor`: what works on this machine, what is missing, and how to mend it."""

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmet_engine import cache, extras, files
from cmet_engine.errors import CmetError
from cmet_engine.extras import EXTRAS
from cmet_engine.models import assets, licences, registry
from cmet_engine.provenance import identity

NEEDED = (
    "numpy", "scipy", "torch", "transformers", "librosa", "mediapipe", "av", "opencolorio", "opencv-contrib-python",
    "safetensors", "fastapi", "pydantic", "uvicorn", "huggingface-hub", "jinja2", "tqdm",
)  # fmt: skip
EXACTLY = {"mediapipe": "0.10.21", "numpy": "1."}  # the last with the face models; what it and bpy can use
DRIVER = Path("/proc/driver/nvidia/version")  # where the driver of a GPU says what it is (Linux)
DISK_NEEDED = 2 << 30  # bytes; a long clip's results and temporary files


@dataclass(frozen=True)
class Finding:
    """What was found of one thing: `ok` is True where it works, False where it is broken, None where it is absent but optional.

    `advice` says how to mend it.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Examine everything the engine uses, one finding after the other; a failure of the examination is a finding, too."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(name, False, f"cannot be examined: {error}", f"Install the package again: {_again()}")


def _again() -> str:
    """How to install the package again: from where it came, since the name alone is on no public index."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, KeyError, ValueError):
        origin = importlib.metadata.distribution("cmet").read_text("direct_url.json")
        if origin:
            return f"pip install --force-reinstall --no-deps '{json.loads(origin)['url']}'"
    return "pip install --force-reinstall --no-deps cmet-….whl, the wheel of C-MET"


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    right = sys.version_info >= (3, 11)
    yield Finding("Python", right, version, "" if right else "Install Python 3.11 and the package in it.")


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed", f"pip install {name}")
            continue
        wanted = EXACTLY.get(name, "")
        if version.startswith(wanted):
            yield Finding(name, True, version)
        else:
            yield Finding(name, False, f"{version}; {wanted}* is needed", f"pip install '{name}=={wanted}*'")


def _gpu() -> Iterator[Finding]:
    driver = next(iter(DRIVER.read_text("utf-8").splitlines()), "") if DRIVER.exists() else ""
    try:
        import torch
    except Exception as error:
        yield Finding("GPU", False, f"torch does not load: {error}", "pip install --force-reinstall torch")
        return
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        yield Finding("GPU", True, f"{properties.name}, {memory}, CUDA {torch.version.cuda}; {driver}")
    elif driver and torch.version.cuda is None:
        yield Finding(
            "GPU", False, f"there ({driver}), but torch is built without CUDA", "Install a build of torch for CUDA."
        )
    elif driver:
        yield Finding(
            "GPU", False, f"there ({driver}), but torch cannot use it",
            f"Update the driver to one for CUDA {torch.version.cuda}, or allow this user to use the GPU.",
        )  # fmt: skip
    else:
        yield Finding(
            "GPU", None, "none; everything runs on the CPU", "For a GPU install its driver and a CUDA build of torch."
        )


def _codecs() -> Iterator[Finding]:
    import av.codec

    missing = [
        name
        for name in ("libx264", "libx265", "aac", "prores_ks", "dnxhd", "ffv1", "libvpx-vp9", "png", "exr")
        if name not in av.codec.codecs_available
    ]
    if missing:
        advice = "Install av as its authors build it: pip install --force-reinstall av"
        yield Finding("codecs", False, f"missing: {', '.join(missing)}", advice)
    else:
        yield Finding("codecs", True, "H.264, HEVC, AAC, ProRes, DNxHR, FFV1, VP9, PNG, EXR")


def _tracker() -> Iterator[Finding]:
    try:
        from cmet_engine.face.mesh import Mesh

        Mesh().close()
        yield Finding("face tracker", True, "starts")
    except Exception as error:
        advice = "pip install mediapipe==0.10.21, and the system libraries libgl1 and libegl1"
        yield Finding("face tracker", False, f"does not start: {error}", advice)


def _models() -> Iterator[Finding]:
    try:
        known = files.read_json(assets.CHECKSUMS)
        names = [name for name in known if licences.place(name) in known]
        for name in names:
            assets.asset(name)
        yield Finding("embedded models", True, f"{len(names)} files, checksums right")
    except CmetError as error:
        yield Finding("embedded models", False, str(error), _again())
    published = list(registry.describe())
    here = [row["name"] for row in published if row["here"]]
    yield Finding(
        "published models", True if here else None, f"{len(here)} of {len(published)} are here",
        "" if here else "Only needed for other renderers than warp: cmet models list",
    )  # fmt: skip


def _provenance() -> Iterator[Finding]:
    from cmet_engine.provenance import credentials  # brings av

    try:
        credentials.library()
    except CmetError as error:
        advice = "Edited files are then not signed: pip install c2pa-python"
        yield Finding("Content Credentials", None, str(error).partition(";")[0], advice)
        return
    try:
        who = identity.current().words if identity.is_chosen() else identity.LOCAL
        version = importlib.metadata.version("c2pa-python")
        yield Finding("Content Credentials", True, f"c2pa-python {version}; signed by {who}")
    except CmetError as error:
        yield Finding("Content Credentials", False, str(error), "cmet provenance use CERT KEY, or --local")


def _extras() -> Iterator[Finding]:
    for name, extra in EXTRAS.items():
        if extras.is_installed(name):
            yield Finding(f"cmet[{name}]", True, ", ".join(extra.modules))
        else:
            missing = f"not installed ({', '.join(extra.modules)})"
            yield Finding(f"cmet[{name}]", None, missing, f"{extra.purpose} needs it; {extras.advice(name)}")


def _folders() -> Iterator[Finding]:
    for name, folder in (("temporary folder", Path(tempfile.gettempdir())), ("user folder", files.user_folder())):
        variable = "TMPDIR" if name == "temporary folder" else "CMET_HOME"
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            advice = f"Make it writable: chmod u+rwx '{there}'; or set {variable} to a folder that is."
            yield Finding(name, False, f"{folder} may not be written", advice)
            continue
        free = shutil.disk_usage(there).free
        enough = free > DISK_NEEDED
        advice = f"Free {(DISK_NEEDED - free) / 2**30:.1f} GiB (cmet cache --clear gives back {cache.size() / 2**30:.1f}), or set {variable} to another disk."
        yield Finding(name, enough, f"{free / 2**30:.1f} GiB free in {folder}", "" if enough else advice)


CHECKS = {
    "Python": _python, "packages": _packages, "GPU": _gpu, "codecs": _codecs, "face tracker": _tracker, "models": _models,
    "provenance": _provenance, "extras": _extras, "folders": _folders,
}  # fmt: skip
