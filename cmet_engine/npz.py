"""Reading NumPy's files, one thread at a time.

NumPy reads their headers with `ast.literal_eval`, and in two threads at once Python 3.11 may take that for a fault of its own
(SystemError: AST constructor recursion depth mismatch).
"""

import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np

_READING = threading.Lock()


def load_arrays(file: Path | BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Raises:
        OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error: it is none, or damaged.
    """
    with _READING, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def load_array(file: str | Path) -> np.ndarray:
    """The array of an .npy file.

    Raises:
        OSError, ValueError, EOFError: it is none, or damaged.
    """
    with _READING:
        array: np.ndarray = np.load(file, allow_pickle=False)
    return array
