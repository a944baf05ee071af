"""The embedded connector in NumPy predicts what the torch network with the same weights predicts."""

import numpy as np
import pytest

from cmet_engine.emotion.connector import code_deltas
from cmet_engine.emotion.connector_weights import ConnectorSize, read_connector, save_connector
from cmet_engine.emotion.embedded_connector import CONNECTOR_FILE, EXPRESSION_SCALE, EmbeddedConnector, unit_vector
from cmet_engine.errors import CmetError
from cmet_engine.models.assets import asset


def given(emotions: int, frames: int, dim: int = 52, size: int = 13) -> tuple[np.ndarray, np.ndarray]:
    """Emotion vectors [E, `size`] and a track [N, D] as the network sees them."""
    rng = np.random.default_rng(frames)
    return unit_vector(rng.standard_normal((emotions, size))), EXPRESSION_SCALE * rng.random((frames, dim))


@pytest.mark.parametrize(("emotions", "frames"), [(1, 1), (2, 4), (1, 5), (7, 13), (2, 75)])
def test_it_equals_the_torch_network_with_the_embedded_weights(emotions, frames):
    vectors, codes = given(emotions, frames)
    deltas = EmbeddedConnector(asset(CONNECTOR_FILE)).deltas(vectors, codes)
    assert deltas.dtype == np.float32 and deltas.shape == (emotions, frames, 52)
    assert np.abs(deltas).max() > 1
    wanted = code_deltas(read_connector(asset(CONNECTOR_FILE))[0], vectors, codes)
    np.testing.assert_allclose(deltas, wanted, atol=2e-4)  # rounding grows from window to window


def test_it_reads_other_sizes(tmp_path):
    size = ConnectorSize(10, width=64, layers=1, heads=2, feedforward=32, base_channels=2)
    network = size.build()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_()
    save_connector(network, vars(size), tmp_path / "c.safetensors", {})
    vectors, codes = given(2, 12, 10, 1024)
    wanted = code_deltas(read_connector(tmp_path / "c.safetensors")[0], vectors, codes)
    np.testing.assert_allclose(EmbeddedConnector(tmp_path / "c.safetensors").deltas(vectors, codes), wanted, atol=5e-5)


@pytest.mark.parametrize(
    ("speech", "codes", "wanted"),
    [
        (np.zeros((1, 32)), np.zeros((5, 52)), "32 numbers"),
        (np.zeros((1, 13)), np.zeros((5, 10)), r"\(5, 10\)"),
        (np.zeros((1, 13)), np.full((5, 52), np.nan), "not finite"),
    ],
)
def test_wrong_input_is_named(speech, codes, wanted):
    with pytest.raises(CmetError, match=wanted):
        EmbeddedConnector(asset(CONNECTOR_FILE)).deltas(speech, codes)
