"""The published weights: where they come from, under which licence, and which of them are on this machine.

They are kept as safetensors in `models_folder()`, each beside a record of its source, its checksums and its licence.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmet_engine.errors import CmetError, InvalidInput, MissingWeights
from cmet_engine.files import read_json, user_folder, whole_file
from cmet_engine.models.assets import is_verified
from cmet_engine.models.networks import NETWORKS
from cmet_engine.models.tensors import read_arrays


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
        revision: of the repository; None is the newest.
        checksums: SHA-256 of files that are known by it, by their path.
        by_hand: where to fetch the files that cannot be pulled; `cmet models convert` takes them.
    """

    name: str
    about: str
    repository: str
    files: tuple[tuple[str, str], ...]
    megabytes: int
    licence: Licence
    revision: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    by_hand: str = ""


LIVEPORTRAIT = {
    "liveportrait/base_models/appearance_feature_extractor.pth": (
        "liveportrait_appearance", "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5",
    ),
    "liveportrait/base_models/motion_extractor.pth": (
        "liveportrait_motion", "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5",
    ),
    "liveportrait/base_models/warping_module.pth": (
        "liveportrait_warping", "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282",
    ),
    "liveportrait/base_models/spade_generator.pth": (
        "liveportrait_decoder", "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee",
    ),
    "liveportrait/retargeting_models/stitching_retargeting_module.pth": (
        "liveportrait_stitching", "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611",
    ),
}  # fmt: skip
"""Files on the hub: the network in each, and its SHA-256."""

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
        Package(
            "liveportrait",
            "LivePortrait, draws the edited face with 512 pixels",
            "KlingTeam/LivePortrait",
            tuple((file, network) for file, (network, _) in LIVEPORTRAIT.items()),
            522,
            Licence(
                "MIT licence (code and, as its card says, weights)", "https://huggingface.co/KlingTeam/LivePortrait"
            ),
            "82a4fa6735ca58432b6ce39301b4b9ee066dea47",
            {file: checksum for file, (_, checksum) in LIVEPORTRAIT.items()},
        ),
        Package(
            "performrecast",
            "PerformRecast, LivePortrait's architecture trained anew to edit film",
            "youku-aigc/PerformRecast",
            tuple(
                (f"performrecast/{file}.pth", f"performrecast_{network}")
                for file, network in (
                    ("appearance_feature_extractor", "appearance"),
                    ("motion_extractor", "motion"),
                    ("warping_module", "warping"),
                    ("spade_generator", "decoder"),
                )
            ),
            896,
            Licence(
                "MIT licence for the code; no licence names the weights, whose training used InsightFace and FLAME, partly for "
                "non-commercial research: ask the authors before other use",
                "https://github.com/youku-aigc/PerformRecast",
            ),
            by_hand="Google Drive, linked at https://github.com/youku-aigc/PerformRecast",
        ),
    )
}

PRESETS = "edtalk_presets"  # EDTalk's eight published expressions, converted from files of the user


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


def stored(name: str) -> Weights | None:
    """The converted weights of a network, or None where this machine has none.

    Raises:
        InvalidInput: their record is damaged.
    """
    path = models_folder() / f"{name}.json"
    if not path.is_file() or not path.with_suffix(".safetensors").is_file():
        return None
    damaged = f"{path} is damaged; delete it and pull or convert the weights again."
    try:
        return Weights(**read_json(path, damaged), path=path.with_suffix(".safetensors"))
    except TypeError as error:
        raise InvalidInput(damaged) from error


def is_here(name: str) -> bool:
    """Whether the published weights of a network are on this machine."""
    return stored(name) is not None


def package_of(name: str) -> Package:
    """The package that brings the network `name`."""
    return next(package for package in PACKAGES.values() if name in (network for _, network in package.files))


def missing(name: str) -> str:
    """The sentence to show when the published network `name` is not on this machine."""
    package = package_of(name)
    title = NETWORKS[name].title
    if package.by_hand:
        return (
            f"The published weights of {title} are not on this machine: fetch them from {package.by_hand} and run "
            f"`cmet models convert FILE --network {name}`."
        )
    return (
        f"The published weights of {title} are not on this machine: run `cmet models pull {package.name}` "
        f"(about {amount(package.megabytes * 10**6)}), or go on without them, the embedded models need no download."
    )


def path_of(name: str) -> Path:
    """Path of converted published weights, after their checksum was compared (once a process).

    Args:
        name: of `networks.NETWORKS`.

    Raises:
        MissingWeights: they are not there (with the command that brings them), or the file was changed.
    """
    weights = stored(name)
    if weights is None:
        raise MissingWeights(missing(name))
    if not is_verified(weights.path, weights.sha256):
        again = f"cmet models pull {package_of(name).name} --force" if name != PRESETS else "cmet models convert"
        raise MissingWeights(f"{weights.path} is damaged (its checksum differs); run `{again}` to get it again.")
    return weights.path


def load_presets() -> dict[str, np.ndarray]:
    """EDTalk's expression presets by name, each float32 [10]; empty if the user has converted none."""
    return read_arrays(path_of(PRESETS))[0] if stored(PRESETS) is not None else {}


def accepted(name: str) -> bool:
    """Whether the user has accepted the licence of a package, in its present wording, before."""
    return _licences().get(name, {}).get("licence") == PACKAGES[name].licence.name


def accept(name: str) -> None:
    """Record that the user accepts the licence of a package; asked once."""
    known = _licences()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known[name] = {"licence": PACKAGES[name].licence.name, "url": PACKAGES[name].licence.url, "accepted": now}
    made(models_folder())
    with whole_file(models_folder() / "licences.json", force=True) as path:
        path.write_text(json.dumps(known, indent=2) + "\n", "utf-8")


def _licences() -> dict[str, dict[str, str]]:
    path = models_folder() / "licences.json"
    with contextlib.suppress(CmetError):
        return read_json(path)
    return {}


def made(folder: Path) -> Path:
    """The folder, created where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    return folder


def disk_error(folder: Path, error: OSError) -> CmetError:
    """A failed write in words."""
    return CmetError(
        f"Cannot write to {folder}: {error.strerror or error}; free space or set CMET_MODELS to another disk."
    )


def amount(size: float) -> str:
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
            weights = stored(network)
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
    presets = stored(PRESETS)
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
