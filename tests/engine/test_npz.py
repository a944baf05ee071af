"""NumPy's files are read in several threads at once without Python taking that for a fault."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cmet_engine.npz import load_array, load_arrays


class Garbage:
    """Let go by the collector, which then runs Python: another thread may go on while a header is parsed."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(range(50))


@pytest.fixture
def busy_collector() -> Iterator[None]:
    switch, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    yield
    sys.setswitchinterval(switch)
    gc.set_threshold(*threshold)


def test_files_are_read_in_several_threads(tmp_path, busy_collector):
    many = {f"array{n}": np.arange(n) for n in range(10)}
    np.savez(tmp_path / "many.npz", **many)
    np.save(tmp_path / "one.npy", np.arange(7))
    faults: list[BaseException] = []

    def deep(calls: int, work: Callable[[], None]) -> None:
        return deep(calls - 1, work) if calls else work()

    def read() -> None:
        try:
            for _ in range(15):
                Garbage()
                found = load_arrays(tmp_path / "many.npz")
                assert all((found[name] == value).all() for name, value in many.items())
                assert (load_array(tmp_path / "one.npy") == np.arange(7)).all()
        except (SystemError, AssertionError) as error:
            faults.append(error)

    threads = [threading.Thread(target=deep, args=(30 * number, read)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
