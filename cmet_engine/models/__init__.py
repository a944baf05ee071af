"""Where weights come from, and that they are the ones that were meant: checksums of everything that is loaded.

Two kinds of weights: the embedded ones in `cmet_engine/assets`, which are always there (`asset`), and the published ones,
which a user downloads once (`pull`) or converts from files fetched by hand (`convert`). Those are kept as safetensors in
`models_folder()`, each beside a small record: where it came from, its checksums, its licence.
"""

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmet_engine.errors import CmetError
from cmet_engine.files import whole_file
from cmet_engine.progress import Progress, Stage

if TYPE_CHECKING:
    from torch import nn

ASSETS = Path(__file__).parents[1] / "assets"
CHECKSUMS = ASSETS / "checksums.json"


_verified: set[tuple[Path, int]] = set()


def user_folder() -> Path:
    """Where the user's own things are kept: `$CMET_HOME`, else the platform's folder for application data."""
    if home := os.environ.get("CMET_HOME"):
        return Path(home)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "cmet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "cmet"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "cmet"


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset(name: str) -> Path:
    """Path of an embedded file, after its SHA-256 was compared with the recorded one (once a process).

    Raises:
        CmetError: the file is missing or differs from what was recorded.
    """
    path = ASSETS / name
    recorded = json.loads(CHECKSUMS.read_text("utf-8")).get(name) if CHECKSUMS.exists() else None
    if not path.is_file() or recorded is None:
        raise CmetError(f"The embedded file {name} is missing; install the package again.")
    if not _is_verified(path, recorded):
        raise CmetError(f"The embedded file {name} is damaged (its checksum differs); install the package again.")
    return path


def record(name: str) -> str:
    """Record the checksum of the embedded file `name` after it was trained anew; returns the checksum."""
    known = json.loads(CHECKSUMS.read_text("utf-8")) if CHECKSUMS.exists() else {}
    known[name] = sha256(ASSETS / name)
    CHECKSUMS.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", "utf-8")
    return known[name]


def _is_verified(path: Path, checksum: str) -> bool:
    """Whether the file has the checksum; read once a process, and again if the file was replaced."""
    key = (path, path.stat().st_mtime_ns)
    if key not in _verified:
        if sha256(path) != checksum:
            return False
        _verified.add(key)
    return True


@dataclass(frozen=True)
class Licence:
    """Name of a licence and where its text is."""

    name: str
    url: str


@dataclass(frozen=True)
class Package:
    """Published weights that are downloaded together.

    Attributes:
        name: what `cmet models pull` calls it.
        about: what it is for.
        repository: on the Hugging Face hub.
        files: path in the repository, and the network it holds.
        megabytes: roughly what is downloaded; `pull` shows the exact size before it begins.
        licence: what the user must accept.
    """

    name: str
    about: str
    repository: str
    files: tuple[tuple[str, str], ...]
    megabytes: int
    licence: Licence


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "cmet",
            "C-MET connector, EDTalk renderer and Audio2Lip",
            "coldhyuk/C-MET",
            (
                ("checkpoints/_epoch_2105_checkpoint_step000200000.pth", "connector"),
                ("pretrained_weights/EDTalk.pt", "edtalk_generator"),
                ("pretrained_weights/Audio2Lip.pt", "audio2lip"),
            ),
            1200,
            Licence("Apache-2.0", "https://github.com/ChanHyeok-Choi/C-MET/blob/main/LICENSE"),
        ),
        Package(
            "emotion2vec",
            "emotion2vec+ large speech encoder",
            "emotion2vec/emotion2vec_plus_large",
            (("model.pt", "emotion2vec_plus_large"),),
            1950,
            Licence(
                "FunASR Model Open Source License Agreement",
                "https://github.com/modelscope/FunASR/blob/main/MODEL_LICENSE",
            ),
        ),
    )
}

PRESETS = "edtalk_presets"  # EDTalk's eight published expressions, converted from the files of the user


@dataclass(frozen=True)
class Weights:
    """Converted weights on this machine.

    Attributes:
        name: of the network.
        sha256: of the converted file.
        size: of the converted file in bytes.
        source: the published file it was made from: "repository/path" or a path on this machine.
        source_sha256: of that file.
        licence: its name.
        path: the converted file.
    """

    name: str
    sha256: str
    size: int
    source: str
    source_sha256: str
    licence: str
    path: Path


def models_folder() -> Path:
    """Where converted weights are kept: `$CMET_MODELS`, else `models` in the user's folder."""
    given = os.environ.get("CMET_MODELS")
    return Path(given) if given else user_folder() / "models"


