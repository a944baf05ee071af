"""Names and shapes of the published networks' tensors, from our modules.

python tests/engine/models/published_networks.py writes them to cmet_engine/assets/published_networks.json and records its checksum.
"""

import json

import torch

from cmet_engine.emotion.connector import Connector
from cmet_engine.models.assets import ASSETS, record
from cmet_engine.models.networks import TABLE
from cmet_engine.render.edtalk import Audio2Lip, Generator
from cmet_engine.render.liveportrait.networks import (
    AppearanceExtractor,
    Decoder,
    MotionExtractor,
    Stitching,
    TokenAppearanceExtractor,
    WarpingNetwork,
)


def emotion2vec() -> torch.nn.Module:
    from cmet_engine.emotion.emotion2vec import Emotion2vec  # brings transformers, which takes seconds

    return Emotion2vec()


MAKERS = {
    "connector": Connector,
    "edtalk_generator": Generator,
    "audio2lip": Audio2Lip,
    "emotion2vec_plus_large": emotion2vec,
    "liveportrait_appearance": AppearanceExtractor,
    "liveportrait_motion": MotionExtractor,
    "liveportrait_warping": WarpingNetwork,
    "liveportrait_decoder": Decoder,
    "liveportrait_stitching": Stitching,
    "performrecast_appearance": TokenAppearanceExtractor,
    "performrecast_motion": lambda: MotionExtractor(49, 3),
    "performrecast_warping": lambda: WarpingNetwork(49),
    "performrecast_decoder": Decoder,
}


def shapes(network: str) -> dict[str, list[int]]:
    """Name and shape of every tensor, in the order of the state dict."""
    with torch.device("meta"):
        return {name: list(value.shape) for name, value in MAKERS[network]().state_dict().items()}


if __name__ == "__main__":
    networks = (
        f"{json.dumps(network)}: {{\n"
        + ",\n".join(
            f"{json.dumps(name)}:{json.dumps(shape, separators=(',', ':'))}" for name, shape in shapes(network).items()
        )
        + "\n}"
        for network in MAKERS
    )
    (ASSETS / TABLE).write_text("{\n" + ",\n".join(networks) + "\n}\n", "utf-8")
    print(record(TABLE), TABLE)
