"""Published weights brought to this machine: downloaded (`pull`) or converted from files fetched by hand (`convert`)."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors.numpy import save_file as save_arrays

from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import sha256, whole_file
from cmet_engine.models.registry import (
    PACKAGES,
    PRESETS,
    Package,
    Weights,
    accept,
    accepted,
    amount,
    disk_error,
    load_presets,
    made,
    models_folder,
    package_of,
    path_of,
    stored,
)
from cmet_engine.models.tensors import read_tensors
from cmet_engine.progress import Progress, Stage

if TYPE_CHECKING:
    from torch import nn

NetworkType = TypeVar("NetworkType", bound="nn.Module")


def load(name: str, make: "Callable[[], NetworkType]") -> "NetworkType":
    """A published network with its weights, in evaluation mode, on the CPU.

    Args:
        name: see `path_of`.
        make: builds the network with the published sizes.

    Raises:
        CmetError: see `path_of`.
    """
    import torch

    path = path_of(name)
    state, _ = read_tensors(path, f"{path} is cut off or damaged; download or convert it again.")
    with torch.device("meta"):
        network = make()
    network.load_state_dict(state, strict=True, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval()


def pull(
    name: str, *, accept_licence: bool = False, force: bool = False, progress: Progress | None = None
) -> list[Weights]:
    """Download published weights from the Hugging Face hub and convert them.

    A download that was cut off goes on where it stopped. `HF_ENDPOINT` (a mirror), `HF_HUB_OFFLINE`, `HF_TOKEN` and
    `HTTPS_PROXY` are respected.

    Args:
        name: of `registry.PACKAGES`.
        accept_licence: the user has accepted the licence just now (needed the first time only).
        force: download again what is there.
        progress: called with ("download <file>", bytes done, bytes in all) and ("convert", done, total).

    Returns:
        The weights of the package.

    Raises:
        CmetError: an unknown name, a licence not accepted, no connection, no space, or a file that is not what it should be.
    """
    if name not in PACKAGES:
        raise InvalidInput(f"There is no package {name}; choose one of {', '.join(PACKAGES)}.")
    package = PACKAGES[name]
    if package.by_hand:
        raise MissingWeights(
            f"The weights of {name} cannot be pulled; fetch {', '.join(file for file, _ in package.files)} from {package.by_hand}, "
            "and run `cmet models convert FILE...`."
        )
    _check_accepted(package, accept_licence, f"cmet models pull {name}")
    here = {network: None if force else stored(network) for _, network in package.files}
    downloads = made(models_folder() / "cmet-downloads")
    for file, network in package.files:
        if here[network] is not None:
            path_of(network)  # checks that it is still the one that was recorded
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


def _check_accepted(package: Package, accepts: bool, command: str) -> None:
    """Record that the user accepts a licence, or make sure that they have before.

    Raises:
        MissingWeights: they have not; the sentence says how.
    """
    if accepts:
        accept(package.name)
    elif not accepted(package.name):
        raise MissingWeights(
            f"The weights of {package.name} are under the {package.licence.name} ({package.licence.url}); read it and run "
            f"`{command} --accept-licence`."
        )


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
                hub.hf_hub_url(package.repository, file, revision=package.revision, endpoint=endpoint),
                endpoint=endpoint,
            )
            expected = meta.etag if meta.etag and len(meta.etag) == 64 else None  # large files: the etag is the SHA-256
            _check_space(folder, title, meta.size or 0)
        path = Path(
            hub.hf_hub_download(
                package.repository,
                file,
                revision=package.revision,
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
    actual, expected = sha256(path), package.checksums.get(file, expected)
    if expected is not None and actual != expected:
        _discard(path, folder)
        raise MissingWeights(
            f"{title} arrived damaged: its SHA-256 is {actual[:12]}… instead of {expected[:12]}…; run the command again."
        )
    return path, actual


def _download_error(error: Exception, title: str, endpoint: str, folder: Path, offline: bool) -> CmetError | None:
    """A failed download in words; None for what is no failure of the download (a cancelled progress)."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return MissingWeights(f"{title} asks for an account: accept its terms on the hub and set HF_TOKEN.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return MissingWeights(_unreachable(title, offline))
    if isinstance(error, errors.RepositoryNotFoundError | errors.EntryNotFoundError):
        return MissingWeights(
            f"{title} is not on {endpoint}; fetch the file by hand and run `cmet models convert FILE`."
        )
    # the library under the hub's client changes with its version, so its errors are known by where they come from
    library = type(error).__module__.partition(".")[0].rstrip("2")
    network = library in ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub", "hf_xet")
    if network or isinstance(error, ConnectionError | TimeoutError):
        return MissingWeights(_unreachable(title, offline))
    return disk_error(folder, error) if isinstance(error, OSError) else None