def list_models() -> list[Weights]:
    """The published weights that are on this machine, in the order of their names.

    Raises:
        CmetError: a record cannot be read.
    """
    found = []
    for path in sorted(models_folder().glob("*.json")):
        if path.name != "licences.json" and (weights := _weights(path.stem)) is not None:
            found.append(weights)
    return found


def _weights(name: str) -> Weights | None:
    path = models_folder() / f"{name}.json"
    if not path.is_file() or not path.with_suffix(".safetensors").is_file():
        return None
    try:
        known = json.loads(path.read_text("utf-8"))
        return Weights(**known, path=path.with_suffix(".safetensors"))
    except (ValueError, TypeError) as error:
        raise CmetError(f"{path} is damaged; delete it and pull or convert the weights again.") from error


def is_here(name: str) -> bool:
    """Whether the published weights of a network are on this machine."""
    return _weights(name) is not None


def package_of(name: str) -> Package:
    """The package that brings the network `name`."""
    return next(package for package in PACKAGES.values() if name in (network for _, network in package.files))


def missing(name: str) -> str:
    """The sentence to show when the published network `name` is not on this machine."""
    from cmet_engine.models.checkpoints import NETWORKS

    package = package_of(name)
    title = NETWORKS[name].title
    return (
        f"The published weights of {title} are not on this machine: run `cmet models pull {package.name}` "
        f"(about {_amount(package.megabytes * 10**6)}), or go on without them, the embedded models need no download."
    )


def path_of(name: str) -> Path:
    """Path of converted published weights, after their checksum was compared (once a process).

    Args:
        name: `connector`, `edtalk_generator`, `audio2lip` or `emotion2vec_plus_large`.

    Raises:
        CmetError: they are not there (with the command that brings them), or the file was changed.
    """
    weights = _weights(name)
    if weights is None:
        raise CmetError(missing(name))
    if not _is_verified(weights.path, weights.sha256):
        again = f"cmet models pull {package_of(name).name} --force" if name != PRESETS else "cmet models convert"
        raise CmetError(f"{weights.path} is damaged (its checksum differs); run `{again}` to get it again.")
    return weights.path


