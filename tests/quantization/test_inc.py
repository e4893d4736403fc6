"""What Neural Compressor is told, and SmoothQuant and 4-bit tables on PyTorch's side of it."""

import sys

import numpy as np
import pytest
import torch

from edgecompress.errors import StageError
from edgecompress.quantization.blocks import dequantize_blocks, quantize_block_table
from edgecompress.quantization.inc import Plan, check_excluded, import_inc, plan_from_json, quiet
from edgecompress.quantization.inc_embedding import BlockEmbedding, quantize_embeddings
from edgecompress.quantization.inc_graph import layer_path
from edgecompress.quantization.inc_smooth import EXTENSION, shared_inputs, smooth_linears


class Block(torch.nn.Module):
    """Three layers that read one input, one that reads what they give, one that nobody calls."""

    def __init__(self):
        super().__init__()
        self.query, self.key = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.value, self.out = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)
        self.idle = torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.out(self.query(x) * self.key(x) + self.value(x))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Block()

    def forward(self, x):
        return self.model(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def texts():
    torch.manual_seed(1)
    large = torch.tensor([50.0, 1, 1, 1, 1, 1, 1, 1])  # one channel that is always large
    return [(torch.randn(1, length, 8) * large,) for length in (3, 5, 4)]


def test_layers_that_read_one_tensor_share_a_scale(net, texts):
    assert shared_inputs(net, texts[0]) == {
        "model.query": ["model.query", "model.key", "model.value"],
        "model.out": ["model.out"],
    }


@pytest.mark.parametrize("alpha", [0.5, "auto"])
def test_smoothing_changes_no_answer_and_evens_the_channels_out(net, texts, alpha, capfd):
    expected = [net(*feed) for feed in texts]
    with quiet():
        alphas = smooth_linears(net, texts, alpha)
    for feed, before in zip(texts, expected, strict=True):
        assert torch.allclose(net(*feed), before, rtol=1e-4, atol=1e-4)
    assert set(alphas) == {"query", "out"}
    scale = net.model.query.input_scale
    assert torch.equal(net.model.query.input_scale, net.model.value.input_scale)
    if alpha == 0.5:
        assert alphas["query"] == 0.5
        assert scale[0] < scale[1:].min() / 3  # the large channel is divided by most
    assert capfd.readouterr() == ("", "")


def test_the_extension_is_not_left_loaded(net, texts):
    with quiet():
        smooth_linears(net, texts, 0.5)
    assert EXTENSION not in sys.modules  # Neural Compressor would change its int8 path


def test_an_activation_that_is_not_finite_is_named(net, texts):
    texts[1][0][0, 0, 0] = torch.inf
    with quiet(), pytest.raises(StageError, match=r"model\.query is not finite"):
        smooth_linears(net, texts, 0.5)


def test_4_bit_rows_are_those_of_the_block_kernels():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(30, 32), torch.nn.Embedding(9, 24))
    weight = model[0].weight.detach().clone()
    assert quantize_embeddings(model, 4, 16) == {}
    assert isinstance(model[0], BlockEmbedding)
    assert model[1].table.dtype == torch.int8  # 24 is no multiple of 16
    ids = torch.tensor([[3, 29, 0], [7, 7, 1]])
    expected = dequantize_blocks(quantize_block_table(weight.numpy(), 16))[ids.numpy()]
    assert np.array_equal(model[0](ids).numpy(), expected)


def test_a_plan_survives_its_record():
    plan = Plan("static", "minmax", "auto", ("a.b",))
    assert plan_from_json(plan.to_json()) == plan
    assert plan.name == "static minmax, smooth auto, 1 layers in fp32"
    with pytest.raises(StageError, match="no record"):
        plan_from_json({"scheme": "static"})
    with pytest.raises(StageError, match="not known"):
        plan_from_json(Plan("weird").to_json())


def test_a_plan_tells_neural_compressor_what_stays_fp32():
    with quiet():
        libraries = import_inc()
        config = Plan("static", exclude=("a.b",)).config(libraries, ["model.a.b"])
    assert config.act_algo == "kl"
    assert config.local_config["model.a.b"].w_dtype == "fp32"


def test_an_unknown_layer_is_refused_with_the_nearest():
    with pytest.raises(StageError, match=r"'encoder.query'; did you mean 'encoder.query0'"):
        check_excluded(["encoder.query"], ["encoder.query0", "out"])


def test_a_smoothed_layer_keeps_its_name():
    assert layer_path("a.query.sq_linear.weight") == "a.query.weight"
