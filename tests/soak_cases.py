"""Repetitions of one path over formats and numbers: the ordinary run takes a few of them, `make soak` all."""

from collections.abc import Iterable
from typing import Any

import pytest


def soak(*cases: Any) -> list[Any]:
    """Parameters that only `make soak` runs; a tuple is the values of several arguments."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak) for case in cases]


def mostly_soak(cases: Iterable[Any], every: int) -> list[Any]:
    """Parameters of which the ordinary run takes each `every`-th, and `make soak` all."""
    return [case for n, case in enumerate(cases) for case in ([case] if n % every == 0 else soak(case))]