def load(name: str) -> "nn.Module":
    """A published network with its weights, in evaluation mode, on the CPU.

    Args:
        name: see `path_of`.

    Raises:
        CmetError: see `path_of`.
    """
    import torch

    from cmet_engine.models.checkpoints import NETWORKS, read_safetensors

    state = read_safetensors(path_of(name))
    with torch.device("meta"):
        network = NETWORKS[name].make()
    network.load_state_dict(state, strict=True, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval()


def accepted(name: str) -> bool:
    """Whether the user has accepted the licence of a package, in its present wording, before."""
    return _licences().get(name, {}).get("licence") == PACKAGES[name].licence.name


def accept(name: str) -> None:
    """Record that the user accepts the licence of a package; asked once."""
    known = _licences()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known[name] = {"licence": PACKAGES[name].licence.name, "url": PACKAGES[name].licence.url, "accepted": now}
    _made(models_folder())
    with whole_file(models_folder() / "licences.json", force=True) as path:
        path.write_text(json.dumps(known, indent=2) + "\n", "utf-8")


def _licences() -> dict[str, dict[str, str]]:
    path = models_folder() / "licences.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text("utf-8"))
    return {}


def pull(
    name: str, *, accept_licence: bool = False, force: bool = False, progress: Progress | None = None
) -> list[Weights]:
    """Download published weights from the Hugging Face hub and convert them.

    A download that was cut off goes on where it stopped. `HF_ENDPOINT` (a mirror), `HF_HUB_OFFLINE`, `HF_TOKEN` and
    `HTTPS_PROXY` are respected.

    Args:
        name: `cmet` or `emotion2vec`.
        accept_licence: the user has accepted the licence just now (needed the first time only).
        force: download again what is there.
        progress: called with ("download <file>", bytes done, bytes in all) and ("convert", done, total).

    Returns:
        The weights of the package.

    Raises:
        CmetError: an unknown name, a licence not accepted, no connection, no space, or a file that is not what it should be.
    """
    if name not in PACKAGES:
        raise CmetError(f"There is no package {name}; choose one of {', '.join(PACKAGES)}.")
    package = PACKAGES[name]
    if accept_licence:
        accept(name)
    elif not accepted(name):
        raise CmetError(
            f"The weights of {name} are under the {package.licence.name} ({package.licence.url}); read it and run "
            f"`cmet models pull {name} --accept-licence`."
        )
    here = {network: None if force else _weights(network) for _, network in package.files}
    downloads = _made(models_folder() / "downloads")
    for file, network in package.files:
        if here[network] is not None:
            path_of(network)  # there already: still the one that was recorded?
            continue
        path, source_sha256 = _download(package, file, downloads, progress)
        if progress:
            progress(Stage.CONVERT, 0, 1)
        here[network] = _convert(path, f"{package.repository}/{file}", source_sha256, network, package.licence.name)
        _discard(path, downloads)
        if progress:
            progress(Stage.CONVERT, 1, 1)
    with contextlib.suppress(OSError):
        shutil.rmtree(downloads)
    return [weights for weights in here.values() if weights is not None]


def _download(package: Package, file: str, folder: Path, progress: Progress | None) -> tuple[Path, str]:
    """Fetch one file of a package; returns its path and its SHA-256, which was compared with the hub's."""
    import huggingface_hub as hub

    endpoint = os.environ.get("HF_ENDPOINT") or None
    title = f"{package.repository}/{file}"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        expected: str | None = None
        if not offline:
            meta = hub.get_hf_file_metadata(
                hub.hf_hub_url(package.repository, file, endpoint=endpoint), endpoint=endpoint
            )
            expected = meta.etag if meta.etag and len(meta.etag) == 64 else None  # large files: the etag is the SHA-256
            _check_space(folder, title, meta.size or 0)
        path = Path(
            hub.hf_hub_download(
                package.repository,
                file,
                cache_dir=folder,
                endpoint=endpoint,
                local_files_only=offline,
                tqdm_class=_bar(f"download {Path(file).name}", progress),
            )
        )
    except Exception as error:
        if (known := _download_error(error, title, endpoint or "the hub", folder, offline)) is None:
            raise
        raise known from error
    actual = sha256(path)
    if expected is not None and actual != expected:
        _discard(path, folder)
        raise CmetError(
            f"{title} arrived damaged: its SHA-256 is {actual[:12]}… instead of {expected[:12]}…; run the command again."
        )
    return path, actual


def _download_error(error: Exception, title: str, endpoint: str, folder: Path, offline: bool) -> CmetError | None:
    """A failed download in words; None for what is no failure of the download (a cancelled progress)."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return CmetError(f"{title} asks for an account: accept its terms on the hub and set HF_TOKEN.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return CmetError(_unreachable(title, offline))
    if isinstance(error, errors.RepositoryNotFoundError | errors.EntryNotFoundError):
        return CmetError(f"{title} is not on {endpoint}; fetch the file by hand and run `cmet models convert FILE`.")
    # the library under the hub's client changes with its version, so its errors are known by where they come from
    library = type(error).__module__.partition(".")[0].rstrip("2")
    network = library in ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub", "hf_xet")
    if network or isinstance(error, ConnectionError | TimeoutError):
        return CmetError(_unreachable(title, offline))
    return _disk_error(folder, error) if isinstance(error, OSError) else None


def _unreachable(title: str, offline: bool) -> str:
    if offline:
        return f"{title} is not on this machine and HF_HUB_OFFLINE forbids downloading; unset it or convert a file fetched by hand."
    return (
        f"{title} could not be downloaded; check the connection (HTTPS_PROXY, HF_ENDPOINT for a mirror) and run the command "
        "again, it goes on where it stopped."
    )


def _bar(stage: str, progress: Progress | None) -> Any:
    """The hub's progress bar, turned into calls of `progress`."""
    from tqdm.auto import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any):
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self.done = int(kwargs.get("initial") or 0)
            self.all = kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            if progress:
                progress(stage, self.done, int(self.all) if self.all else None)

    return Bar


def _check_space(folder: Path, title: str, size: int) -> None:
    """Room for a download and what it is converted to."""
    free = shutil.disk_usage(folder).free
    if size * 2 > free:
        raise CmetError(
            f"{title} needs {_amount(size * 2)} of space while it is converted, and {folder} has {_amount(free)}; free some, or "
            "set CMET_MODELS to another disk."
        )


def _disk_error(folder: Path, error: OSError) -> CmetError:
    return CmetError(
        f"Cannot write to {folder}: {error.strerror or error}; free space or set CMET_MODELS to another disk."
    )


def _discard(path: Path, folder: Path) -> None:
    """Remove a download with the file its link points to."""
    with contextlib.suppress(OSError):
        target = path.resolve()
        path.unlink()
        if target != path and target.is_relative_to(folder.resolve()):
            target.unlink()


