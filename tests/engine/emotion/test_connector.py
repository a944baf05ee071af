import numpy as np
import pytest
import torch

from cmet_engine.emotion.connector import Connector, code_deltas, edit_codes
from cmet_engine.emotion.embedded_connector import WINDOW
from cmet_engine.errors import CmetError

UNIT = ("norm1.weight", "norm2.weight", "Norm.weight", "speaker_encoder.norm.weight", "conv_block.1.weight")


def small(dim: int = 10, **sizes) -> Connector:
    torch.manual_seed(3)
    return Connector(
        dim, **{"width": 128, "layers": 2, "feedforward": 64, "speech_dim": 32, "base_channels": 4, **sizes}
    )


@pytest.fixture(scope="module")
def published(reference) -> Connector:
    connector = Connector()
    connector.load_state_dict(reference.fill(connector.state_dict(), 0.05, UNIT), strict=True)
    return connector.eval()


def test_keys_and_shapes_are_the_published_ones(reference):
    state = Connector().state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == reference.keys("connector")


def test_one_call_meets_the_golden_values(published, reference, error_of):
    golden = reference.golden("cmet")
    inputs = [torch.from_numpy(golden[name]) for name in ("conn_ref", "conn_e2v", "conn_neu")]
    with torch.no_grad():
        out = published(*inputs)
        tokens = published.encode_reference(inputs[0]), published.encode_speech(inputs[1])
        tokens += (published.encode_expression(inputs[2]),)
    assert out.shape == (2, 5, 10)
    assert error_of(out.reshape(-1, 10).numpy(), golden["conn_out"]) < 1e-4
    for value, name in zip(tokens, ("conn_ref_emb", "conn_e2v_emb", "conn_neu_emb"), strict=True):
        assert error_of(value.numpy(), golden[name]) < 1e-4


def test_the_window_loop_meets_the_golden_track_and_edits_the_tail_too(published, reference, error_of):
    golden = reference.golden("cmet")
    source = golden["track_neutral"]
    edited = edit_codes(published, golden["track_e2v"], source)
    assert edited.shape == source.shape == (17, 10)
    assert error_of(edited[:15], golden["track_edited"]) < 1e-4
    body, tail = np.abs(edited - source)[10:15].mean(), np.abs(edited - source)[15:].mean()
    assert 0.5 < tail / body < 2  # the frames that the published loop drops get a change of the same size


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 14, 15, 23])
def test_every_frame_of_any_length_is_edited_and_earlier_windows_do_not_depend_on_the_tail(frames):
    connector = small()
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((23, 10)).astype(np.float32)[:frames]
    speech = rng.standard_normal(32).astype(np.float32)
    edited = edit_codes(connector, speech, codes)
    assert edited.dtype == np.float32 and edited.shape == codes.shape and np.isfinite(edited).all()
    assert (np.abs(edited - codes).max(axis=1) > 1e-4).all()
    whole = frames - frames % WINDOW
    if whole:
        np.testing.assert_allclose(edited[:whole], edit_codes(connector, speech, codes[:whole]), atol=1e-5)


def test_several_emotions_at_once_equal_one_at_a_time():
    connector = small(52)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3, 32)).astype(np.float32)
    codes = rng.random((12, 52)).astype(np.float32)
    together = code_deltas(connector, vectors, codes)
    assert together.shape == (3, 12, 52)
    for vector, deltas in zip(vectors, together, strict=True):
        np.testing.assert_allclose(code_deltas(connector, vector, codes), deltas, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_batch_does_not_change_a_result_and_order_of_frames_matters():
    connector = small().eval()
    torch.manual_seed(0)
    reference, speech, expression = torch.randn(4, 5, 10), torch.randn(4, 1, 32), torch.randn(4, 5, 10)
    with torch.no_grad():
        whole = connector(reference, speech, expression)
        alone = torch.cat([connector(reference[i : i + 1], speech[i : i + 1], expression[i : i + 1]) for i in range(4)])
        backwards = connector(reference, speech, expression.flip(1)).flip(1)
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-4)
    assert (whole - backwards).abs().max() > 1e-4


def test_gradients_reach_every_parameter_that_takes_part():
    connector = small(52, base_channels=8, width=128).train()
    out = connector(torch.randn(3, 5, 52), torch.randn(3, 1, 32), torch.randn(3, 5, 52))
    out.square().sum().backward()
    for name, parameter in connector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert connector.fusion_transformer_encoder.modality.weight.grad[1:].abs().min(dim=1).values.max() > 0


def test_training_mode_is_left_as_it_was_and_torch_stays_torch():
    connector = small().train()
    codes = torch.randn(7, 10)
    first = edit_codes(connector, torch.randn(32), codes)
    assert isinstance(first, torch.Tensor) and connector.training
    vector = torch.randn(32)
    assert torch.equal(edit_codes(connector, vector, codes), edit_codes(connector, vector, codes))  # no dropout inside


@pytest.mark.parametrize(
    ("speech", "codes", "wanted"),
    [
        (np.zeros(1024), np.zeros((5, 10)), "1024 numbers"),
        (np.zeros(32), np.zeros((5, 52)), r"\(5, 52\)"),
        (np.zeros(32), np.full((5, 10), np.nan), "not finite"),
    ],
)
def test_wrong_input_is_named(speech, codes, wanted):
    with pytest.raises(CmetError, match=wanted):
        edit_codes(small(), speech.astype(np.float32), codes.astype(np.float32))


def test_a_width_that_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="width"):
        Connector(52, width=100)
