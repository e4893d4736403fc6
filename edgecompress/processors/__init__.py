"""What makes arrays of inputs, one kind per file; another's by an entry point.

A task says which kind it takes (`Task.processor`). Entry points of the group
``edgecompress.processors`` name a `Processor` each.
"""

from __future__ import annotations

import functools

from edgecompress.discovery import found_classes
from edgecompress.processors.base import Array, Processor
from edgecompress.processors.text import TextProcessor
from edgecompress.values import Feed

__all__ = ["GROUP", "Array", "Feed", "Processor", "TextProcessor", "processor_class"]

GROUP = "edgecompress.processors"


@functools.cache
def _classes() -> dict[str, type[Processor]]:
    return found_classes(__name__, __path__, Processor, GROUP, lambda one: one.kind)  # type: ignore[type-abstract]


def processor_class(kind: str) -> type[Processor]:
    """Find the processor of a kind; KeyError where there is none."""
    return _classes()[kind]
