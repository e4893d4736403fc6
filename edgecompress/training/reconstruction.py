"""What is left of a pruned model is fitted to give what the whole one gave; nothing is trained.

Block after block, the matrices behind removed heads and neurons (attention output, second
feed-forward matrix) are solved for by least squares over calibration tokens: their inputs are those
of the pruned model, with all that was fitted before, and the target is the sum that the original
model normalizes there, so that each block also undoes what the ones before it could not. Where
hidden channels were removed, the matrices that read them and the scales of the normalizations are
fitted in the same way.

The normal equations are gathered batch by batch in float64, so that memory does not grow with the
number of tokens; what does are the hidden states behind one block, of both models. A ridge draws
the solution to the weights that were there. Kwon et al. (2022, section 4.3) fit one factor for each
mask entry; the whole matrix has the same normal equations and fits better. Source of the scheme:
He et al., 2017, "Channel pruning for accelerating very deep neural networks".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgecompress.errors import StageError
from edgecompress.surgery.families import Block, blocks, family_of, layer_list
from edgecompress.surgery.hidden import WRITES, hidden_norms, hidden_size, is_norm, reader
from edgecompress.training.importance.gradients import Tick
from edgecompress.training.normal_equations import Normal, correct
from edgecompress.training.rows import TorchRows
from edgecompress.training.stepwise import EnoughError, StepwiseRunner, states_of
from edgecompress.values import Json

LEAST_ROWS = 4
"""TorchRows for each input that a matrix is fitted on, at least; else it stays as it is."""

Place = tuple[nn.Module, str]
"""A module, and which of its sides is looked at: ``in`` or ``out``."""


@dataclass(frozen=True, eq=False)
class Remains:
    """What of the original model is left, in its numbering.

    Attributes
    ----------
    heads, neurons : sequence of sequence of int
        Per layer.
    hidden : sequence of int or None
        Channels; None where all are left.
    """

    heads: Sequence[Sequence[int]]
    neurons: Sequence[Sequence[int]]
    hidden: Sequence[int] | None = None


def reconstruct(
    module: Any, original: Any, rows: TorchRows, remains: Remains, ridge: float, tick: Tick
) -> list[Json]:
    """Fit a pruned module to its original, block by block; changes `module`.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        What is left of `original` after surgery.
    original : transformers.PreTrainedModel
        Not changed.
    rows : TorchRows
        Calibration text; labels are not looked at.
    remains : Remains
    ridge : float
        Weight of staying near the weights that were there, as a share of the inputs' mean square.
    tick : callable
        Told the number of blocks done.

    Returns
    -------
    list of dict
        Per block, by the matrix that was fitted: the relative squared error ``before`` and
        ``after`` on the calibration tokens.
    """
    work = _Work(module, original, rows, remains, ridge)
    if remains.hidden is not None:
        work.fit_embeddings()
    found = []
    for index in range(len(work.pruned.layers)):
        found.append(work.fit_block(index))
        tick(index + 1)
    if remains.hidden is not None:
        work.fit_reader()
    return found


def check_fits(module: Any) -> None:
    """Refuse a model whose layers share their weights: a block cannot be fitted alone.

    Raises
    ------
    StageError
    """
    if len(layer_list(module)) > len(list(blocks(module))):
        kind = module.config.model_type
        raise StageError(
            f"the layers of this {kind} model share their weights, so that none can be fitted "
            "alone; set reconstruct: false"
        )


class _Work:
    """Both models, the states behind the block that was fitted last, and how to fit the next."""

    def __init__(
        self, module: Any, original: Any, rows: TorchRows, remains: Remains, ridge: float
    ) -> None:
        self.pruned, self.whole = StepwiseRunner(module, rows), StepwiseRunner(original, rows)
        self.before: list[Any] | None = None  # states of the pruned model, by batch
        self.wanted: list[Any] | None = None  # and of the original
        self.remains, self.ridge = remains, ridge
        channels = remains.hidden if remains.hidden is not None else range(hidden_size(original))
        self.channels = torch.as_tensor(list(channels))
        self.blocks, self.originals = list(blocks(module)), list(blocks(original))
        self.ends_in_norm = _ends_in_norm(self.whole, self.originals[-1])

    def fit_block(self, index: int) -> Json:
        """Fit one block and go behind it."""
        block, whole = self.blocks[index], self.originals[index]
        here, there = self._places(block, whole)
        targets = self._targets(index, whole, there)
        report: Json = {}
        for role in block.family.roles:
            if role in targets:
                place = here.get(role, (block.part(role), "out"))
                report[role] = self._fit(index, block.part(role), place, targets[role])
            norm = {"output": "norm1", "ffn_out": "norm2"}.get(role)
            if norm in targets:
                self._fit_norm(index, here[norm][0], targets[norm])
        watched = self._watch(self.pruned, index, self.before, {}, keep=True)
        self.before = [output for _, output in watched]
        return report

    def _places(self, block: Block, whole: Block) -> tuple[dict[str, Place], dict[str, Place]]:
        """Say where both models' sums and, in a narrower model, normalizations are to be seen.

        A sum is the hidden states with what attention or feed-forward added. The block ends in
        the normalization of the second one, or normalizes before its parts (ModernBERT).
        """
        found: list[dict[str, Place]] = []
        for each in (block, whole):
            norms = _norms(each)
            if self.ends_in_norm:
                places: dict[str, Place] = {"output": (norms[0], "in"), "ffn_out": (norms[1], "in")}
                if self.remains.hidden is not None:
                    places |= {"norm1": (norms[0], "out"), "norm2": (norms[1], "out")}
            else:
                places = {"output": (norms[-1], "in"), "ffn_out": (each.module, "out")}
            found.append(places)
        return found[0], found[1]

    def _targets(
        self, index: int, whole: Block, there: Mapping[str, Place]
    ) -> dict[str, list[torch.Tensor]]:
        """Run the original's block, keep what the pruned one's parts are to give, and go on."""
        wants = dict(there)
        picked = {}
        if self.remains.hidden is not None:
            for role in whole.family.roles:
                if role not in WRITES:
                    wants[role] = (whole.part(role), "out")
                    picked[role] = self._rows(index, role)
        targets: dict[str, list[torch.Tensor]] = {name: [] for name in wants}
        after: list[Any] = []
        for seen, output in self._watch(self.whole, index, self.wanted, wants, keep=True):
            for name in wants:
                kept = picked.get(name, self.channels)
                targets[name].append(seen[name].index_select(1, kept))
            after.append(output)
        self.wanted = after
        return targets

    def _rows(self, index: int, role: str) -> torch.Tensor:
        """Give the original's rows that are left in a matrix that reads the hidden states."""
        whole = self.originals[index]
        if role.startswith("ffn"):
            rows, stride = torch.as_tensor(list(self.remains.neurons[index])), whole.neurons
        else:
            rows = whole.head_rows(role, self.remains.heads[index])
            stride = len(whole.head_rows(role, range(whole.heads)))
        times = whole.part(role).out_features // stride
        return torch.cat([rows + stride * part for part in range(times)])

    def fit_embeddings(self) -> None:
        """Fit the scale and shift of the embeddings' normalization, where it has the width."""
        base = self.pruned.module.base_model
        embeddings = base.get_submodule(family_of(base.config).embeddings)
        inside = {id(part) for part in embeddings.modules()}
        pairs = [
            (here, there)
            for here, there in zip(
                hidden_norms(self.pruned.module), hidden_norms(self.whole.module), strict=True
            )
            if id(here) in inside  # a ViT has none there
        ]
        for here, there in pairs[:1]:
            targets = [
                seen["norm"].index_select(1, self.channels)
                for seen, _ in self._watch(self.whole, 0, None, {"norm": (there, "out")})
            ]
            self._fit_norm(0, here, targets)

    def fit_reader(self) -> None:
        """Fit the head's first matrix to the original's outputs."""
        here, there = reader(self.pruned.module), reader(self.whole.module)
        if here is self.pruned.module.get_output_embeddings():
            return  # a row for each piece of the vocabulary, which the embeddings often share
        normal = Normal(here.in_features, here.out_features)
        wanted = self._ends(self.whole, self.wanted, there)
        found = self._ends(self.pruned, self.before, here)
        count = 0
        for (_, target), (x, y) in zip(wanted, found, strict=True):
            normal.add(x, target - y)
            count += len(x)
        # A pooler reads one token of a text: too few of them would be learnt by heart.
        if count >= LEAST_ROWS * here.in_features:
            correct(here, normal, self.ridge)

    def _ends(
        self, runner: StepwiseRunner, states: Any, part: nn.Module
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give inputs and outputs of the head's first matrix, batch by batch."""
        seen: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            _hook(stack, seen, "in", (part, "in"), last=False)
            _hook(stack, seen, "out", (part, "out"), last=False)
            for _, real, _ in runner.run([], states):
                x, y = seen["in"], seen["out"]
                # A pooler reads the first token alone, a tagger all of them.
                yield (x[real], y[real]) if x.ndim == 3 else (x, y)

    def _fit(
        self, index: int, linear: nn.Linear, total: Place, targets: list[torch.Tensor]
    ) -> Json:
        """Fit one matrix so that what is seen at `total` becomes `targets`."""
        normal = Normal(linear.in_features, linear.out_features)
        wants: dict[str, Place] = {"x": (linear, "in"), "y": total}
        energy = 0.0
        watched = self._watch(self.pruned, index, self.before, wants)
        for (seen, _), target in zip(watched, targets, strict=True):
            normal.add(seen["x"], target - seen["y"])
            energy += float((target - target.mean(0)).double().square().sum())
        before, after = correct(linear, normal, self.ridge)
        energy = max(energy, 1e-30)
        return {"before": round(before / energy, 6), "after": round(after / energy, 6)}

    def _fit_norm(self, index: int, norm: nn.LayerNorm, targets: list[torch.Tensor]) -> None:
        """Fit each channel's scale and shift of a normalization by a straight line."""
        width = norm.normalized_shape[0]
        sums = torch.zeros(4, width, dtype=torch.float64)  # z², z, z·t, t
        count = 0
        watched = self._watch(self.pruned, index, self.before, {"x": (norm, "in")})
        for (seen, _), target in zip(watched, targets, strict=True):
            z = functional.layer_norm(seen["x"], (width,), eps=norm.eps).double()
            t = target.double()
            sums += torch.stack([(z * z).sum(0), z.sum(0), (z * t).sum(0), t.sum(0)])
            count += len(z)
        square, plain, cross, total = sums / count
        spread = (square - plain * plain).clamp(min=1e-8)
        scale = (cross - plain * total) / spread
        shift = total - scale * plain
        with torch.no_grad():
            norm.weight.copy_(scale)
            if norm.bias is not None:
                norm.bias.copy_(shift)

    def _watch(
        self,
        runner: StepwiseRunner,
        index: int,
        states: list[Any] | None,
        wants: Mapping[str, Place],
        keep: bool = False,
    ) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """Run one block on all batches; give what was seen at `wants`, real tokens only.

        The pass ends at the last of `wants`, or behind the block where its output is to be kept.
        """
        seen: dict[str, torch.Tensor] = {}
        output: list[Any] = []
        with ExitStack() as stack:
            for number, (name, place) in enumerate(wants.items()):
                last = not keep and number == len(wants) - 1
                _hook(stack, seen, name, place, last)
            if keep:
                stack.callback(runner.layers[index].register_forward_hook(_keeper(output)).remove)
            for _, real, _ in runner.run([index], states):
                yield {name: seen[name][real] for name in wants}, (output[-1] if output else None)
                output.clear()


def _norms(block: Block) -> list[Any]:
    """Give a block's normalizations of the hidden states."""
    width = block.linear("ffn_out").out_features
    return [part for part in block.module.modules() if is_norm(part, width)]


def _ends_in_norm(runner: StepwiseRunner, block: Block) -> bool:
    """Tell whether what a block gives is what its last normalization gives."""
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        _hook(stack, seen, "norm", (_norms(block)[-1], "out"), last=False)
        _hook(stack, seen, "block", (block.module, "out"), last=True)
        next(runner.run([len(runner.layers) - 1], None))
    return torch.equal(seen["norm"], seen["block"])


def _hook(
    stack: ExitStack, seen: dict[str, torch.Tensor], name: str, place: Place, last: bool
) -> None:
    module, side = place

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[name] = inputs[0]
        if last:
            raise EnoughError

    def behind(_: nn.Module, __: Any, output: Any) -> None:
        seen[name] = states_of(output)
        if last:
            raise EnoughError

    if side == "in":
        stack.callback(module.register_forward_pre_hook(before).remove)
    else:
        stack.callback(module.register_forward_hook(behind).remove)


def _keeper(output: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(_: nn.Module, __: Any, given: Any) -> None:
        output.append(given)
        raise EnoughError

    return keep
