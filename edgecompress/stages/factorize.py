"""Word embedding and linear layers as products of two smaller matrices."""

from __future__ import annotations

import shutil
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PositiveInt,
    model_validator,
)
from pydantic_core import CoreSchema

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.training.lora_fields import Role
from edgecompress.values import Candidate, Json, Step, TorchModel, find

LEAST_GAIN = 1.0
"""A product whose measured speed-up over its whole matrix is below this is merged back."""

PRODUCT = "it is a product already"
ZEROS = "its zeros must stay where they are"


class Rank(BaseModel):
    """How the rank of a matrix is chosen: one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rank: PositiveInt | None = None
    """The rank itself."""
    energy: float | None = Field(default=None, gt=0, lt=1)
    """Share of the energy (squared singular values) to keep in every matrix."""
    budget: float | None = Field(default=None, gt=0, lt=1)
    """Share of all these weights to keep, divided among the matrices by singular values."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 1}, handler(schema)]}

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return {"rank": value} if isinstance(value, int) else value

    @model_validator(mode="after")
    def _one(self) -> Rank:
        if sum(given is not None for given in (self.rank, self.energy, self.budget)) != 1:
            raise ValueError("give one of rank, energy and budget (a whole number is a rank)")
        return self


class Factorize(Transform):
    """Low-rank products by singular values, weighed by what real texts put in."""

    also_called: ClassVar[tuple[str, ...]] = ("low-rank", "svd")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    embedding: Rank | None = None
    """Rank of the word embedding: a number, or {energy: 0.95}, or {budget: 0.4}."""
    linear: Rank | None = None
    """Rank of the linear layers of all blocks: a number, or {energy: …}, or {budget: …}."""
    only: tuple[Role, ...] = ()
    """Which linear layers; left empty, all of a block."""
    weighted: bool = True
    """Lose least of what training texts make of the matrices; false: of the matrices themselves."""
    samples: PositiveInt = 512
    """Training examples whose activations weigh the linear layers."""
    multiple_of: PositiveInt = 16
    """Ranks are multiples of this: kernels work on such blocks."""
    measure: bool = False
    """Time every product on this machine, and merge back those slower than their whole matrix."""
    judge: Literal["int8", "fp32"] = "int8"
    """With `measure`: in which form to time them."""

    @model_validator(mode="after")
    def _does_something(self) -> Factorize:
        if self.embedding is None and self.linear is None:
            raise ValueError("factorize does nothing; give embedding, linear or both a rank")
        if self.only and self.linear is None:
            raise ValueError("only names linear layers, but linear has no rank")
        for name in ("embedding", "linear"):
            given: Rank | None = getattr(self, name)
            if given is not None and given.rank and given.rank % self.multiple_of:
                below = given.rank - given.rank % self.multiple_of
                near = [str(r) for r in (below, below + self.multiple_of) if r]
                raise ValueError(
                    f"{name}: a rank is a multiple of multiple_of ({self.multiple_of}), such as "
                    f"{' or '.join(near)}, not {given.rank}"
                )
        return self

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was factorized."""
        from edgecompress import telling

        ranks, parameters = step.decisions.get("ranks"), step.decisions.get("parameters")
        if not isinstance(ranks, dict) or not isinstance(parameters, dict):
            return ""
        before, after = parameters.get("before"), parameters.get("after")
        if not isinstance(before, int) or not isinstance(after, int):
            return ""
        matrices = telling.matrices(ranks)
        return f"Wrote {matrices} as low-rank products: {before:,} weights became {after:,}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Decide the rank of each matrix; with `measure`, by timing each product."""
        work = _Work(self, candidate, context)
        measured = work.measure() if self.measure else {}
        return Decisions({"ranks": work.ranks, "whole": work.whole}, measured, made=work)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Factorize a copy of the model and write it.

        Raises
        ------
        StageError
            When no matrix would become smaller, or the record is not of these fields.
        """
        from edgecompress.surgery.model import save_module

        work = decisions.made or _Work(self, candidate, context)
        work.follow(decisions.record)
        if not work.ranks:
            reasons = "; ".join(f"{path}: {why}" for path, why in list(work.whole.items())[:2])
            raise StageError(
                f"no matrix would become smaller or faster as a product ({reasons}); give lower "
                "ranks, or leave factorize out"
            )
        module = work.module
        before = sum(parameter.numel() for parameter in module.parameters())
        for path, rank in work.ranks.items():
            module.set_submodule(path, work.product(path, rank))
        after = sum(parameter.numel() for parameter in module.parameters())
        return candidate.with_model(
            save_module(module, context.folder / "model"),
            energy={path: round(work.spectra[path].kept(r), 6) for path, r in work.ranks.items()},
            parameters={"before": before, "after": after},
        )


class _Work:
    """The spectra of a model's matrices, and what is decided of each.

    `ranks` holds what becomes a product, `whole` what stays, with the reason; both by the path.
    """

    def __init__(self, stage: Factorize, candidate: Candidate, context: Context) -> None:
        from edgecompress.surgery.model import load_module

        self.stage, self.candidate, self.context = stage, candidate, context
        self.module = load_module(candidate.model)
        self.ranks: dict[str, int] = {}
        self.whole: dict[str, str] = {}
        self.spectra: dict[str, Any] = {}
        self.moments: dict[str, Any] = {}
        self.tokens = 32.0
        if stage.embedding is not None:
            self.plan_embedding(stage.embedding)
        if stage.linear is not None:
            self.plan_linears(stage.linear)

    def plan_embedding(self, rule: Rank) -> None:
        """Decide the rank of the word embedding."""
        from edgecompress.surgery.factorizing import embedding_spectrum
        from edgecompress.surgery.families import word_embedding
        from edgecompress.surgery.low_rank import LowRankEmbedding

        table = word_embedding(self.module)
        path = self._path(table)
        holder = self.module.get_submodule(path.rpartition(".")[0])
        head = self.module.get_output_embeddings()
        if isinstance(holder, LowRankEmbedding):
            self.whole[path.removesuffix(".table")] = PRODUCT
        elif self._marked(path):
            self.whole[path] = ZEROS
        elif head is not None and head.weight is table.weight:
            self.whole[path] = "the head that guesses pieces has the same matrix"
        else:
            self.context.progress(0, 1, "word embedding")
            self.spectra[path] = embedding_spectrum(table, self._row_counts())
            self._choose({path: (table.embedding_dim, table.num_embeddings)}, rule)

    def _row_counts(self) -> Any:
        """Count how often training texts look each row of the word embedding up."""
        import numpy as np

        from edgecompress.surgery.families import family_of
        from edgecompress.surgery.sharing import rows_of_pieces
        from edgecompress.training.encoding import make_rows
        from edgecompress.training.moments import token_counts

        if not self.stage.weighted:
            return None
        words = self.module.base_model.get_submodule(family_of(self.module.config).words)
        rows = make_rows(self.candidate, self.context.train, self.module)
        pieces = token_counts(rows, int(words.num_embeddings))
        places = rows_of_pieces(words, np.arange(len(pieces)))
        return np.bincount(places, weights=pieces)

    def plan_linears(self, rule: Rank) -> None:
        """Decide the ranks of the blocks' linear layers."""
        from torch import nn

        from edgecompress.surgery.factorizing import linear_spectrum
        from edgecompress.surgery.families import blocks

        linears: dict[str, Any] = {}
        for block in blocks(self.module):
            roles = block.family.roles
            for role in self.stage.only or roles:
                linear = block.linear(role)
                path = self._path(linear)
                if not isinstance(linear, nn.Linear):
                    self.whole[path] = PRODUCT
                elif self._marked(path):
                    self.whole[path] = ZEROS
                else:
                    linears[path] = linear
        if self.stage.weighted:
            self._gather(linears)
        for done, (path, linear) in enumerate(linears.items(), start=1):
            self.context.progress(done, len(linears), "singular values")
            self.spectra[path] = linear_spectrum(linear, self.moments.get(path))
        self._choose({p: (one.in_features, one.out_features) for p, one in linears.items()}, rule)

    def _gather(self, linears: dict[str, Any]) -> None:
        from edgecompress.training.encoding import make_rows
        from edgecompress.training.moments import input_moments
        from edgecompress.training.rows import sample

        examples = sample(self.context.train, self.stage.samples, self.context.seed)
        rows = make_rows(self.candidate, examples, self.module)
        self.tokens = float(rows.lengths.mean())
        total = len(rows)
        self.moments = input_moments(
            self.module,
            rows,
            linears,
            lambda done: self.context.progress(done, total, "activations"),
        )

    def _choose(self, shapes: dict[str, tuple[int, int]], rule: Rank) -> None:
        from edgecompress.surgery.factorizing import (
            largest_rank,
            rank_for_energy,
            ranks_for_budget,
        )

        step = self.stage.multiple_of
        energies = [self.spectra[path].energies for path in shapes]
        wanted: list[int | None]
        if rule.budget is not None:
            wanted = ranks_for_budget(list(shapes.values()), energies, rule.budget, step)
        elif rule.energy is not None:
            wanted = [rank_for_energy(one, rule.energy, step) for one in energies]
        else:
            wanted = [rule.rank] * len(shapes)
        for (path, (inputs, outputs)), rank in zip(shapes.items(), wanted, strict=True):
            most = largest_rank(inputs, outputs, step)
            if rank is None:
                self.whole[path] = "the budget keeps more of the others"
            elif rank > most:
                self.whole[path] = (
                    f"a product of rank {rank} is not smaller than {inputs} × {outputs} weights; "
                    f"the rank may be {most} at most"
                )
            else:
                self.ranks[path] = rank

    def product(self, path: str, rank: int) -> Any:
        """Make the product in the place of the matrix at `path`."""
        from torch import nn

        from edgecompress.surgery.factorizing import embedding_product, linear_product

        old = self.module.get_submodule(path)
        if isinstance(old, nn.Embedding):
            return embedding_product(old, self.spectra[path], rank)
        return linear_product(old, self.spectra[path], rank, self.moments.get(path))

    def follow(self, recorded: Json) -> None:
        """Keep whole what was merged back when this model was first made.

        Raises
        ------
        StageError
            When the record is not of this stage with these fields.
        """
        try:
            ranks = {str(path): int(rank) for path, rank in recorded["ranks"].items()}
            whole = {str(path): str(why) for path, why in recorded["whole"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StageError(
                "factorize has no record of what it chose; run the recipe again"
            ) from None
        if not ranks.keys() <= self.ranks.keys():
            raise StageError("the record names products that this recipe does not make")
        self.ranks, self.whole = ranks, whole

    def measure(self) -> Json:
        """Time each shape of product against its whole matrix; merge back what is slower."""
        from torch import nn

        from edgecompress.quantization.write.timed_graphs import write_layers
        from edgecompress.tournament import round_json, times

        folder = self.context.folder / "timing"
        shapes: dict[tuple[int, ...], list[str]] = {}
        for path, rank in self.ranks.items():
            old = self.module.get_submodule(path)
            if isinstance(old, nn.Linear):
                key = (old.in_features, rank, old.out_features, int(old.bias is not None))
                shapes.setdefault(key, []).append(path)
        found: Json = {}
        for done, ((inputs, rank, outputs, bias), paths) in enumerate(shapes.items()):
            name = f"{inputs}×{rank}×{outputs}"
            self.context.progress(done, len(shapes), f"timing {name}")
            pair = [
                write_layers(
                    widths,
                    bool(bias),
                    max(1, round(self.tokens)),
                    folder / f"{done}-{len(widths)}",
                    self.stage.judge,
                )
                for widths in ((inputs, outputs), (inputs, rank, outputs))
            ]
            _, timed = times(Candidate(pair[0]), pair, self.context)
            found[name] = round_json(timed)
            speedup = find(timed, "speedup")
            if speedup is not None and speedup.value < LEAST_GAIN:
                for path in paths:
                    del self.ranks[path]
                    self.whole[path] = f"a product of rank {rank} was slower ({self.stage.judge})"
        shutil.rmtree(folder, ignore_errors=True)
        return {"products": found}

    def _path(self, part: Any) -> str:
        return next(path for path, other in self.module.named_modules() if other is part)

    def _marked(self, path: str) -> bool:
        from edgecompress.surgery.sparsity import marked

        return f"{path}.weight" in marked(self.module)