def convert(path: str | Path, *, expected: str | None = None, force: bool = False) -> list[Weights]:
    """Convert a published file that was fetched by hand.

    Args:
        path: `EDTalk.pt`, `Audio2Lip.pt`, the connector's `.pth`, emotion2vec's `model.pt`; or one of EDTalk's expression
            presets (`happy.npy`), or the folder that holds them.
        expected: name of the network it must be; None takes what it is.
        force: replace weights of the same network.

    Returns:
        What was converted.

    Raises:
        CmetError: see `checkpoints.read` and `checkpoints.identify`; also when the weights are there and `force` is off, or
            there is no space.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".npy":
        return [_convert_presets(path)]
    return [_convert(path, str(path.resolve()), None, expected, None, force=force)]


def _convert(
    path: Path, source: str, source_sha256: str | None, expected: str | None, licence: str | None, *, force: bool = True
) -> Weights:
    from safetensors.torch import save_file

    from cmet_engine.models.checkpoints import identify, read

    network, state = identify(path, read(path), expected)
    if not force and _weights(network.name) is not None:
        raise CmetError(f"The weights of {network.title} are there already; add --force to replace them.")
    weights = Weights(
        network.name,
        "",
        0,
        source,
        source_sha256 or sha256(path),
        licence or package_of(network.name).licence.name,
        models_folder() / f"{network.name}.safetensors",
    )
    return _write(weights, lambda target: save_file(state, target, metadata={"network": network.name}))


def _write(weights: Weights, save: Callable[[Path], None]) -> Weights:
    """Save converted weights and their record, both whole or not at all."""
    folder = _made(weights.path.parent)
    try:
        with whole_file(weights.path, force=True) as temporary:
            save(temporary)
            weights = replace(weights, sha256=sha256(temporary), size=temporary.stat().st_size)
        with whole_file(weights.path.with_suffix(".json"), force=True) as temporary:
            known = {key: value for key, value in asdict(weights).items() if key != "path"}
            temporary.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise _disk_error(folder, error) from error
    except Exception as error:  # safetensors wraps the system's error in its own
        if "No space left" in str(error) or "os error 28" in str(error):
            raise CmetError(
                f"The disk that holds {folder} is full; free space or set CMET_MODELS to another disk."
            ) from error
        raise
    return weights


def _convert_presets(path: Path) -> Weights:
    from safetensors.numpy import save_file

    from cmet_engine.models.checkpoints import read_preset

    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if not files:
        raise CmetError(f"The folder {path} holds no .npy files; give the folder of EDTalk's expression presets.")
    kept = load_presets() if (models_folder() / f"{PRESETS}.json").is_file() else {}
    presets = {**kept, **{file.stem: read_preset(file) for file in files}}
    digest = hashlib.sha256(b"".join(presets[name].tobytes() for name in sorted(presets))).hexdigest()
    target = models_folder() / f"{PRESETS}.safetensors"
    weights = Weights(PRESETS, "", 0, str(path.resolve()), digest, "Apache-2.0", target)
    return _write(weights, lambda temporary: save_file(presets, temporary))


def load_presets() -> dict[str, np.ndarray]:
    """EDTalk's expression presets by name, each float32 [10]; empty if the user has converted none."""
    from safetensors.numpy import load_file

    return load_file(path_of(PRESETS)) if _weights(PRESETS) is not None else {}


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk_error(folder, error) from error
    return folder


def _amount(size: float) -> str:
    """Bytes in words: 1.2 GB, 340 MB, 12 kB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}" if unit == "GB" else f"{size / scale:.0f} {unit}"
    return f"{size:.0f} bytes"


def describe() -> Iterator[dict[str, Any]]:
    """One row for every published network and what this machine has of it, for `cmet models list`.

    Yields:
        name, package, about, here (bool), size (bytes; roughly the package's download where it is not here), source,
        licence, licence_url, accepted (bool), path.
    """
    for package in PACKAGES.values():
        for file, network in package.files:
            weights = _weights(network)
            yield {
                "name": network,
                "package": package.name,
                "about": package.about,
                "here": weights is not None,
                "size": weights.size if weights else package.megabytes * 10**6,
                "source": weights.source if weights else f"{package.repository}/{file}",
                "licence": weights.licence if weights else package.licence.name,
                "licence_url": package.licence.url,
                "accepted": accepted(package.name),
                "path": str(weights.path) if weights else None,
            }
    presets = _weights(PRESETS)
    if presets is not None:
        yield {
            "name": PRESETS,
            "package": None,
            "about": "EDTalk's expression presets: " + ", ".join(sorted(load_presets())),
            "here": True,
            "size": presets.size,
            "source": presets.source,
            "licence": presets.licence,
            "licence_url": "https://github.com/tanshuai0219/EDTalk/blob/main/LICENSE.txt",
            "accepted": True,
            "path": str(presets.path),
        }


if __name__ == "__main__":
    for given in sys.argv[2:]:
        print(record(Path(given).name), Path(given).name)
