"""The last layer of a connector fitted anew in closed form, after the published expressions (`emotion/facs.py`) were changed.

What the network knows of voices and of faces stays as it was learned. The layer that turns it into coefficients is a ridge
regression towards the weights it had, so that directions the data says nothing about keep their answer.
"""

import copy

import torch
from torch import Tensor

from cmet_engine.emotion.connector import Connector
from cmet_engine.progress import Progress, Stage
from cmet_engine.training.connector.batches import Batches

BATCHES = 60
"""Batches that the layer is fitted to: more hardly change it."""

RIDGE = 1e-3
"""Weight of the squared change of the layer's weights, beside the mean square of what it reads."""


def refit(network: Connector, batches: Batches, *, count: int = BATCHES, progress: Progress | None = None) -> Connector:
    """A copy of `network` whose last layer is fitted to `count` batches; see above."""
    fitted = copy.deepcopy(network).eval()
    layer = fitted.projector.projector[-1]
    assert isinstance(layer, torch.nn.Linear)
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    width = layer.in_features + 1
    gram, moment = (
        torch.zeros(width, width, dtype=torch.float64),
        torch.zeros(width, layer.out_features, dtype=torch.float64),
    )
    with torch.no_grad():
        for step in range(count):
            batch = batches(step)
            error = batch.emotional - batch.neutral - fitted(batch.reference, batch.speech, batch.neutral)
            hidden = read.pop().double().flatten(0, 1)
            hidden = torch.cat((hidden, torch.ones(len(hidden), 1, dtype=torch.float64)), 1)
            gram += hidden.T @ hidden
            moment += hidden.T @ error.double().flatten(0, 1)
            if progress:
                progress(Stage.TRAIN, step + 1, count)
        handle.remove()
        change = torch.linalg.solve(
            gram + RIDGE * gram.diagonal().mean() * torch.eye(width, dtype=torch.float64), moment
        )
        layer.weight += change[:-1].T.float()
        layer.bias += change[-1].float()
    return fitted
