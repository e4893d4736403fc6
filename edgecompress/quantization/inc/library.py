"""What is used of Neural Compressor, its chatter, and its many kinds of errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgecompress.errors import EdgeCompressError, MissingExtraError, StageError

LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError)
"""What PyTorch and Neural Compressor raise when they cannot do something."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep library chatter (log records up to WARNING, Python warnings) from the user.

    Errors are still logged and raised. Loggers' own levels do not suffice: Neural Compressor and
    torch set theirs while they are imported.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_inc() -> dict[str, Any]:
    """Give what is used of Neural Compressor.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        from neural_compressor.torch.export import export
        from neural_compressor.torch.quantization import (
            DynamicQuantConfig,
            StaticQuantConfig,
            TuningConfig,
            autotune,
            convert,
            prepare,
        )
    except ImportError as error:
        raise MissingExtraError(error.name or "neural-compressor") from None
    return {
        "export": export,
        "prepare": prepare,
        "convert": convert,
        "static": StaticQuantConfig,
        "dynamic": DynamicQuantConfig,
        "autotune": autotune,
        "tuning": TuningConfig,
    }


def step(what: str, run: Callable[[], Any]) -> Any:
    """Run a step of the library; its many kinds of errors become one sentence."""
    try:
        return run()
    except (EdgeCompressError, MemoryError):
        raise
    except LIBRARY_ERRORS as error:
        first: BaseException = error  # an exporter's own error says little; what caused it, more
        while first.__cause__ is not None:
            first = first.__cause__
        cause = " ".join(str(first).split())[:300]
        raise StageError(f"{what} ({type(first).__name__}: {cause})") from error
