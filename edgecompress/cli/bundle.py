"""``edgecompress bundle``: verify and show a bundle, pack and unpack, sign and compare bundles."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._help import Group
from edgecompress.cli._output import answer, show
from edgecompress.cli._values import number, whole
from edgecompress.errors import EdgeCompressError

TROUBLE = 2
"""Exit code of a failure under --exit-code, where 1 says that the bundles differ (as in `diff`)."""


def _show(function: Any, **options: Any) -> None:
    show(function(**options))


@command_of(
    "bundles.show_bundle",
    also=[click.Option(["--json", "as_json"], is_flag=True, help="Write the manifest as it is.")],
)
def _facts(function: Any, as_json: bool, **options: Any) -> None:
    answer(function(**options), as_json)


@command_of(
    "differences.diff_bundles",
    also=[
        click.Option(
            ["--json", "as_json"], is_flag=True, help="Write everything as one JSON document."
        ),
        click.Option(
            ["--exit-code"],
            is_flag=True,
            help="End with 1 when the cores differ, with 2 when something fails.",
        ),
    ],
    changes={"show": {"type": whole(), "metavar": "N"}},
    more="The exit code is 0 whether they differ or not. With --exit-code it is 1 when the cores "
    "(all that deploys) differ in a byte, and 2 when something fails; measurements alone differ "
    "from day to day, and are no difference then.",
)
def _diff(function: Any, as_json: bool, exit_code: bool, **options: Any) -> int:
    try:
        found = function(**options)
    except EdgeCompressError as error:
        if exit_code:
            error.exit_code = TROUBLE
        raise
    answer(found, as_json)
    return int(exit_code and not found.same_core)


_VERIFIED = "Ends with exit code 1 and the name of the file when one was changed, added or lost."
_SIZE = {"type": number(0, above=True), "metavar": "GB"}

bundle = Group(
    "bundle",
    also_called={
        "show": ("info", "inspect"),
        "verify": ("check", "validate"),
        "diff": ("compare",),
    },
    help="Look after a bundle, the directory that deploys a model.",
    commands={
        "diff": _diff,
        "pack": command_of("bundles.pack_bundle")(_show),
        "show": _facts,
        "sign": command_of("signing.sign_bundle")(_show),
        "unpack": command_of("bundles.unpack_bundle", changes={"max_size": _SIZE})(_show),
        "verify": command_of("bundles.verify_bundle", more=_VERIFIED)(_show),
    },
)
