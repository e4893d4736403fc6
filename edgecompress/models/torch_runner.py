"""PyTorch modules, asked as ONNX sessions are.

Apart from `runner`: the key of a stage's result names the libraries that its modules import, and
where torch is among them it is made ready, which takes seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from edgecompress.values import Feed, TensorSpec


class TorchRunner:
    """A PyTorch module in evaluation that takes and gives numpy arrays.

    Parameters
    ----------
    module : torch.nn.Module
        Its answer is a mapping, as those of transformers are.
    outputs : iterable of str
        The outputs to give; empty for all that are tensors.
    precision : callable, optional
        Gives the context in which the module runs, such as mixed precision.

    Attributes
    ----------
    specs : tuple of TensorSpec
        The arguments of ``forward`` by name; dtype and shape are not known.
    """

    def __init__(
        self,
        module: Any,
        outputs: Iterable[str] = (),
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.module, self.outputs, self.precision = module, tuple(outputs), precision
        self.specs = tuple(
            TensorSpec(name, "", ()) for name in inspect.signature(module.forward).parameters
        )
        self._known = frozenset(spec.name for spec in self.specs)

    def __call__(self, feed: Mapping[str, np.ndarray[Any, Any]], /) -> Feed:
        """Run one batch on the device where the module is; floating point comes as float32."""
        import torch

        device = next(self.module.parameters()).device
        given = {
            name: torch.from_numpy(np.asarray(value)).to(device)
            for name, value in feed.items()
            if name in self._known
        }
        with torch.inference_mode(), self.precision():
            answer = self.module(**given)
        names = self.outputs or [name for name in answer if torch.is_tensor(answer[name])]
        return {name: _array(answer[name]) for name in names}


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (
        (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    )
    return found
