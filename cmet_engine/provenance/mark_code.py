"""The code of the watermark: a 64-bit id to ±1 chips, and soft chips back to the id.

A check sum is appended to the id, and both go through a tail-biting convolutional code of rate 1/6 and constraint length 15
(generators: Cassini and Mars Pathfinder; CCSDS 101.0-B-6 has the family). Decoding is Viterbi's algorithm, twice around the ring.
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
_POLYNOMIAL = 0x2F  # CRC-8/AUTOSAR, Hamming distance 4 up to 119 bits
_START = 0xFF


def message_of(number: int) -> int:
    """An id, 0 to 2^64 - 1, with its check sum behind it."""
    return number << CHECK_BITS | _check(number)


def id_of(message: int) -> int | None:
    """The id in a message; None where the check sum is wrong."""
    number = message >> CHECK_BITS
    return number if message_of(number) == message else None


def encode(message: int) -> np.ndarray:
    """The chips of a message, float32 [CHIPS], 1 or -1."""
    bits = np.array([message >> (MESSAGE - 1 - i) & 1 for i in range(MESSAGE)])
    windows = bits[(np.arange(MESSAGE)[:, None] - np.arange(MEMORY + 1)) % MESSAGE]  # newest bit first
    taps = np.array([[g >> (MEMORY - i) & 1 for i in range(MEMORY + 1)] for g in GENERATORS])
    return (1 - 2 * (windows @ taps.T % 2)).astype(np.float32).ravel()


def decode(soft: np.ndarray) -> list[int]:
    """The messages that are most likely behind several readings, each on its own; whether they are right is `id_of`'s to say.

    Args:
        soft: float32 [K, CHIPS], the chips times a positive number, with noise.

    Returns:
        K messages.
    """
    steps = np.ascontiguousarray(soft.T, np.float32).reshape(MESSAGE, len(GENERATORS), -1)
    numbers, signs = _trellis()
    half = STATES // 2
    metric = np.zeros((2, half, len(soft)), np.float32)  # of the lower and the upper states
    choices = np.empty((2 * MESSAGE, half, 2, len(soft)), bool)
    for step in range(2 * MESSAGE):
        gain = (signs @ steps[step % MESSAGE])[numbers]
        low, high = metric
        into = np.empty(
            (half, 2, len(soft)), np.float32
        )  # all generators begin and end with 1: one gain for four branches
        for bit, (one, other) in enumerate(((low + gain, high - gain), (low - gain, high + gain))):
            np.greater(other, one, out=choices[step, :, bit])
            np.maximum(one, other, out=into[:, bit])
        metric = into.reshape(2, half, -1)
    choices = choices.reshape(2 * MESSAGE, STATES, -1)
    best = metric.reshape(STATES, -1).argmax(0)
    return [_read_back(choices[..., k], int(state)) for k, state in enumerate(best)]


def _read_back(choices: np.ndarray, state: int) -> int:
    """The message along the best path through choices, bool [2 MESSAGE, STATES], that ends in a state."""
    message = 0
    for step in range(2 * MESSAGE - 1, -1, -1):
        if MESSAGE // 2 <= step < MESSAGE // 2 + MESSAGE:  # the middle, which knows what lies before and behind
            place = step % MESSAGE
            message |= (state & 1) << (MESSAGE - 1 - place)
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