def _unreachable(title: str, offline: bool) -> str:
    if offline:
        return f"{title} is not on this machine and HF_HUB_OFFLINE forbids downloading; unset it or convert a file fetched by hand."
    return (
        f"{title} could not be downloaded; check the connection (HTTPS_PROXY, HF_ENDPOINT for a mirror) and run the command "
        "again, it goes on where it stopped."
    )


def _bar(stage: str, progress: Progress | None) -> Any:
    """The hub's progress bar, turned into calls of `progress`."""
    from huggingface_hub.utils import tqdm

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
            f"{title} needs {amount(size * 2)} of space while it is converted, and {folder} has {amount(free)}; free some, or "
            "set CMET_MODELS to another disk."
        )


def _discard(path: Path, folder: Path) -> None:
    """Remove a download with the file its link points to."""
    with contextlib.suppress(OSError):
        target = path.resolve()
        path.unlink()
        if target != path and target.is_relative_to(folder.resolve()):
            target.unlink()


def convert(
    path: str | Path, *, expected: str | None = None, accept_licence: bool = False, force: bool = False
) -> list[Weights]:
    """Convert a published file that was fetched by hand.

    Args:
        path: `EDTalk.pt`, `Audio2Lip.pt`, the connector's `.pth`, emotion2vec's `model.pt`; or one of EDTalk's expression
            presets (`happy.npy`), or the folder that holds them; the files of LivePortrait and PerformRecast.
        expected: name of the network it must be; None takes what it is.
        accept_licence: the user has accepted the licence just now (needed the first time, where weights cannot be pulled).
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
    return [_convert(path, str(path.resolve()), None, expected, None, accept_licence=accept_licence, force=force)]


def _convert(
    path: Path,
    source: str,
    source_sha256: str | None,
    expected: str | None,
    licence: str | None,
    *,
    accept_licence: bool = False,
    force: bool = True,
) -> Weights:
    from safetensors.torch import save_file

    from cmet_engine.models.checkpoints import identify, read
    from cmet_engine.models.spectral import without_spectral_norm

    network, state = identify(path, read(path), expected)
    if package_of(network.name).by_hand:
        _check_accepted(package_of(network.name), accept_licence, f"cmet models convert {path}")
    if network.spectral:
        state = without_spectral_norm(state)
    if not force and stored(network.name) is not None:
        raise InvalidInput(f"The weights of {network.title} are there already; add --force to replace them.")
    weights = Weights(
        network.name,
        "",
        0,
        source,
        source_sha256 or sha256(path),
        licence or package_of(network.name).licence.name,
        models_folder() / f"{network.name}.safetensors",
    )
    return write(weights, lambda target: save_file(state, target, metadata={"network": network.name}))


def write(weights: Weights, save: Callable[[Path], None]) -> Weights:
    """Save converted weights and their record, both whole or not at all."""
    folder = made(weights.path.parent)
    try:
        with whole_file(weights.path, force=True) as temporary:
            save(temporary)
            weights = replace(weights, sha256=sha256(temporary), size=temporary.stat().st_size)
        with whole_file(weights.path.with_suffix(".json"), force=True) as temporary:
            known = {key: value for key, value in asdict(weights).items() if key != "path"}
            temporary.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise disk_error(folder, error) from error
    except Exception as error:  # safetensors wraps the system's error in its own
        if "No space left" in str(error) or "os error 28" in str(error):
            raise CmetError(
                f"The disk that holds {folder} is full; free space or set CMET_MODELS to another disk."
            ) from error
        raise
    return weights


def _convert_presets(path: Path) -> Weights:
    from cmet_engine.models.checkpoints import read_preset

    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if not files:
        raise InvalidInput(f"The folder {path} holds no .npy files; give the folder of EDTalk's expression presets.")
    kept = load_presets() if (models_folder() / f"{PRESETS}.json").is_file() else {}
    presets = {**kept, **{file.stem: read_preset(file) for file in files}}
    digest = hashlib.sha256(b"".join(presets[name].tobytes() for name in sorted(presets))).hexdigest()
    target = models_folder() / f"{PRESETS}.safetensors"
    weights = Weights(PRESETS, "", 0, str(path.resolve()), digest, "Apache-2.0", target)
    return write(weights, lambda temporary: save_arrays(presets, temporary))
