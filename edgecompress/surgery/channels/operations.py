"""What each operation of PyTorch does to channels: one rule each; without a rule, they stay.

The names are those of ATen operations, https://docs.pytorch.org/docs/stable/torch.compiler_ir.html,
without the underscore of those that change their first argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgecompress.surgery.channels.labels import Axes, Labels, fixed

Rule = Callable[["Follower", Sequence[Any], torch.Tensor], Axes]

ELEMENTWISE = frozenset({
    "abs", "add", "alias", "celu", "clamp", "clamp_max", "clamp_min", "clone", "contiguous",
    "detach", "div", "dropout", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log_sigmoid_forward", "maximum", "minimum", "mish", "mul",
    "neg", "pow", "relu", "relu6", "rsub", "selu", "sigmoid", "silu", "softplus", "sqrt",
    "square", "sub", "tanh", "threshold", "_to_copy",
})  # fmt: skip
POOLING = frozenset({
    "_adaptive_avg_pool2d", "_adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "avg_pool1d", "avg_pool2d", "constant_pad_nd",
    "max_pool2d_with_indices", "max_pool2d", "reflection_pad2d", "replication_pad2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_nearest2d",
    "_upsample_bilinear2d_aa",
})  # fmt: skip
IGNORED = frozenset({"empty", "empty_like", "zeros", "ones", "full", "arange", "scalar_tensor"})


class Follower(TorchDispatchMode):
    """Follows channels through whatever runs while it is active.

    Parameters
    ----------
    parameters : dict of str to torch.Tensor
        And buffers: each channel of theirs begins as one of its own.
    batch : int
        Rows of the batch that runs.

    Attributes
    ----------
    labels : Labels
    positions : dict of str to int
        How often a parameter's numbers are multiplied with each input.
    stopped : set of str
        Operations without a rule that channels have met.
    """

    def __init__(self, parameters: dict[str, torch.Tensor], batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.labels = Labels()
        self.positions: dict[str, int] = {}
        self.stopped: set[str] = set()
        self._axes: dict[int, Axes] = {}
        self._names = {id(one): name for name, one in parameters.items()}
        self._alive: list[torch.Tensor] = []  # a tensor that is gone would lend its id to another
        for one in parameters.values():
            self.put(one, tuple(self.labels.fresh(size) for size in one.shape))

    def axes(self, tensor: torch.Tensor) -> Axes:
        """Give a tensor's labels."""
        return self._axes.get(id(tensor)) or tuple(map(fixed, tensor.shape))

    def put(self, tensor: torch.Tensor, axes: Axes) -> None:
        """Say which labels a tensor has."""
        self._alive.append(tensor)
        self._axes[id(tensor)] = axes

    def parameter(self, tensor: torch.Tensor) -> str:
        """Give the name of the parameter that a tensor is, maybe turned; empty where it is none."""
        return self._names.get(id(tensor), "")

    def multiplied(self, weight: torch.Tensor, positions: int) -> None:
        """Note how often a parameter's numbers are multiplied for one input."""
        name = self.parameter(weight)
        if name:
            self.positions[name] = self.positions.get(name, 0) + positions

    def __torch_dispatch__(
        self, operation: Any, types: Any, given: Sequence[Any] = (), named: Any = None
    ) -> Any:
        """Run an operation and pass the labels of what it is given on."""
        made = operation(*given, **(named or {}))
        name = operation.overloadpacket.__name__
        base = name if name.startswith("_") else name.rstrip("_")
        rule = _rule(base)
        outputs = [one for one in _tensors([made]) if one.is_floating_point()]
        if base in IGNORED:
            return made
        if rule is not None and outputs:
            self.put(outputs[0], rule(self, given, outputs[0]))
            if base in ("t", "detach", "alias") and (source := self.parameter(given[0])):
                self._names[id(outputs[0])] = source
            return made
        inputs = [*_tensors(given), *_tensors((named or {}).values())]
        axes = [labels for one in inputs for labels in self.axes(one)]
        if any(self.labels.roots(one).any() for one in axes):
            self.stopped.add(name)
        self.labels.fix(*axes)
        for one in outputs:  # what an operation changes in place is not what it was
            self.put(one, tuple(map(fixed, one.shape)))
        return made


def _rule(name: str) -> Rule | None:
    if name in ELEMENTWISE:
        return _elementwise
    return _pooled if name in POOLING else RULES.get(name)


def _tensors(values: Any) -> list[torch.Tensor]:
    found = []
    for one in values:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += _tensors(one)
    return found


