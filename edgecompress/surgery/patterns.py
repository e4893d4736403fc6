"""In which units single weights are pruned: alone, N of every M, or in blocks (no torch here)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

READABLE = "unstructured, N:M (such as '2:4': 2 of every 4 stay) or ROWSxCOLUMNS (such as 4x1)"


@dataclass(frozen=True, slots=True)
class Pattern:
    """How the weights of a matrix (outputs, inputs) are grouped when some of them go.

    Attributes
    ----------
    rows, columns : int
        Shape of a block that stays or goes as a whole: outputs × inputs; 1 × 1 is a single weight.
    keep, of : int or None
        Of every `of` weights that follow each other in a row, `keep` stay (2 and 4 in 2:4);
        None without such a rule.
    """

    rows: int = 1
    columns: int = 1
    keep: int | None = None
    of: int | None = None

    @property
    def sparsity(self) -> float | None:
        """The share of zeros that the pattern itself fixes; None where it is free."""
        if self.keep is None or self.of is None:
            return None
        return 1 - self.keep / self.of


def read_pattern(text: str) -> Pattern:
    """Read a pattern as a recipe writes it.

    Raises
    ------
    ValueError
        When it is none.

    >>> read_pattern("2:4").sparsity
    0.5
    """
    if text == "unstructured":
        return Pattern()
    if found := re.fullmatch(r"(\d{1,4}):(\d{1,4})", text):
        keep, of = map(int, found.groups())
        if 0 < keep < of:
            return Pattern(keep=keep, of=of)
        raise ValueError(f"{text} keeps {keep} of every {of} weights; N:M needs 0 < N < M")
    if found := re.fullmatch(r"(\d{1,4})x(\d{1,4})", text):
        rows, columns = map(int, found.groups())
        if rows and columns:
            return Pattern(rows, columns)
        raise ValueError(f"a block of {text} has no weight; use at least 1x1")
    raise ValueError(f"{text!r} is no pattern; write {READABLE}")


def _text_of(value: Any) -> Any:
    # YAML 1.1 reads a bare 2:4 as a number of base 60; a pattern is never a number.
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        return f"{value // 60}:{value % 60}"
    return value


def _checked(text: str) -> str:
    read_pattern(text)
    return text


PatternText = Annotated[str, BeforeValidator(_text_of), AfterValidator(_checked)]
"""A field of a stage that holds a pattern."""


def wanted_sparsity(sparsity: float | None, pattern: str) -> float:
    """Settle the share of zeros between the two fields that say it.

    Raises
    ------
    ValueError
        When neither says it, or they contradict each other.
    """
    fixed = read_pattern(pattern).sparsity
    if fixed is None:
        if sparsity is None:
            raise ValueError("say how many weights go: give sparsity (0.8 makes 80 % of them zero)")
        return sparsity
    if sparsity is not None and abs(sparsity - fixed) > 1e-3:
        raise ValueError(
            f"the pattern {pattern} makes {fixed:g} of the weights zero, and sparsity asks for "
            f"{sparsity:g}; leave sparsity out"
        )
    return fixed
