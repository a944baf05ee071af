"""Reading published checkpoint files without ever running what is in them, and identifying the network they hold.

A `.pt` or `.pth` file is a pickle, and a pickle is a program. `read` lets that program build tensors and plain
containers. Objects of any other class (an `argparse.Namespace` of training options, an OmegaConf node) become inert
placeholders: nothing of their class is called, and nothing reads them. A pickle that calls
anything else (`os.system`, `eval`, an unknown function) is refused.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from cmet_engine.errors import InvalidInput, NotFound
from cmet_engine.models.networks import NETWORKS, Network
from cmet_engine.models.tensors import read_tensors
from cmet_engine.npz import load_array

_ZIP_MAGIC = b"PK\x03\x04"
_PREFIXES = (
    "module.",
    "d2v_model.",
    "model.",
    "retarget_shoulder_module.",
    "retarget_shoulder.module.",
)  # what training wrappers put before the names of a network
_LIKENESS = 0.5  # share of a network's tensors above which a file "looks like" it


class Refused(pickle.UnpicklingError):
    """The pickle wants to call something that is not needed for weights."""


class _Inert(type):
    """A class whose instances can be made by `__new__` alone; calling it is what a harmful pickle would do."""

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        raise Refused(cls.__name__)


def _placeholder(name: str) -> type:
    def ignore(self: object, *args: object) -> None:
        del self, args

    methods = dict.fromkeys(("__setstate__", "__setitem__", "append", "extend", "add", "update"), ignore)
    return _Inert(name, (), {**methods, "__new__": lambda cls, *args: object.__new__(cls), "__reduce__": None})


def _allowed() -> dict[str, Any]:
    """The globals a checkpoint needs, by full name; each only builds plain data from its arguments."""
    names: dict[str, Any] = {
        "collections.OrderedDict": collections.OrderedDict,
        "torch.Size": torch.Size,
        "torch.device": torch.device,
        "torch.serialization._get_layout": _behind(torch.serialization._get_layout),
        "builtins.set": set,
        "builtins.frozenset": frozenset,
        "builtins.complex": complex,
        "builtins.slice": slice,
    }
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        names[f"torch._utils.{name}"] = _behind(getattr(torch._utils, name))
    for name, value in vars(torch).items():
        if isinstance(value, torch.dtype):
            names[f"torch.{name}"] = value
    return names


def _behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of its own that calls another: a pickle may set attributes of what it is given."""
    return lambda *args: function(*args)


def _unpickler() -> type[pickle.Unpickler]:
    allowed = _allowed()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{module.replace('__builtin__', 'builtins')}.{name}"
            return allowed[full] if full in allowed else _placeholder(full)

    return Unpickler


def read(path: str | Path) -> Any:
    """The content of a checkpoint: nested plain containers with tensors; anything else is an inert placeholder.

    Args:
        path: a `.safetensors` file, or a file written by `torch.save`.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is truncated or no checkpoint, or its pickle wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"There is no file {path}; give the path of a checkpoint.")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty; download it again.")
    if path.suffix == ".safetensors":
        return read_tensors(path, f"{path} is cut off or damaged; download or convert it again.")[0]
    with path.open("rb") as file:
        zipped = file.read(4) == _ZIP_MAGIC
    if zipped:
        _check_archive(path)
    broken = InvalidInput(
        f"{path} is damaged or no checkpoint; compare its size with the published one and download it again."
    )
    try:
        # torch's own restricted reader first; it takes most files
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError:
        pass  # the file holds more than tensors
    except Exception as error:  # a damaged pickle is a random program and may fail in any way
        raise broken from error
    module = SimpleNamespace(Unpickler=_unpickler(), load=_load, __name__="restricted pickle")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module, mmap=zipped)
    except Refused as error:
        raise InvalidInput(
            f"{path} wants to run code when it is opened (it calls {error}), so it was refused; get the file from its publisher."
        ) from error
    except Exception as error:
        raise broken from error


def _load(file: Any, **options: Any) -> Any:
    """What torch calls for the parts of an old-style file that precede the tensors."""
    return _unpickler()(file, **options).load()


def _check_archive(path: Path) -> None:
    """A truncated archive has lost its table of contents, which lies at the end; TorchScript is a program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            end = max((info.header_offset + info.compress_size for info in archive.infolist()), default=0)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is cut off or damaged; download it again.") from error
    if end > path.stat().st_size:
        raise InvalidInput(f"{path} is cut off; download it again.")
    if any(name.endswith("/constants.pkl") for name in names):
        raise InvalidInput(f"{path} is a TorchScript program, not a file of weights; get the original checkpoint.")


def state_dicts(content: Any) -> dict[str, dict[str, torch.Tensor]]:
    """The groups of named tensors in a checkpoint, by where they lie in it ("" for the top)."""
    found: dict[str, dict[str, torch.Tensor]] = {}

    def search(value: Any, place: str, depth: int) -> None:
        if not isinstance(value, Mapping):
            return
        tensors = {name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, torch.Tensor)}
        if tensors:
            found[place] = tensors
        if depth < 3:
            for name, inner in value.items():
                if isinstance(name, str):
                    search(inner, f"{place}.{name}" if place else name, depth + 1)

    search(content, "", 0)
    return found


