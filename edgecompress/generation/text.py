"""Tokens as text while they come: whole characters only, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def pieces_of_text(tokenizer: Any, tokens: Iterable[int], stop: Sequence[str]) -> Iterator[str]:
    """Give the text of tokens, piece by piece, as soon as it is certain.

    What may be the beginning of a stop string is held back until it is known; from a stop string
    on nothing is given, and no further token is asked for.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    tokens : iterable of int
    stop : sequence of str
    """
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=True)
    held = ""
    for token in tokens:
        held += stream.step(tokenizer, token) or ""
        found = min((at for one in stop if (at := held.find(one)) >= 0), default=-1)
        if found >= 0:
            if found:
                yield held[:found]
            return
        keep = _beginning(held, stop)
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    if held:
        yield held


def _beginning(text: str, stop: Sequence[str]) -> int:
    """Count the characters at the end of a text with which a stop string may begin."""
    longest = max((len(one) for one in stop), default=1) - 1
    lengths = range(min(longest, len(text)), 0, -1)
    return next((n for n in lengths if any(one.startswith(text[-n:]) for one in stop)), 0)
