"""The size of every axis that a graph leaves open: as set, else by the meaning of its name."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgecompress.errors import RecipeError
from edgecompress.values import TensorSpec
from edgecompress.words import meant

LENGTH = 32
"""Tokens, or whatever else a size counts of which nothing is known: a short sentence."""

PIXELS = 224
"""Height and width of an image: what ImageNet's classifiers are given."""

_MEANINGS: tuple[tuple[str, int], ...] = (
    (r"batch|^(n|b|bs|bsz)$", 1),
    (r"channel|^c$", 3),
    (r"height|width|^(h|w)$", PIXELS),
    (r"seq|len|token|past|time|step|frame|^(l|t|s)$", LENGTH),
)
"""Patterns of names and what they mean, in the order in which they are tried."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Fraction | int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "ceiling": math.ceil,
    "round": round,
    "int": math.trunc,
    "trunc": math.trunc,
    "abs": abs,
    "max": max,
    "min": min,
}
"""Functions in the names of sizes (``floor(height/32)``), as sympy and exporters write them."""


@dataclass(frozen=True, slots=True)
class SizePlan:
    """What open sizes are where nothing else says it.

    Attributes
    ----------
    batch : int
    length : int
        Tokens, frames, samples of sound.
    pixels : int
        Height and width of images.
    past : int or None
        What a cache holds; None: `length`.
    masks : int
        How many lengths the nameless axes of a mask count: 2 where it masks a cache, too.
    images : bool
        Nameless axes of four-dimensional inputs are pixels; else they are lengths.
    sounds : bool
        The nameless axis of a one-dimensional input is a length; else it is a batch.
    """

    batch: int = 1
    length: int = LENGTH
    pixels: int = PIXELS
    past: int | None = None
    masks: int = 1
    images: bool = True
    sounds: bool = False


DEFAULT = SizePlan()


def resolved(
    graphs: Sequence[Sequence[TensorSpec]], sizes: Mapping[str, int], plan: SizePlan = DEFAULT
) -> list[dict[str, tuple[int, ...]]]:
    """Give the shape of every input of several graphs, equal names having equal sizes.

    Parameters
    ----------
    graphs : sequence of sequence of TensorSpec
        The inputs of each graph.
    sizes : mapping
        Sizes by symbol, or by ``input.axis`` where an axis has no symbol. Those left out follow
        from their names: a batch is 1, an image 3 × 224 × 224, a length `LENGTH`; a symbol with
        ``total`` in it is past plus present, and ``past_length + 1`` is worked out.
    plan : SizePlan
        Other sizes than these.

    Returns
    -------
    list of dict
        For each graph the shape by the name of the input.

    Raises
    ------
    RecipeError
        When `sizes` names what is not open, or a size is negative.
    """
    specs = [spec for graph in graphs for spec in graph]
    symbols = _symbols(specs)
    known = {name for symbol in symbols for name in _names(symbol)}
    for name, size in sizes.items():
        if name not in known:
            raise RecipeError(_unknown(name, known, specs), key=f"inputs.sizes.{name}")
        if size < 0:
            raise RecipeError(f"a size is at least 0, not {size}", key=f"inputs.sizes.{name}")
    chosen: dict[str, int] = dict(sizes)
    for symbol, (spec, axis) in symbols.items():
        for name in _names(symbol):
            if name not in chosen:
                chosen[name] = _default(name, spec, axis, known, chosen, plan)
    return [
        {
            spec.name: tuple(
                size if isinstance(size, int) else _value(size, chosen) for size in spec.shape
            )
            for spec in graph
        }
        for graph in graphs
    ]


def batch_names(specs: Sequence[TensorSpec]) -> list[str]:
    """Name the open sizes of a graph that count the examples of a batch.

    Those are the ones whose name says so, on whatever axis, and first axes whose name says
    nothing.
    """
    return sorted(
        symbol
        for symbol, (spec, axis) in _symbols(specs).items()
        if _parsed(symbol) is None and _default(symbol, spec, axis, (), {}, DEFAULT) == 1
    )


def _symbols(specs: Iterable[TensorSpec]) -> dict[str, tuple[TensorSpec, int]]:
    """Every open size with the first place where it stands."""
    found: dict[str, tuple[TensorSpec, int]] = {}
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                found.setdefault(size, (spec, axis))
    return found


def _parsed(symbol: str) -> ast.expr | None:
    """Parse a symbol that is a sum or the like of others; None for a plain name."""
    if re.fullmatch(r"[\w.:/]+", symbol):
        return None
    try:
        tree = ast.parse(symbol, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    plain = (ast.BinOp, ast.UnaryOp, ast.USub, ast.Call, ast.Name, ast.Constant, ast.operator)
    nodes = list(ast.walk(tree))
    known = all(
        isinstance(node.func, ast.Name) and node.func.id.lower() in _FUNCTIONS and node.args
        for node in nodes
        if isinstance(node, ast.Call)
    )
    return tree if known and all(isinstance(n, (*plain, ast.Load)) for n in nodes) else None


def _names(symbol: str) -> list[str]:
    """Give the names that a symbol is made of; most are one name."""
    tree = _parsed(symbol)
    if tree is None:
        return [symbol]
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    ]


def _value(symbol: str, sizes: Mapping[str, int]) -> int:
    tree = _parsed(symbol)
    if tree is None:
        return sizes[symbol]
    try:
        return max(0, math.floor(_calculated(tree, sizes)))
    except (ArithmeticError, TypeError, ValueError):
        return 0


def _calculated(tree: ast.expr, sizes: Mapping[str, int]) -> Fraction | int:
    if isinstance(tree, ast.Name):
        return Fraction(sizes[tree.id])
    if isinstance(tree, ast.UnaryOp):
        return -_calculated(tree.operand, sizes)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return _FUNCTIONS[tree.func.id.lower()](*(_calculated(each, sizes) for each in tree.args))
    if isinstance(tree, ast.BinOp):
        sides = (Fraction(_calculated(side, sizes)) for side in (tree.left, tree.right))
        return _ARITHMETIC[type(tree.op)](*sides) if type(tree.op) in _ARITHMETIC else 0
    value = tree.value if isinstance(tree, ast.Constant) else 0
    return Fraction(value) if isinstance(value, int | float) else 0


def _default(
    name: str,
    spec: TensorSpec,
    axis: int,
    known: Iterable[str],
    chosen: Mapping[str, int],
    plan: SizePlan,
) -> int:
    """Choose a size by the name of the axis, else by its place."""
    word = name.lower()
    if name == f"{spec.name}.{axis}":  # an axis without a name: only its place speaks
        return _by_place(spec, axis, plan)
    if "total" in word:
        parts = [_part(known, chosen, plan, past=past) for past in (True, False)]
        if any(parts):
            return sum(parts)
    size = _by_name(word, plan)
    return _by_place(spec, axis, plan) if size is None else size


def _by_name(word: str, plan: SizePlan) -> int | None:
    if plan.past is not None and "past" in word:
        return plan.past
    sizes = {1: plan.batch, 3: 3, PIXELS: plan.pixels, LENGTH: plan.length}
    return next((sizes[size] for pattern, size in _MEANINGS if re.search(pattern, word)), None)


def _part(known: Iterable[str], chosen: Mapping[str, int], plan: SizePlan, *, past: bool) -> int:
    """Give the past (or present) length, where the graph has one: a total is their sum."""
    for name in sorted(known):
        word = name.lower()
        is_past = "past" in word
        if is_past == past and re.search("seq|len", word) and not re.search("total|encoder", word):
            held = plan.length if plan.past is None or not past else plan.past
            return chosen.get(name, held)
    return 0


def _by_place(spec: TensorSpec, axis: int, plan: SizePlan) -> int:
    word = spec.name.lower()
    rank = len(spec.shape)
    if axis == 0 and not (plan.sounds and rank == 1):
        return plan.batch
    if rank == 3 and axis == 1 and re.search(r"state|hidden|cell|^[hc]_?\d*$", word):
        return plan.batch  # of recurrent layers: layers × batch × width
    if re.search("past|cache", word):
        return plan.length if plan.past is None else plan.past
    if plan.images and rank == 4 and spec.dtype.startswith(("float", "uint8")):
        channels = 3 if spec.shape[3] in (1, 3, 4) and spec.shape[1] not in (1, 3, 4) else 1
        return 3 if axis == channels else plan.pixels
    return plan.length * (plan.masks if "mask" in word else 1)


def _unknown(name: str, known: set[str], specs: Iterable[TensorSpec]) -> str:
    """Say why a size cannot be set, and which can."""
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if name == f"{spec.name}.{axis}":
                if isinstance(size, int):
                    return f"the graph fixes this axis at {size}; leave it out"
                return f"the graph calls this axis {size!r}; set that"
    if not known:
        return "the graph leaves no size open; leave it out"
    return f"the graph has no size of this name{meant(name, known)}"