# Networks of the same field that are easily taken for one of ours: tensors that give them away.
_OTHERS = (
    ("Wav2Lip", ("face_encoder_blocks.0.0.conv_block.0.weight",)),
    ("the lip-sync expert SyncNet", ("face_encoder.0.conv_block.0.weight", "audio_encoder.0.conv_block.0.weight")),
    (
        "EDTalk's lip and pose generator without expression",
        ("direction_lipnonlip.weight", "enc.net_app.convs.0.0.weight"),
    ),
    ("LIA", ("dec.direction.weight", "enc.net_app.convs.0.0.weight")),
    ("EDTalk's discriminator", ("final_linear.0.weight", "convs.0.0.weight")),
    ("GFPGAN", ("stylegan_decoder.style_mlp.1.weight",)),
    ("a StyleGAN2 generator", ("style.1.weight", "to_rgb1.conv.weight")),
)


def identify(path: str | Path, content: Any, expected: str | None = None) -> tuple[Network, dict[str, torch.Tensor]]:
    """Find the network whose weights a checkpoint holds.

    Args:
        path: the file, for messages.
        content: from `read`.
        expected: name of the network it is meant for, or None for any.

    Returns:
        The network and its complete state dict, with the network's own names, in float32 or integers.

    Raises:
        InvalidInput: no network of ours, another one than expected, or one with missing, surplus or misshapen tensors or with
            numbers that are not finite; the sentence says what the file looks like.
    """
    groups = state_dicts(content)
    if not groups:
        raise InvalidInput(f"{path} holds no tensors; give a checkpoint of {_listed(NETWORKS.values())}.")
    best: tuple[float, Network, dict[str, torch.Tensor], str] | None = None
    # two networks may share their names and shapes: the expected one goes first
    for network in sorted(NETWORKS.values(), key=lambda network: network.name != expected):
        shapes = network.shapes()
        for tensors in groups.values():
            named = _stripped(tensors, shapes)
            share = sum(tuple(named[name].shape) == shape for name, shape in shapes.items() if name in named) / len(
                shapes
            )
            if best is None or share > best[0]:
                best = (share, network, named, _difference(named, shapes, network))
    assert best is not None
    share, network, named, difference = best
    other = next((name for name, signs in _OTHERS if any(_has(t, signs) for t in groups.values())), None)
    if share < _LIKENESS or (difference and other):
        looks = f"looks like {other}" if other else f"is unknown (its tensors begin with {_first(groups)})"
        wanted = NETWORKS[expected].title if expected else _listed(NETWORKS.values())
        raise InvalidInput(f"{path} {looks}; wanted is a checkpoint of {wanted}.")
    if expected and network.name != expected:
        raise InvalidInput(f"{path} looks like {network.title}, but {NETWORKS[expected].title} is wanted here.")
    if difference:
        raise InvalidInput(f"{path} looks like {network.title}, but {difference}; get the published file.")
    return network, _checked(path, network, named)


def _stripped(tensors: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Without the prefixes of training wrappers, if that makes the names known."""
    for prefix in ("", *_PREFIXES):
        named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if any(name in named for name in shapes):
            return named
    return tensors


def _difference(tensors: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]], network: Network) -> str:
    """What keeps the tensors from being the network's, in words; empty if nothing does."""
    missing = [name for name in shapes if name not in tensors]
    if missing:
        return f"{len(missing)} of {len(shapes)} tensors are missing (first: {missing[0]})"
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            return f"{name} has the shape {list(tensors[name].shape)} instead of {list(shape)}"
    surplus = [name for name in tensors if name not in shapes and not name.startswith(network.training_only or "\0")]
    return f"it holds {len(surplus)} tensors too many (first: {surplus[0]})" if surplus else ""


def _checked(path: str | Path, network: Network, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {}
    for name in network.shapes():
        value = tensors[name].detach()
        if torch.is_floating_point(value):
            value = value.float()
            if not torch.isfinite(value).all():
                raise InvalidInput(f"{path}: {name} holds numbers that are not finite; download the file again.")
        state[name] = value.contiguous()
    return state


def _has(tensors: dict[str, torch.Tensor], signs: tuple[str, ...]) -> bool:
    return all(any(prefix + sign in tensors for prefix in ("", *_PREFIXES)) for sign in signs)


def _first(groups: dict[str, dict[str, torch.Tensor]]) -> str:
    largest = max(groups.values(), key=lambda tensors: len(tensors))
    return ", ".join(list(largest)[:2])


def _listed(networks: Iterable[Network]) -> str:
    titles = [network.title for network in networks]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def read_preset(path: str | Path) -> np.ndarray:
    """One of EDTalk's expression presets: float32 [10] from an `.npy` file of shape [1, 10] or [10].

    Raises:
        InvalidInput: not such a file.
    """
    try:
        values = load_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is no .npy file of numbers; give one of EDTalk's expression presets.") from error
    if not isinstance(values, np.ndarray) or values.size != 10 or not np.isfinite(values).all():
        raise InvalidInput(f"{path} does not hold 10 finite numbers; give one of EDTalk's expression presets.")
    return values.astype(np.float32).reshape(10)
