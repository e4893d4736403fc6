"""``edgecompress store``: see what lies in the store of results, and make room there."""

from __future__ import annotations

from typing import Any

from edgecompress.cli._functions import command_of
from edgecompress.cli._help import Group
from edgecompress.cli._output import show
from edgecompress.cli._values import number


def _show(function: Any, **options: Any) -> None:
    show(function(**options))


store = Group(
    "store",
    also_called={"show": ("list", "du", "size"), "prune": ("clean", "clear", "gc")},
    help="Look after the store, where finished stages lie for later runs.",
    commands={
        "prune": command_of(
            "stores.prune_store", changes={"max_size": {"type": number(0), "metavar": "GB"}}
        )(_show),
        "show": command_of("stores.show_store")(_show),
    },
)
