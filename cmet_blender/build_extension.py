"""Build the extension's zip: `python -m cmet_blender.build_extension [-o FOLDER] [--listed URL] [--validate]`. Needs no Blender.

The zip holds the add-on's modules at its root, the pictures of emotions and their library of assets, the rig mappings, and the engine's light modules as a bundled wheel.
The same sources give the same bytes. `build_dist` puts the wheel of the engine in, too. For Blender's public listing, whose rules
forbid fetching programs, `--listed` leaves Set Up Engine out; the preferences then show a sentence and the page at URL.
"""

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from cmet_blender.build_wheel import RIGS
from cmet_engine import __version__ as version

ROOT = Path(__file__).resolve().parents[1]
# what cmet_blender imports of the engine, and what that imports; numpy and the standard library only
LIGHT = (
    "__init__", "arkit", "choices", "cleanup", "client", "emotions", "errors", "files", "live_capture", "npz", "processes", "progress", "rest", "take_formats", "take_times", "takes", "timecode", "timeline", "track",
)  # fmt: skip
LEFT_OUT = ("__main__.py", "build_dist.py", "build_extension.py", "build_wheel.py")  # of use beside the sources alone
SETUP = "setup/"  # Set Up Engine, which the public listing does not allow
LISTED_NETWORK = "Talk to the engine on this machine; receive live faces"  # why the listed build reaches the network
_TIME = (1980, 1, 1, 0, 0, 0)


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, data)


def build_wheel(folder: Path, version: str) -> Path:
    """The engine's light modules as a pure-Python wheel (PEP 427); a local version (PEP 440) tells builds of one version apart.

    Blender unpacks a wheel only where it has none of that version yet: without it a newer build would meet the modules of an earlier one.
    """
    modules = {f"cmet_engine/{name}.py": (ROOT / "cmet_engine" / f"{name}.py").read_bytes() for name in LIGHT}
    version += f"+{hashlib.sha256(repr(sorted(modules.items())).encode()).hexdigest()[:8]}"
    path = folder / f"cmet_engine_light-{version}-py3-none-any.whl"
    info = f"cmet_engine_light-{version}.dist-info"
    files = dict(modules)
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: cmet-engine-light\nVersion: {version}\n"
        "Summary: The parts of the C-MET engine that Blender imports\nLicense: GPL-3.0-or-later\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: cmet_blender.build_extension\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
        for name, data in files.items()
    ]
    files[f"{info}/RECORD"] = ("\n".join([*record, f"{info}/RECORD,,"]) + "\n").encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            _write(archive, name, data)
    return path


def _manifest(text: str, wheel: str, website: str) -> str:
    """The manifest with the wheel that was built, and, given a website, of the build for the public listing."""
    lines = {"wheels": f'["./wheels/{wheel}"]'}
    if website:
        lines |= {"website": f'"{website}"', "network": f'"{LISTED_NETWORK}"'}
    for name, value in lines.items():
        text, count = re.subn(rf"^{name} = .*$", lambda _, n=name, v=value: f"{n} = {v}", text, flags=re.MULTILINE)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"blender_manifest.toml: one line '{name} = …' is needed.")
    return text


def build(folder: Path, *, engine: Path | None = None, listed: str = "") -> Path:
    """Write the extension's zip into a folder and return its path.

    Args:
        folder: where it goes; made when absent.
        engine: the engine's wheel, which Set Up Engine then installs.
        listed: for the public listing, without Set Up Engine: the page that says how to install the engine.

    Raises:
        SystemExit: the manifest's version, or the engine's wheel, is not the engine's of these sources.
    """
    text = (ROOT / "blender_manifest.toml").read_text("utf-8")
    manifest = tomllib.loads(text)
    if manifest["version"] != version:
        raise SystemExit(f"blender_manifest.toml: the version must be that of cmet_engine, {version}.")
    if engine is not None and not engine.name.startswith(f"cmet-{version}-"):
        raise SystemExit(f"{engine.name} is not the wheel of cmet {version}.")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(folder, version)
    files = {
        "LICENSE": ROOT / "LICENSE",
        f"wheels/{wheel.name}": wheel,
    }
    package = ROOT / "cmet_blender"
    modules = {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
    left_out = (*LEFT_OUT, SETUP) if listed else LEFT_OUT
    files |= {name: path for name, path in modules.items() if not name.startswith(left_out)}
    files |= {f"engine/{engine.name}": engine} if engine and not listed else {}
    files |= {f"gallery/{path.name}": path for path in sorted((ROOT / "cmet_blender" / "gallery").glob("*.jpg"))}
    library = ROOT / "cmet_blender" / "asset_library"
    files |= {f"{library.name}/{path.name}": path for path in sorted(library.iterdir())}
    files |= {f"rigs/{path.name}": path for pattern in RIGS for path in sorted((ROOT / "rigs").glob(pattern))}
    path = folder / f"{manifest['id']}-{version}{'-listed' if listed else ''}.zip"
    temporary = path.with_suffix(".zip.part")
    with zipfile.ZipFile(temporary, "w") as archive:
        _write(archive, "blender_manifest.toml", _manifest(text, wheel.name, listed).encode())
        for name, source in files.items():
            _write(archive, name, source.read_bytes())
    temporary.replace(path)
    wheel.unlink()
    return path


def validator() -> Path:
    """Blender's own extension tool, from the `bpy` package.

    Raises:
        SystemExit: `bpy` is not installed.
    """
    try:
        import bpy
    except ImportError as error:
        raise SystemExit(
            "Blender's validator comes with the package bpy; install it with: python -m pip install bpy"
        ) from error
    return Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cmet_blender.build_extension", description="Build the Blender extension."
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "dist", metavar="FOLDER", help="where the zip goes (default dist)"
    )
    parser.add_argument(
        "--listed", default="", metavar="URL", help="for the public listing; URL says how to install the engine"
    )
    parser.add_argument("--validate", action="store_true", help="have Blender's own validator check it (needs bpy)")
    options = parser.parse_args()
    path = build(options.output, listed=options.listed)
    print(path)
    if options.validate:
        return subprocess.run(
            [sys.executable, str(validator()), "validate", str(path)], check=False, env=dict(os.environ)
        ).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