def _elementwise(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    """Join the axes of what is computed with each other, number by number."""
    found = [fixed(size) for size in made.shape]
    known = [False] * made.ndim
    for one in _tensors(given):
        offset = made.ndim - one.ndim
        for place, labels in enumerate(follower.axes(one), offset):
            if len(labels) != made.shape[place] or len(labels) == 1:
                continue  # the same number for all channels
            if known[place]:
                follower.labels.same(found[place], labels)
            else:
                found[place], known[place] = labels, True
    return tuple(found)


def _pooled(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    """Keep the channels of what is pooled, padded or resized over other axes."""
    source = given[0]
    found = []
    for labels, size in zip(follower.axes(source), made.shape, strict=True):
        changed = len(labels) != size
        if changed:
            follower.labels.fix(labels)
        found.append(fixed(size) if changed else labels)
    return tuple(found)


def _convolution(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    source, weight, bias, *_, transposed, _, groups = given
    labels, inputs, parts = follower.labels, follower.axes(source), follower.axes(weight)
    labels.fix(*parts[2:], *inputs[2:])
    outer = parts[0]
    if transposed or (groups > 1 and groups != source.shape[1]):
        labels.fix(inputs[1], *parts[:2])
    elif groups == 1:
        labels.same(inputs[1], parts[1])
    else:  # each channel by itself
        labels.same(outer, np.repeat(inputs[1], weight.shape[0] // groups))
    if transposed:
        return tuple(map(fixed, made.shape))
    if bias is not None:
        labels.same(outer, follower.axes(bias)[0])
    follower.multiplied(weight, math.prod(made.shape[2:]))
    return (inputs[0], outer, *map(fixed, made.shape[2:]))


def _batch_norm(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    source, *others = given[:5]
    inputs = follower.axes(source)
    follower.labels.fix(*inputs[:1], *inputs[2:])
    for one in _tensors(others):
        follower.labels.same(inputs[1], follower.axes(one)[0])
    return inputs


def _layer_norm(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    """Fix what is normalized together: without some of it, mean and deviation are others."""
    source, shape, *others = given
    inputs = follower.axes(source)
    follower.labels.fix(*inputs[-len(shape) :])
    for one in _tensors(others[:2]):
        follower.labels.fix(*follower.axes(one))
    return inputs


def _product(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    left, right = _tensors(given)[-2:]
    first, second = follower.axes(left), follower.axes(right)
    follower.labels.same(first[-1], second[-2])
    follower.labels.same(first[0], second[0] if left.ndim == 3 else first[0])
    follower.multiplied(right, math.prod(left.shape[:-1]) // follower.batch)
    return (*first[:-1], second[-1])


def _biased_product(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    found = _product(follower, given[1:3], made)
    follower.labels.same(found[-1], follower.axes(given[0])[-1])
    return found


def _turned(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    return follower.axes(given[0])[::-1]


def _swapped(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    found = [*follower.axes(given[0])]
    found[given[1]], found[given[2]] = found[given[2]], found[given[1]]
    return tuple(found)


def _permuted(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    found = follower.axes(given[0])
    return tuple(found[place] for place in given[1])


def _viewed(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    source = given[0]
    return follower.labels.reshaped(follower.axes(source), source.shape, made.shape)


def _expanded(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    found = follower.axes(given[0])
    new = made.ndim - len(found)
    pairs = zip(found, made.shape[new:], strict=True)
    return (
        *map(fixed, made.shape[:new]),
        *(labels if len(labels) == size else fixed(size) for labels, size in pairs),
    )


def _averaged(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    source, *others = given
    axes = follower.axes(source)
    asked = others[0] if others and others[0] not in (None, []) else [*range(source.ndim)]
    gone = {place % source.ndim for place in ([asked] if isinstance(asked, int) else asked)}
    keep = len(others) > 1 and others[1]
    follower.labels.fix(*(axes[place] for place in gone))
    kept = [fixed(1) if p in gone else one for p, one in enumerate(axes) if keep or p not in gone]
    return tuple(kept)


def _softmax(follower: Follower, given: Sequence[Any], _: torch.Tensor) -> Axes:
    found = follower.axes(given[0])
    follower.labels.fix(found[given[1]])
    return found


def _joined(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    tensors, at = given[0], (given[1] if len(given) > 1 else 0) % made.ndim
    first, *others = [follower.axes(one) for one in tensors]
    for other in others:
        for place in range(made.ndim):
            if place != at:
                follower.labels.same(first[place], other[place])
    along = np.concatenate([one[at] for one in (first, *others)])
    return tuple(along if place == at else one for place, one in enumerate(first))


def _sliced(follower: Follower, given: Sequence[Any], made: torch.Tensor) -> Axes:
    """Keep whole axes; of one that is cut the code says at which numbers."""
    return _pooled(follower, given, made)


RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "native_layer_norm": _layer_norm,
    "mm": _product,
    "bmm": _product,
    "addmm": _biased_product,
    "t": _turned,
    "transpose": _swapped,
    "permute": _permuted,
    "view": _viewed,
    "_unsafe_view": _viewed,
    "unsqueeze": _viewed,
    "squeeze": _viewed,
    "expand": _expanded,
    "mean": _averaged,
    "sum": _averaged,
    "amax": _averaged,
    "_softmax": _softmax,
    "cat": _joined,
    "slice": _sliced,
}
