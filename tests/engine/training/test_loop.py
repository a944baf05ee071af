"""The one training loop: resumed bit for bit, averaged, refused where a checkpoint is of another run."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from cmet_engine.errors import CmetError
from cmet_engine.training.loop import TOTAL, Checkpoint, LearningRate, Loop, warm_cosine

STEPS = 8


def loop(path=None, *, config=None, data=0.0, average=0.9, target=1.0, progress=None):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)

    def batches(step):
        return torch.from_numpy(np.random.default_rng(step).normal(size=(16, 4)).astype(np.float32))

    def objective(_, batch):
        return {TOTAL: (network(batch) - target).square().mean()}

    checkpoint = path and Checkpoint(path, config or {"steps": STEPS}, torch.tensor([data]), 2, "losses")
    rate = LearningRate(optimiser, warm_cosine(1e-2, warmup=2, steps=STEPS))
    return Loop(
        network, optimiser, rate, batches, objective, (TOTAL,), STEPS, average=average, checkpoint=checkpoint,
        progress=progress,
    )  # fmt: skip


class KilledError(Exception):
    pass


def kill(_, done, __):
    if done == 5:
        raise KilledError


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    whole = loop()
    whole.run()
    with pytest.raises(KilledError):
        loop(tmp_path / "run.pt", progress=kill).run()
    resumed = loop(tmp_path / "run.pt")
    resumed.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert resumed.losses == whole.losses
    with (tmp_path / "losses.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(step) for step in range(1, STEPS + 1)]
    assert "<polyline" in (tmp_path / "losses.svg").read_text()


def test_the_average_lies_behind_the_weights():
    last = loop(average=None)
    last.run()
    averaged = loop(average=0.9)
    averaged.run()
    one, other = (run.network[0].weight.detach() for run in (last, averaged))
    start = loop().network[0].weight.detach()
    assert 0 < (other - start).norm() < (one - start).norm()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    loop(path).run(until=2)
    with pytest.raises(CmetError, match=r"run\.pt belongs to a run with another configuration"):
        loop(path, config={"steps": 9}).run()
    with pytest.raises(CmetError, match=r"run\.pt belongs to a run on other data"):
        loop(path, data=1.0).run()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CmetError, match="damaged"):
        loop(path).run()


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(CmetError, match="not a number at step 0"):
        loop(target=float("nan")).run()


def test_the_rate_rises_and_falls():
    rate = warm_cosine(2.0, warmup=4, steps=100, final=0.1)
    assert [rate(step) for step in (0, 1, 3)] == [0.5, 1.0, 2.0]
    assert rate(50) == pytest.approx(1.1) and rate(100) == rate(200) == pytest.approx(0.2)
    assert warm_cosine(2.0, warmup=0, steps=100)(99) == 2.0
