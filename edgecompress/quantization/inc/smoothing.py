"""Neural Compressor's SmoothQuant on a PyTorch module, before its int8 flow sees it.

Method: Xiao et al., 2023, "SmoothQuant: accurate and efficient post-training quantization for large
language models": channels of an activation that are always large are divided by
``max|x|^alpha / max|w|^(1 - alpha)`` and the weights multiplied with it, so that one scale for the
whole activation loses less.

``neural_compressor.torch.quantization.SmoothQuantConfig`` quantizes by Intel's extension for
PyTorch, whose last release is older than the PyTorch that the rest of Neural Compressor needs here.
Its arithmetic needs no extension: the calibration, the scales, the search for alpha and the module
that multiplies before a layer (for the observers) are used here.

Only the factors are taken from it: the exported graph is smoothed as `quantize.smooth` does it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.errors import MissingExtraError, StageError
from edgecompress.quantization.inc.config import Smooth
from edgecompress.quantization.inc.library import import_inc

WRAPPER = "model."  # before the paths of all layers in the module that is exported
SMOOTHED = "sq_linear"  # where Neural Compressor's wrapper keeps the layer
EXTENSION = "intel_extension_for_pytorch"
# The search's space; Neural Compressor's own is 0 to 1 in steps of 0.1.
SEARCH = {"alpha_min": 0.0, "alpha_max": 1.0, "alpha_step": 0.1, "shared_criterion": "mean"}


@dataclass(frozen=True, slots=True)
class SmoothedGroup:
    """Linear layers that read one tensor, whose channels are divided by one vector of factors.

    Attributes
    ----------
    paths : tuple of str
        In the model, in the order of use.
    alpha : float
    factors : ndarray, float32, shape (channels,)
        The weights are multiplied by them.
    """

    paths: tuple[str, ...]
    alpha: float
    factors: np.ndarray[Any, Any]


def smooth_linears(
    module: torch.nn.Module, texts: Sequence[tuple[Any, ...]], alpha: Smooth
) -> list[SmoothedGroup]:
    """Smooth the linear layers of `module` in place; layers with the same input share a scale.

    A layer whose weight is also an embedding table stays as it is.

    Parameters
    ----------
    module : torch.nn.Module
        Computes the same afterwards, up to rounding.
    texts : sequence of tuple of int64 tensor (1, length)
        Calibration inputs.
    alpha : float or "auto"
        From 0 (all difficulty stays with the activations) to 1 (all goes to the weights); ``auto``
        lets Neural Compressor choose one for each group of layers by the error of their outputs.

    Raises
    ------
    StageError
        When an activation is not finite.
    """
    library = _library()
    groups = shared_inputs(module, texts[0])

    def run(model: torch.nn.Module) -> None:
        for feed in texts:
            model(*feed)

    with torch.no_grad():
        if alpha == "auto":
            alphas = _search(library, module, groups, run, len(texts))
        else:
            alphas = dict.fromkeys(groups, float(alpha))
        calibration = library.Calibration(module, None, run, "cpu")
        low, high = calibration.calibrate(len(texts), [torch.nn.Linear])
        found = []
        for first, paths in groups.items():
            largest = torch.maximum(low[first].abs(), high[first].abs())
            if not torch.isfinite(largest).all():
                raise StageError(f"the input of {first} is not finite on the calibration texts")
            weights = [module.get_submodule(path).weight for path in paths]
            scale = library.cal_scale(largest, weights, alphas[first])
            for path in paths:
                layer = module.get_submodule(path)
                # A copy: the wrapper scales the weight in place.
                layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
                wrapped = library.SQLinearWrapper(
                    layer, 1.0 / scale, (low[first], high[first]), alphas[first]
                )
                library.set_module(module, path, wrapped)
            inner = tuple(path.removeprefix(WRAPPER) for path in paths)
            factors = scale.to(torch.float32).numpy().copy()
            found.append(SmoothedGroup(inner, round(alphas[first], 4), factors))
    return found


def shared_inputs(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
) -> dict[str, list[str]]:
    """Group the linear layers that read the same tensor, such as query, key and value.

    Layers that a run uses twice, or not at all, are left out, and those that share their weight.

    Returns
    -------
    dict of str to list of str
        Paths of a group by its first one, in the order of use.
    """
    owners = [id(weight) for _, weight in module.named_parameters(remove_duplicate=False)]
    seen: list[tuple[str, torch.Tensor]] = []
    hooks = [
        part.register_forward_pre_hook(lambda _, given, path=path: seen.append((path, given[0])))
        for path, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and owners.count(id(part.weight)) == 1
    ]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    # `seen` keeps the tensors, so that no two of them have the same id.
    used = [path for path, _ in seen]
    found: dict[int, list[str]] = {}
    for path, tensor in seen:
        if used.count(path) == 1:
            found.setdefault(id(tensor), []).append(path)
    return {paths[0]: paths for paths in found.values()}


def _search(
    library: Any,
    module: torch.nn.Module,
    groups: dict[str, list[str]],
    run: Any,
    samples: int,
) -> dict[str, float]:
    """Choose alphas as ``SmoothQuantConfig(alpha="auto")`` does; the module stays as it is."""
    search = library.AutoAlpha(
        module,
        None,
        {first: list(paths) for first, paths in groups.items()},
        [torch.nn.Linear],
        "cpu",
        run,
        None,
        n_samples=samples,
        **SEARCH,
    )
    with contextlib.redirect_stderr(io.StringIO()):  # it draws a bar
        found = search.tune()
    return {first: float(found[first]) for first in groups}


@functools.cache
def _library() -> Any:
    """Import SmoothQuant's module, which imports Intel's extension but here needs nothing of it.

    The empty module in its place is there for the import only: Neural Compressor chooses its int8
    path by whether one is loaded.
    """
    import_inc()  # it looks for the extension, too, and must not find the empty module
    empty = EXTENSION not in sys.modules
    if empty:
        sys.modules[EXTENSION] = types.ModuleType(EXTENSION)
    try:
        from neural_compressor.torch.algorithms.smooth_quant import utility
    except ImportError as error:
        raise MissingExtraError(error.name or "neural-compressor") from None
    finally:
        if empty:
            del sys.modules[EXTENSION]
    return utility
