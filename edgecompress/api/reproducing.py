"""Making a bundle again from nothing, and comparing it with the first."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgecompress.api.arguments import Place, reporting
from edgecompress.api.options import as_texts
from edgecompress.api.reproduced import Reproduced
from edgecompress.engine.reproduce import reproduce as reproduce_bundle
from edgecompress.engine.same_inputs import Inputs
from edgecompress.progress import Reporter
from edgecompress.yamlfile import Settings


def reproduce(
    bundle: Place,
    *,
    data_root: Place | None = None,
    teacher: Place | None = None,
    model: Place | None = None,
    settings: Settings = (),
    store: Place | None = None,
    output: Place | None = None,
    threads: int | None = None,
    yes: bool | Callable[[Sequence[str]], bool] = False,
    progress: bool | Reporter = True,
) -> Reproduced:
    """Make `bundle` again by its own recipe in a clean store, and compare the two.

    What stages decided by measuring is decided as it was; nothing is timed. Data, teacher and
    calibration sets must be those that the bundle was made from: their digests are compared first.
    A model that the bundle names by the id of a hub is fetched only when you agree to it.
    The cores are compared byte by byte; where they differ, also by sizes, weights, and the accuracy
    on validation and test.

    Exit code 0: not a byte of the core differs; 1: something does.

    Parameters
    ----------
    bundle : path
        Its directory.
    data_root : path, optional
        Folder of the data's files; the working directory when left out.
    teacher : path or str, optional
        Where the teacher lies now: a directory, or a hub id.
    model : path or str, optional
        Where the model that the chains start from lies now, if any did.
    settings : mapping of str to object, optional
        Set any field of the recorded recipe, such as stages.quantize.static.calibration.
    store : path, optional
        A new folder that keeps what is made, so that the same command goes on after an
        interruption; a temporary one when left out.
    output : path, optional
        Keep the bundle that is made, in this directory.
    threads : int, optional
        How many threads PyTorch trains with; as many as then, where that is recorded.
    yes : bool or callable
        Fetch the hub's models that the bundle names; a callable is asked, and given their names.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Raises
    ------
    EdgeCompressError
        When the bundle is damaged, or its inputs are not those that it was made from.
    """
    inputs = Inputs(
        Path(data_root) if data_root else None,
        os.fspath(teacher) if teacher else None,
        os.fspath(model) if model else None,
        tuple(as_texts(settings)),
    )
    with reporting(progress) as reporter:
        return Reproduced(
            reproduce_bundle(
                Path(bundle),
                inputs,
                store=Path(store) if store else None,
                output=Path(output) if output else None,
                threads=threads,
                reporter=reporter,
                fetch=yes if callable(yes) else lambda _names: bool(yes),
            )
        )
