"""Whether what training rounds for (`qat`) and what a chain then quantizes are the same.

Quantization-aware training pays only where the quantization that follows rounds alike; ranges that
it learned are those of one model and get lost where a later stage makes another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from edgecompress.stage import Transform
from edgecompress.training.qat_fields import ALIKE, TABLES_ALIKE, Qat
from edgecompress.yamlfile import KeyPath, YamlFile


class _Use(Protocol):
    """A stage at a place in a recipe (`chains.StageUse`)."""

    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> Transform: ...
    @property
    def path(self) -> KeyPath: ...


def check_learned_ranges(chain: Sequence[_Use], source: YamlFile, *, complete: bool) -> None:
    """Check that a chain quantizes what it trains for, and has learned the ranges that it uses.

    Parameters
    ----------
    chain : sequence of StageUse
    source : YamlFile
        Where it is written.
    complete : bool
        Whether the chain is a whole recipe's; one stage alone may work on what another left.

    Raises
    ------
    RecipeError
        Naming the stage and the first thing that does not fit.
    """
    trained: _Use | None = None
    lost = ""
    for use in chain:
        plan = _plan(use)
        if plan is not None:
            trained, lost = use, ""
        elif use.name.startswith("quantize.") and hasattr(use.stage, "embeddings"):
            _check_user(use, trained, lost, source, complete=complete)
            if trained is not None:
                break
        elif trained is not None and not use.stage.keeps_ranges:
            lost = lost or use.name
    else:
        if complete and trained is not None:
            raise source.error(
                "qat trains for quantize.static, quantize.dynamic or quantize.weights, and none "
                "follows; add one, or leave qat out",
                (*trained.path, "qat"),
            )


def _check_user(
    use: _Use, trained: _Use | None, lost: str, source: YamlFile, *, complete: bool
) -> None:
    wants = getattr(use.stage, "ranges", None) == "qat"
    plan = _plan(trained) if trained else None
    if plan is None or trained is None:
        if wants and complete:
            raise source.error(
                "ranges: qat takes what training has learned, and no stage before it has qat; give "
                "finetune or distil the field qat: {}",
                (*use.path, "ranges"),
            )
        return
    if wants and not plan.activations:
        raise source.error(
            f"{trained.name} learns no ranges (qat: {{activations: false}})", (*use.path, "ranges")
        )
    if wants and lost:
        raise source.error(
            f"{lost} makes another model than that whose ranges {trained.name} has learned; put it "
            f"before {trained.name}",
            (*use.path, "ranges"),
        )
    if plan.activations and not wants:
        raise source.error(
            f"{trained.name} learns ranges of activations that {use.name} does not use; take "
            "quantize.static: {ranges: qat}, or give qat activations: false",
            use.path,
        )
    if plan.linears and not hasattr(use.stage, "weight"):
        raise source.error(
            f"{trained.name} trains linear layers for 8 bits, and {use.name} makes none; give qat "
            "linears: false and activations: false",
            use.path,
        )
    for field, ours, theirs in _differences(plan, use.stage):
        raise source.error(
            f"{trained.name} trains for {field} {ours}, and {use.name} has {theirs}; give both the "
            "same",
            (*use.path, field),
        )


def _differences(plan: Qat, stage: Transform) -> Iterator[tuple[str, str, str]]:
    fields = [*(ALIKE if plan.linears else ()), "embeddings"]
    if plan.embeddings:
        fields += [name for name in TABLES_ALIKE if name != "embeddings"]
    if plan.embedding_bits == 8 and getattr(stage, "embedding_bits", 8) == 8:
        fields = [name for name in fields if name != "embedding_block"]
    for field in fields:
        ours, theirs = getattr(plan, field), getattr(stage, field, None)
        if field == "activation" and theirs is None:
            continue  # found at run time
        if ours != theirs:
            yield field, _yaml(ours), _yaml(theirs)


def _plan(use: _Use) -> Qat | None:
    found = getattr(use.stage, "qat", None)
    return found if isinstance(found, Qat) else None


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
