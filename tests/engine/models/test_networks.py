"""The table of the published networks' tensors is what our modules, and the published files, hold."""

import subprocess
import sys

import pytest
from published_networks import MAKERS, shapes

from cmet_engine.models.networks import NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
def test_the_table_is_what_our_modules_hold(network):
    assert set(NETWORKS) == set(MAKERS)
    table = {name: list(shape) for name, shape in NETWORKS[network].shapes().items()}
    assert list(table.items()) == list(shapes(network).items())


@pytest.mark.parametrize("network", ["connector", "edtalk_generator", "audio2lip"])
def test_the_table_is_what_the_published_files_hold(network, reference):
    assert {name: list(shape) for name, shape in NETWORKS[network].shapes().items()} == reference.keys(network)


def test_the_list_of_models_needs_no_torch():
    program = "import sys; from cmet_engine.models import registry; print(len(list(registry.describe()))); assert 'torch' not in sys.modules"
    assert subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip() == str(len(NETWORKS))
