"""The published networks: what they are called, and the names and shapes of their tensors.

The shapes are a table, `assets/published_networks.json`, so that a file is identified without building a network.
`python tests/engine/models/published_networks.py` writes the table anew from the networks.
"""

import functools
from dataclasses import dataclass

from cmet_engine.files import read_json
from cmet_engine.models.assets import asset

TABLE = "published_networks.json"


@dataclass(frozen=True)
class Network:
    """A published network.

    Attributes:
        name: file name of the converted weights.
        title: what to call it in a sentence.
        training_only: beginnings of the tensor names that only training uses; such tensors are dropped.
    """

    name: str
    title: str
    training_only: tuple[str, ...] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its tensors."""
        return _table()[self.name]


@functools.cache
def _table() -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        network: {name: tuple(shape) for name, shape in shapes.items()}
        for network, shapes in read_json(asset(TABLE)).items()
    }


NETWORKS = {
    network.name: network
    for network in (
        Network("connector", "the C-MET connector"),
        Network("edtalk_generator", "the EDTalk generator"),
        Network("audio2lip", "Audio2Lip"),
        # the published file also keeps its decoder and more of its training, under names that are not documented
        Network("emotion2vec_plus_large", "emotion2vec+ large", ("",)),
    )
}
