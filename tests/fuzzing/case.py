"""One hostile input: what is typed, and what its answer must name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A command line on files that were made for it.

    Attributes
    ----------
    arguments : tuple of str
        What is typed after ``edgecompress``.
    names : tuple of str
        A refusal must hold one of these: the file or the option at fault.
    told : str
        What was done to the input, for a person who reads of a fault.
    """

    arguments: tuple[str, ...]
    names: tuple[str, ...]
    told: str = ""

    def __post_init__(self) -> None:
        """Leave out what no command line can hold: a NUL, and what is no text of a file name."""
        typed = (
            "".join(sign for sign in one if sign != "\0" and not "\ud800" <= sign < "\udc80")
            for one in self.arguments
        )
        object.__setattr__(self, "arguments", tuple(typed))
