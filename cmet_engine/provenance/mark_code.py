"""The code of the watermark: a 64-bit id to ±1 chips, and soft chips back to the id.

A check sum is appended to the id, and both go through a tail-biting convolutional code of rate 1/6 and constraint length 15
(generators: Cassini and Mars Pathfinder; CCSDS 101.0-B-6 has the family). Decoding is Viterbi's algorithm, some times around the ring.
"""

import functools

import numpy as np

ID_BITS = 64
CHECK_BITS = 8
MESSAGE = ID_BITS + CHECK_BITS
GENERATORS = (0o46321, 0o51271, 0o70535, 0o63667, 0o73277, 0o76513)
MEMORY = 14
STATES = 1 << MEMORY
CHIPS = MESSAGE * len(GENERATORS)
_ROUNDS = 3
_POLYNOMIAL = 0x2F  # CRC-8/AUTOSAR, Hamming distance 4 up to 119 bits
_START = 0xFF


def encode(number: int) -> np.ndarray:
    """The chips of an id, 0 to 2^64 - 1: float32 [CHIPS], 1 or -1."""
    message = number << CHECK_BITS | _check(number)
    bits = np.array([message >> (MESSAGE - 1 - i) & 1 for i in range(MESSAGE)])
    windows = bits[(np.arange(MESSAGE)[:, None] - np.arange(MEMORY + 1)) % MESSAGE]  # newest bit first
    taps = np.array([[g >> (MEMORY - i) & 1 for i in range(MEMORY + 1)] for g in GENERATORS])
    return (1 - 2 * (windows @ taps.T % 2)).astype(np.float32).ravel()


def decode(soft: np.ndarray) -> int | None:
    """The id that is most likely behind a reading; None where the check sum is wrong.

    Wrap-around Viterbi: each time around the ring begins with the metrics that the last one ended with, and the best path counts that
    ends in the state in which it began.

    Args:
        soft: float32 [CHIPS], the chips times a positive number, with noise.
    """
    numbers, signs = _trellis()
    gains = soft.reshape(MESSAGE, len(GENERATORS)).astype(np.float32) @ signs.T
    metric = np.zeros((2, STATES // 2), np.float32)  # of the lower and the upper states
    states = np.arange(STATES, dtype=np.int16).reshape(2, -1)
    best, message = -np.inf, 0
    for _ in range(_ROUNDS):
        begun, origin = metric.ravel(), states
        choices = np.empty((MESSAGE, STATES // 2, 2), bool)
        for gain, choice in zip(gains, choices, strict=True):
            low, high = metric
            more = gain[numbers]  # all generators begin and end with 1: one gain for four branches
            one, other = np.stack([low + more, low - more], 1), np.stack([high - more, high + more], 1)
            np.greater(other, one, out=choice)
            metric = np.maximum(one, other).reshape(2, -1)
            origin = np.where(choice, origin[1][:, None], origin[0][:, None]).reshape(2, -1)
        gained = np.where(origin == states, metric - begun.reshape(2, -1), -np.inf).ravel()
        if gained.max() > best:
            best, message = gained.max(), _read_back(choices.reshape(MESSAGE, STATES), int(gained.argmax()))
    number = message >> CHECK_BITS
    return number if _check(number) == message & (1 << CHECK_BITS) - 1 else None


def _read_back(choices: np.ndarray, state: int) -> int:
    """The message along the best path through choices, bool [MESSAGE, STATES], that ends in a state."""
    message = 0
    for step in range(MESSAGE - 1, -1, -1):
        message |= (state & 1) << (MESSAGE - 1 - step)
        state = state >> 1 | int(choices[step, state]) << (MEMORY - 1)
    return message


@functools.cache
def _trellis() -> tuple[np.ndarray, np.ndarray]:
    """The chips of the step into each even state from its lower parent, as numbers [STATES / 2]; the chips of a number [64, 6].

    A state holds the last 14 bits, the newest lowest.
    """
    window = np.arange(0, STATES, 2)
    numbers = np.zeros(STATES // 2, np.int64)
    for generator in GENERATORS:
        taken = window & int(f"{generator:015b}"[::-1], 2)
        for shift in (8, 4, 2, 1):
            taken = taken ^ taken >> shift
        numbers = numbers << 1 | taken & 1
    count = len(GENERATORS)
    signs = 1 - 2 * (np.arange(1 << count)[:, None] >> np.arange(count - 1, -1, -1) & 1)
    return numbers, signs.astype(np.float32)


def _check(number: int) -> int:
    """CRC-8 of an id."""
    rest = _START
    for byte in number.to_bytes(ID_BITS // 8, "big"):
        rest ^= byte
        for _ in range(8):
            rest = (rest << 1 ^ _POLYNOMIAL) & 0xFF if rest & 0x80 else rest << 1
    return rest
