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
        training_only: beginnings of the tensor names that are not used; such tensors are dropped.
        spectral: its kernels are stored with the vectors of their spectral norm, which conversion divides out.
    """

    name: str
    title: str
    training_only: tuple[str, ...] = ()
    spectral: bool = False

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
        Network("liveportrait_appearance", "LivePortrait's appearance network"),
        Network("liveportrait_motion", "LivePortrait's motion network"),
        Network("liveportrait_warping", "LivePortrait's warping network"),
        Network("liveportrait_decoder", "LivePortrait's decoder", spectral=True),
        # its file holds networks for lips and eyes too
        Network("liveportrait_stitching", "LivePortrait's stitching network", ("retarget_",)),
        Network("performrecast_appearance", "PerformRecast's appearance network"),
        Network("performrecast_motion", "PerformRecast's motion network"),
        Network("performrecast_warping", "PerformRecast's warping network"),
        Network("performrecast_decoder", "PerformRecast's decoder", spectral=True),
    )
}
