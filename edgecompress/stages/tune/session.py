"""Choose the settings of ONNX Runtime's session that make this model fastest on a target.

The file stays as it is; what was chosen are the model's session settings, which travel with it: a
candidate, a bundle, the agent on a board and the runtime all open the model with them. Source of
the settings: `onnxruntime.SessionOptions` and its ``onnxruntime_session_options_config_keys.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Json, OnnxModel, SessionSettings

Level = Literal["disable", "basic", "extended", "all"]
# Fusions that are known to cost time somewhere, and the one that rewrites linear layers.
OPTIMIZERS = (
    "SkipLayerNormFusion",
    "BiasSkipLayerNormFusion",
    "EmbedLayerNormFusion",
    "BiasGeluFusion",
    "GeluFusionL2",
    "LayerNormFusionL2",
    "MatmulTransposeFusion",
    "MatMulScaleFusion",
    "DynamicQuantizeMatMulFusion",
)
ENTRIES: dict[str, tuple[str, ...]] = {
    "session.intra_op.allow_spinning": ("0",),
    "session.use_device_allocator_for_initializers": ("1",),
    "session.disable_prepacking": ("1",),
    "session.set_denormal_as_zero": ("1",),
}
# Settings of these would make or open other files, or change what the harness itself sets.
FORBIDDEN = ("session.optimized_model", "session.model_external", "ep.", "session.log")


class Session(Transform):
    """Try session settings one by one, then together, and keep what is surely faster."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True

    levels: tuple[Level, ...] = ("extended", "basic")
    """Levels of graph optimization to try beside the model's own."""
    optimizers: tuple[str, ...] = OPTIMIZERS
    """Optimizers of the session to try without, by ONNX Runtime's own names."""
    entries: dict[str, tuple[str, ...]] = Field(default_factory=lambda: dict(ENTRIES))
    """Configuration entries and the values of each to try."""
    target: str = "local"
    """Where to measure, as the recipe names it; settings are best on the target they ship to."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference to the outputs under the settings before."""

    @field_validator("entries")
    @classmethod
    def _harmless(cls, entries: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for key, values in entries.items():
            if key.startswith(FORBIDDEN):
                raise ValueError(f"{key} is not a setting of speed; leave it out")
            if not values:
                raise ValueError(f"{key} has no values to try")
        return entries

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Measure which settings are fastest.

        Raises
        ------
        StageError
            When the model does not run.
        """
        from dataclasses import asdict

        search = _Search(self, candidate, context)
        return Decisions({"session": _plain(asdict(search.run()))}, made=search)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the file as it is and give it the settings that were chosen.

        Raises
        ------
        StageError
            When a record names settings that this recipe rules out, or the model does not run
            under them.
        """
        from edgecompress.models.storage import read_model, write_model

        search = decisions.made or _Search(self, candidate, context)
        chosen = search.recorded(decisions.record, checked=decisions.made is not None)
        model = OnnxModel(context.folder / "model" / "model.onnx", chosen)
        model.directory.mkdir(parents=True, exist_ok=True)
        write_model(read_model(search.source.path), model.path)
        return candidate.with_model(
            model,
            measured={"settings": search.log},
            changed=chosen != search.source.session,
            target=self.target,
        )

    def changes(self, settings: SessionSettings) -> dict[str, SessionSettings]:
        """Give every single change of `settings`, by the name that decisions call it."""
        found: dict[str, SessionSettings] = {}
        for level in self.levels:
            found[f"level={level}"] = replace(settings, graph_optimization_level=level)
        for name in self.optimizers:
            disabled = tuple(sorted({*settings.disabled_optimizers, name}))
            found[f"-{name}"] = replace(settings, disabled_optimizers=disabled)
        for key, values in self.entries.items():
            for value in values:
                entries = {**dict(settings.config_entries), key: value}
                ordered = tuple(sorted(entries.items()))
                found[f"{key}={value}"] = replace(settings, config_entries=ordered)
        return {name: made for name, made in found.items() if made != settings}


class _Search:
    """One search: what was tried, what became of it, and what is best so far."""

    def __init__(self, stage: Session, candidate: Candidate, context: Context) -> None:
        from edgecompress.tournament import Tournament

        self.stage = stage
        self.tournament = Tournament(candidate, context, stage.tolerance, stage.target)
        self.source, self.log = self.tournament.source, self.tournament.log

    def run(self) -> SessionSettings:
        """Try each change alone; add those that helped, fastest first, while they still help."""
        base = self.source.session
        singles = self._usable(self.stage.changes(base))
        gains = self._measure({"as it is": base, **singles}, "alone")
        helped = sorted((n for n in singles if gains[n] > 1), key=lambda n: -gains[n])
        best = base
        for name in helped:
            # Measured again against the best so far: of many changes, some look fast by chance.
            better = self.stage.changes(best).get(name)
            if better is None or not self._usable({f"{name} added": better}):
                continue
            both = {"best so far": best, f"{name} added": better}
            if self._measure(both, "added")[f"{name} added"] > 1:
                best = better
        return best

    def recorded(self, record: Json, *, checked: bool) -> SessionSettings:
        """Read what was chosen; unless it is `checked`, see that the model runs and answers so."""
        from edgecompress.values import session_from_json

        try:
            chosen = session_from_json(record["session"])
        except (KeyError, TypeError, ValueError):
            raise StageError("tune.session has no record of what it chose; run again") from None
        base = self.source.session
        entries, before = dict(chosen.config_entries), dict(base.config_entries)
        known = (
            chosen.graph_optimization_level in {base.graph_optimization_level, *self.stage.levels},
            {*base.disabled_optimizers} <= {*chosen.disabled_optimizers},
            {*chosen.disabled_optimizers} <= {*base.disabled_optimizers, *self.stage.optimizers},
            all(
                before.get(key) == value or value in self.stage.entries.get(key, ())
                for key, value in entries.items()
            ),
            {*before} <= {*entries},
        )
        if not all(known):
            raise StageError("the record names session settings that this recipe rules out")
        if not checked and not self._usable({"recorded": chosen}):
            raise StageError(f"the recorded session settings: {self.log['recorded']['outcome']}")
        return chosen

    def _usable(self, settings: Mapping[str, SessionSettings]) -> dict[str, SessionSettings]:
        """Drop settings under which the model does not run, or answers otherwise."""
        return {
            name: made
            for name, made in settings.items()
            if self.tournament.admits(name, replace(self.source, session=made))
        }

    def _measure(self, settings: Mapping[str, SessionSettings], when: str) -> dict[str, float]:
        """Time settings interleaved, the first being the base; give sure speed-ups over it."""
        models = {name: replace(self.source, session=made) for name, made in settings.items()}
        return self.tournament.gains(models, "settings", when)


def _plain(document: Json) -> Json:
    """Give `document` with lists for its tuples, as JSON reads it back."""
    import json

    plain: Json = json.loads(json.dumps(document))
    return plain
