"""What the engine's tests share: the reference values of the published networks, where they are there."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class Reference:
    """Key names, stand-in weights and golden values of the published networks."""

    def __init__(self, folder: Path):
        self.folder = folder

    def golden(self, name: str) -> Any:
        return np.load(self.folder / f"golden_{name}.npz")

    def keys(self, network: str) -> dict[str, list[int]]:
        return json.loads((self.folder / "state_dict_keys.json").read_text())[network]

    def fill(self, state: dict, scale: float, unit: tuple[str, ...] = ()) -> dict:
        return self._seeded.fill(state, scale, unit=unit)

    @property
    def _seeded(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("seeded_weights", self.folder / "seeded_weights.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def relative_error(value: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference in units of the golden value's standard deviation."""
    assert value.shape == golden.shape
    return float(np.abs(np.asarray(value, np.float64) - golden).max() / golden.astype(np.float64).std())


@pytest.fixture(scope="session")
def reference(shared: Path) -> Reference:
    if not (shared / "reference" / "golden_cmet.npz").is_file():
        pytest.skip("needs the reference values beside the project (../shared/reference)")
    return Reference(shared / "reference")


@pytest.fixture(scope="session")
def error_of():  # a fixture, so that no test has to import this file
    return relative_error
