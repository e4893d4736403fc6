"""Bake ONNX Runtime's optimized graph into the file, where that is faster to run or to start.

ONNX Runtime rewrites a graph each time it loads it. Here that is done once, at a level whose result
runs on any processor, and biases that it leaves behind integer products are folded into them, from
which zero points of weights that are all 0 are taken away. What suits this processor only (layouts,
packed weights) is left to the session, and named.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Json, OnnxModel

if TYPE_CHECKING:
    from edgecompress.tournament import Tournament

AS_IT_IS, BAKED, FOLDED = "as it is", "baked", "baked with biases"
STARTS = 7
# A start that is this share shorter in every pair is no accident of one disturbed start.
SHORTER = 0.9


class Graph(Transform):
    """Save the graph as ONNX Runtime optimizes it, where it answers alike and gains something."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True

    level: Literal["basic", "extended"] = "extended"
    """How much is baked. ``extended`` holds operators of ONNX Runtime's own and no layout."""
    biases: bool = True
    """Also try folding biases into integer products that ONNX Runtime leaves apart, and leaving out
    their weights' zero points where all are 0."""
    target: str = "local"
    """Where to measure, as the recipe names it. Starts are timed on this machine."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference to the outputs of the model before."""

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Bake, compare and time; the file as it is where nothing gains.

        Raises
        ------
        StageError
            When the model does not run.
        """
        models, tournament = self._variants(candidate, context)
        return Decisions({"chosen": self._choose(models, tournament)}, made=(models, tournament))

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the graph that was chosen.

        Raises
        ------
        StageError
            When a record cannot be followed.
        """
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.graphs.baking import HARDWARE, beyond
        from edgecompress.quantization.graphs.fusion import operator_counts

        models, tournament = decisions.made or self._variants(candidate, context)
        chosen = str(decisions.record.get("chosen"))
        if chosen not in models:
            why = tournament.log.get(chosen, {}).get("outcome", "this recipe does not make it")
            raise StageError(f"the record says that tune.graph chose {chosen!r}: {why}")
        source, folder = tournament.source, context.folder / "variants"
        not_baked: Json = {"optimizers": list(HARDWARE), "weights": "packed when loaded"}
        if len(models) > 1:
            not_baked["operators_of_level_all"] = beyond(source, self.level, folder)
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.directory.mkdir(parents=True, exist_ok=True)
        write_model(read_model(models[chosen].path), model.path)
        shutil.rmtree(folder)
        return candidate.with_model(
            model,
            measured={"variants": tournament.log},
            level=self.level,
            operators=operator_counts(model.path),
            not_baked=not_baked,
            target=self.target,
        )

    def _variants(
        self, candidate: Candidate, context: Context
    ) -> tuple[dict[str, OnnxModel], Tournament]:
        """Make the variants that answer as the source does."""
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.graphs.baking import bake, drop_zero_points, fold_biases
        from edgecompress.tournament import Tournament

        tournament = Tournament(candidate, context, self.tolerance, self.target)
        source, folder = tournament.source, context.folder / "variants"
        folder.mkdir()
        tournament.log[AS_IT_IS] = {}
        paths = {BAKED: folder / "baked.onnx"}
        bake(source, self.level, paths[BAKED])
        if self.biases:
            stored = read_model(paths[BAKED])
            if fold_biases(stored) + drop_zero_points(stored):
                paths[FOLDED] = folder / "biases.onnx"
                write_model(stored, paths[FOLDED])
        made = {name: replace(source, path=path) for name, path in paths.items()}
        right = {name: one for name, one in made.items() if tournament.admits(name, one)}
        return {AS_IT_IS: source, **right}, tournament

    def _choose(self, models: dict[str, OnnxModel], tournament: Tournament) -> str:
        """Give the surely fastest; of those alike, the baked one where it surely starts faster."""
        if len(models) == 1:
            return AS_IT_IS
        gains = tournament.gains(models, "graphs")
        best = max(gains, key=lambda name: gains[name])
        if gains[best] > 1:
            return best
        starts = start_times_ms(list(models.values()))
        for name, times in zip(models, starts, strict=True):
            tournament.log[name]["start_p50_ms"] = round(float(np.median(times)), 3)
        shorter = [
            name
            for name, times in zip(models, starts, strict=True)
            if gains[name] == 1 and max(times / starts[0]) < SHORTER
        ]
        return shorter[-1] if shorter else AS_IT_IS


def start_times_ms(models: Sequence[OnnxModel]) -> list[np.ndarray[Any, Any]]:
    """Time how long opening each model takes, one after the other and again.

    Returns
    -------
    list of ndarray
        Milliseconds of `STARTS` starts, (starts,) for each model; starts of one row belong
        together. The first of each is dropped: it reads the file into the system's memory.
    """
    import time

    from edgecompress.models.session import open_session

    rows = []
    for _ in range(STARTS + 1):
        row = []
        for model in models:
            before = time.perf_counter()
            open_session(model)
            row.append(1000 * (time.perf_counter() - before))
        rows.append(row)
    return list(np.array(rows[1:]).T)
