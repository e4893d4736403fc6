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
    """Make a bundle again by its own recipe in a clean store, and compare the two.

    Parameters
    ----------
    bundle : path
    data_root : path, optional
        Folder of the data's files; the working directory when left out.
    teacher, model : path or str, optional
        Where the teacher, and the model that the chains start from, lie now.
    settings : mapping of str to object
        Fields of the recorded recipe.
    store : path, optional
        A new folder that keeps what is made; a temporary one when left out.
    output : path, optional
        Keep the bundle that is made, in this directory.
    threads : int, optional
        How many threads PyTorch trains with; as many as then, where that is recorded.
    yes : bool or callable
        Whether to fetch the hub's models that the bundle names; a callable is given their names.
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
