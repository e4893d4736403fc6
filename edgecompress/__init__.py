"""edgecompress: make a transformer small for a CPU at the edge, and prove what it cost.

The public API has a function for each command of the command line, by the same name. `load` opens a
bundle and answers questions (onnxruntime, tokenizers and numpy only); what makes and measures
models needs the ``build`` extra. Everything is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecompress.api.bundles import (
        pack_bundle,
        show_bundle,
        unpack_bundle,
        verify_bundle,
    )
    from edgecompress.api.compressing import compress
    from edgecompress.api.differences import diff_bundles
    from edgecompress.api.images import image
    from edgecompress.api.measuring import evaluate, profile, sensitivity
    from edgecompress.api.predicting import predict
    from edgecompress.api.recipes import check, list_stages, schema
    from edgecompress.api.reproducing import reproduce
    from edgecompress.api.running import run
    from edgecompress.api.serving import serve
    from edgecompress.api.signing import sign_bundle
    from edgecompress.api.stages import (
        distil,
        export,
        factorize,
        finetune,
        prune,
        quantize,
        trim,
    )
    from edgecompress.api.targets import (
        check_targets,
        clean_targets,
        list_targets,
        prepare_targets,
    )
    from edgecompress.runtime import load

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "check",
    "check_targets",
    "clean_targets",
    "compress",
    "diff_bundles",
    "distil",
    "evaluate",
    "export",
    "factorize",
    "finetune",
    "image",
    "list_stages",
    "list_targets",
    "load",
    "pack_bundle",
    "predict",
    "prepare_targets",
    "profile",
    "prune",
    "prune_store",
    "quantize",
    "reproduce",
    "run",
    "schema",
    "sensitivity",
    "serve",
    "show_bundle",
    "show_store",
    "sign_bundle",
    "trim",
    "unpack_bundle",
    "verify_bundle",
]

_HOMES = {
    "edgecompress.api.predicting": ("predict",),
    "edgecompress.api.compressing": ("compress",),
    "edgecompress.api.images": ("image",),
    "edgecompress.api.serving": ("serve",),
    "edgecompress.api.targets": (
        "check_targets", "clean_targets", "list_targets", "prepare_targets",
    ),
    "edgecompress.api.differences": ("diff_bundles",),
    "edgecompress.api.bundles": (
        "pack_bundle", "show_bundle", "unpack_bundle", "verify_bundle",
    ),
    "edgecompress.api.measuring": ("evaluate", "profile", "sensitivity"),
    "edgecompress.api.recipes": ("check", "list_stages", "schema"),
    "edgecompress.api.reproducing": ("reproduce",),
    "edgecompress.api.running": ("run",),
    "edgecompress.api.signing": ("sign_bundle",),
    "edgecompress.api.stores": ("prune_store", "show_store"),
    "edgecompress.api.stages": (
        "distil", "export", "factorize", "finetune", "prune", "quantize", "trim",
    ),
    "edgecompress.runtime": ("load",),
}  # fmt: skip
"""Where the public names are defined."""


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'edgecompress' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        from edgecompress.errors import MissingExtraError

        if str(error.name).startswith("edgecompress"):
            raise
        raise MissingExtraError(str(error.name)) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
