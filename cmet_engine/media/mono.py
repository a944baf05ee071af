"""Several channels of sound as one."""

import numpy as np

_OPPOSED = -0.5  # correlation below which channels cancel in their mean: it then has less than a quarter of their power
_ALIKE = 0.25  # power of a channel beside the loudest from which on it can cancel it
_SHARE = 0.25  # of the power, in moments where channels cancel, from which on their mean is not used


class Mono:
    """Mixes channels to their mean as they come, and finds out whether they cancel in it.

    A microphone that is wired the wrong way round gives the same voice with the opposite sign: nothing of it is left in the mean.

    Args:
        rate: samples a second.
        channel: take this one alone; None takes the mean.
    """

    def __init__(self, rate: int, channel: int | None = None) -> None:
        self._rate, self._channel = rate, channel
        self._waiting: list[np.ndarray] = []
        self._count = 0
        self._power = np.zeros(0)  # of every channel
        self._all = self._opposed = 0.0  # power of the loudest channels, in all and where others cancel them

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Samples float32 [C, S] as one channel [S]."""
        if self._channel is not None:
            return samples[min(self._channel, len(samples) - 1)]
        if len(samples) > 1:
            if self._waiting and len(self._waiting[0]) != len(samples):
                self._look()
            self._waiting.append(samples)
            self._count += samples.shape[1]
            if self._count >= self._rate:
                self._look()
        return samples.mean(0)

    def channel(self) -> int | None:
        """The loudest channel, where the mean must not be used; else None."""
        if self._waiting:
            self._look()
        return int(self._power.argmax()) if self._opposed > _SHARE * self._all else None

    def _look(self) -> None:
        """Compare the channels over about a second."""
        block = np.concatenate(self._waiting, 1).astype(np.float64)
        self._waiting, self._count = [], 0
        covariance = np.atleast_2d(np.cov(block, bias=True)) * block.shape[1]
        power = np.diag(covariance)
        if not np.isfinite(power).all() or power.max() <= 0:
            return
        loud = power >= _ALIKE * power.max()
        scale = np.sqrt(power[loud])
        opposed = (covariance[np.ix_(loud, loud)] / np.outer(scale, scale) < _OPPOSED).any()
        self._all += power.max()
        self._opposed += power.max() * opposed
        if len(self._power) < len(power):
            self._power = np.pad(self._power, (0, len(power) - len(self._power)))
        self._power[: len(power)] += power
