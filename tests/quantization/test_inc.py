"""What Neural Compressor is told, what is read from it, and SmoothQuant on PyTorch's side."""

import sys

import numpy as np
import pytest
import torch

from edgecompress.errors import StageError
from edgecompress.quantization.arithmetic.blocks import dequantize_blocks, quantize_block_table
from edgecompress.quantization.arithmetic.weights import dequantize
from edgecompress.quantization.inc.config import IncConfig, check_excluded
from edgecompress.quantization.inc.library import import_inc, quiet
from edgecompress.quantization.inc.observed import layer_path, observed_layers
from edgecompress.quantization.inc.smoothing import EXTENSION, shared_inputs, smooth_linears
from edgecompress.quantization.inc.source import round_tables


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
        groups = smooth_linears(net, texts, alpha)
    for feed, before in zip(texts, expected, strict=True):
        assert torch.allclose(net(*feed), before, rtol=1e-4, atol=1e-4)
    assert [group.paths for group in groups] == [("query", "key", "value"), ("out",)]
    factors = groups[0].factors
    assert torch.equal(net.model.query.input_scale, net.model.value.input_scale)
    assert np.allclose(net.model.query.input_scale, 1 / factors)
    if alpha == 0.5:
        assert groups[0].alpha == 0.5
        assert factors[0] > factors[1:].max() * 3  # the large channel is divided by most
    assert capfd.readouterr() == ("", "")


def test_the_extension_is_not_left_loaded(net, texts):
    with quiet():
        smooth_linears(net, texts, 0.5)
    assert EXTENSION not in sys.modules  # Neural Compressor would change its int8 path


def test_an_activation_that_is_not_finite_is_named(net, texts):
    texts[1][0][0, 0, 0] = torch.inf
    with quiet(), pytest.raises(StageError, match=r"model\.query is not finite"):
        smooth_linears(net, texts, 0.5)


def test_tables_are_rounded_as_they_will_be_stored():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(30, 32), torch.nn.Embedding(9, 24))
    with torch.no_grad():
        model[1].weight *= torch.logspace(-3, 3, 9)[:, None]
        model[1].weight[7] = 0
    blocks, rows = (part.weight.detach().clone() for part in model)
    round_tables(model, 4, 16)
    expected = dequantize_blocks(quantize_block_table(blocks.numpy(), 16))
    assert np.array_equal(model[0].weight.detach().numpy(), expected)
    error = (model[1].weight - rows).abs()  # 24 is no multiple of 16: a scale for each row
    assert (error <= rows.abs().amax(1, keepdim=True) / 127 * 0.5001).all()
    assert error.max() > 0


def test_a_tied_table_is_left_to_neural_compressor():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(9, 4)
            self.positions = torch.nn.Embedding(5, 4)
            self.head = torch.nn.Linear(4, 9)
            self.head.weight = self.words.weight

    model = Tied()
    before = model.words.weight.detach().clone(), model.positions.weight.detach().clone()
    round_tables(model, 8, 32)
    assert torch.equal(model.words.weight, before[0])
    assert not torch.equal(model.positions.weight, before[1])


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_what_is_read_from_the_converted_graph_is_what_it_computes(net, texts, scheme):
    del net.model.idle
    with quiet(), torch.no_grad():
        libraries = import_inc()
        config = IncConfig(scheme, exclude=("out",)).of_library(libraries, ["model.out"])
        length = torch.export.Dim.DYNAMIC
        graph = libraries["export"](net, texts[0], dynamic_shapes=(({1: length},)))
        graph = libraries["prepare"](graph, config)
        for feed in texts:
            graph(*feed)
        graph = libraries["convert"](graph)
    found = observed_layers(graph)
    assert set(found) == {"query", "key", "value"}
    for path, one in found.items():
        weight = net.model.get_submodule(path).weight.detach().numpy().T
        assert one.weight.values.dtype == np.int8
        error = np.abs(dequantize(one.weight) - weight)
        assert (error <= one.weight.scale * 0.5001).all()
    values = torch.cat([feed[0].ravel() for feed in texts])
    if scheme == "dynamic":
        assert {one.range for one in found.values()} == {None}
    else:
        low, high = found["query"].range
        assert float(values.min()) * 1.01 <= low < 0 < high <= float(values.max()) * 1.01


def test_a_plan_survives_its_record():
    plan = IncConfig("static", "minmax", "auto", ("a.b",))
    assert IncConfig.from_json(plan.to_json()) == plan
    assert plan.name == "static minmax, smooth auto, 1 layers in fp32"
    with pytest.raises(StageError, match="no record"):
        IncConfig.from_json({"scheme": "static"})
    with pytest.raises(StageError, match="not known"):
        IncConfig.from_json(IncConfig("weird").to_json())


def test_a_plan_tells_neural_compressor_what_stays_fp32():
    with quiet():
        libraries = import_inc()
        config = IncConfig("static", exclude=("a.b",)).of_library(libraries, ["model.a.b"])
    assert config.act_algo == "kl"
    assert config.local_config["model.a.b"].w_dtype == "fp32"


def test_an_unknown_layer_is_refused_with_the_nearest():
    with pytest.raises(StageError, match=r"'encoder.query'; did you mean 'encoder.query0'"):
        check_excluded(["encoder.query"], ["encoder.query0", "out"])


def test_a_smoothed_layer_keeps_its_name():
    assert layer_path("a.query.sq_linear.weight") == "a.query.weight"
