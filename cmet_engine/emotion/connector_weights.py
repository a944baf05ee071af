"""The connector of 52 coefficients as a file: how it is written, and read for training and evaluation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cmet_engine.emotion.connector import Connector
from cmet_engine.errors import InvalidInput, MissingWeights
from cmet_engine.files import whole_file


@dataclass(frozen=True)
class ConnectorSize:
    """Sizes of a connector, see `Connector`; the defaults are the published network's for EDTalk's 10 codes."""

    expression_dim: int = 10
    speech_dim: int = 1024
    width: int = 1024
    layers: int = 4
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    base_channels: int = 4

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ConnectorSize":
        """The sizes among the settings of a training run.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{name: settings[name] for name in cls.__dataclass_fields__})

    def build(self) -> Connector:
        """A network of these sizes with fresh weights."""
        return Connector(
            self.expression_dim,
            speech_dim=self.speech_dim,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            base_channels=self.base_channels,
        )


def save_connector(
    network: Connector,
    settings: Mapping[str, Any],
    path: str | Path,
    figures: Mapping[str, Any],
    *,
    force: bool = False,
) -> None:
    """Write a trained connector as safetensors (float16), its settings and measured figures in the header.

    Args:
        network: of the sizes among `settings`.
        settings: every number of the training run.
        path: the file.
        figures: what was measured.
        force: replace an earlier file.

    Raises:
        CmetError: the file cannot be written, or is there already and `force` is off.
    """
    tensors = {
        k: (v.half() if v.dtype == torch.float32 else v).contiguous()
        for k, v in network.state_dict().items()
        if not k.endswith(".pe")  # the position tables follow from the sizes
    }
    with whole_file(path, force=force) as temporary:
        save_file(tensors, temporary, {"config": json.dumps(dict(settings)), "figures": json.dumps(dict(figures))})


def read_connector(path: str | Path) -> tuple[Connector, dict[str, Any], dict[str, Any]]:
    """A connector in evaluation mode, the settings that it was trained with, and its figures.

    Raises:
        CmetError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        settings = json.loads(header["config"])
        network = ConnectorSize.of(settings).build()
        tables = {k: v for k, v in network.state_dict().items() if k.endswith(".pe")}
        network.load_state_dict(
            {**tables, **{k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}}
        )
        return network.eval(), settings, json.loads(header.get("figures", "{}"))
    except FileNotFoundError as error:
        raise MissingWeights(f"The connector {path} is missing.") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{path.name} is not a connector that `cmet train connector` wrote.") from error
