"""Reading safetensors: the one place that opens such a file, as numpy arrays or as torch tensors.

A safetensors file holds numbers and text only, so that nothing in it can run. numpy arrays are read without torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from cmet_engine.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    import torch


def read_arrays(
    path: str | Path, broken: str | None = None, *, form: str | None = None, unlike: str = "cannot be used here"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file by name, and its metadata.

    Args:
        path: of the file.
        broken: what to say when the file is missing or damaged; None names the file.
        form: the `format` that the metadata must name; None takes any.
        unlike: what is said of a file of another format, after its name.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is damaged, or of another format.
    """
    return _read(path, "np", broken, form, unlike)


def read_tensors(
    path: str | Path, broken: str | None = None, *, form: str | None = None, unlike: str = "cannot be used here"
) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """The same as `read_arrays`, as tensors on the CPU."""
    return _read(path, "pt", broken, form, unlike)


def _read(
    path: str | Path, framework: str, broken: str | None, form: str | None, unlike: str
) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework) as file:
            metadata = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise NotFound(broken or f"There is no file {path}; check its name.") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise InvalidInput(broken or f"{path} is damaged or no safetensors file; get it again.") from error
    if form is not None and metadata.get("format") != form:
        raise InvalidInput(f"{Path(path).name} {unlike} (format '{metadata.get('format')}').")
    return values, metadata
