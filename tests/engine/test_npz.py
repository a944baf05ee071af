"""NumPy's files are read in several threads at once without Python taking that for a fault."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cmet_engine.npz import load_array, load_arrays


def test_files_are_read_in_several_threads(tmp_path):
    many = {f"array{n}": np.arange(n) for n in range(40)}
    np.savez(tmp_path / "many.npz", **many)
    np.save(tmp_path / "one.npy", np.arange(7))
    switch, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)  # what lets another thread in while a header is parsed
    try:
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda _: load_arrays(tmp_path / "many.npz"), range(12)))
            single = list(pool.map(lambda _: load_array(tmp_path / "one.npy"), range(12)))
    finally:
        sys.setswitchinterval(switch)
        gc.set_threshold(*threshold)
    for found in read:
        assert found.keys() == many.keys() and all((found[name] == value).all() for name, value in many.items())
    assert all((one == np.arange(7)).all() for one in single)
