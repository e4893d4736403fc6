"""How a model writes its answer, as its own files say it: which tokens, how many of them.

Read is what transformers' `generate` obeys of ``generation_config.json``, and of ``config.json``
where older checkpoints keep it. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.reading import read_json
from edgecompress.values import Json

FILE = "generation_config.json"
FILE_BYTES = 4 * 2**20
STEPS = 448
"""Most tokens of an answer, where no file says it: Whisper's."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What is asked of a decoder at each step; the likeliest token that is allowed is taken.

    Attributes
    ----------
    start, end : int
        The token before the first one, and the one behind the last.
    steps : int
        Most tokens behind `start`, `end` included.
    forced : tuple of tuple of int
        The tokens that are allowed at the first steps: one, or those of all languages, of which
        the likeliest one is the language of the window.
    suppressed : tuple of int
        Tokens that are never taken behind these.
    first_suppressed : tuple of int
        Further ones that do not stand first.
    times : int, optional
        The token of time 0, behind which those of all later times follow; None where the model
        writes none.
    untimed : int, optional
        The last forced token, by which no times are written.
    latest_first : int, optional
        The latest time with which a window may begin, counted from `times`.
    """

    start: int
    end: int
    steps: int = STEPS
    forced: tuple[tuple[int, ...], ...] = ()
    suppressed: tuple[int, ...] = ()
    first_suppressed: tuple[int, ...] = ()
    times: int | None = None
    untimed: int | None = None
    latest_first: int | None = None

    def to_json(self) -> Json:
        """Give it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Decoding:
        """Read what `to_json` gave."""
        return cls(
            int(found["start"]),
            int(found["end"]),
            int(found["steps"]),
            tuple(tuple(map(int, each)) for each in found["forced"]),
            tuple(map(int, found["suppressed"])),
            tuple(map(int, found["first_suppressed"])),
            *(found.get(name) for name in ("times", "untimed", "latest_first")),
        )


def decoding_of(folder: Path) -> Decoding:
    """Read how the model in a folder is asked.

    Raises
    ------
    DataError
        When a file is missing or damaged, or a token is.
    """
    said: Json = {}
    for name in ("config.json", FILE):
        if (folder / name).is_file():
            found = read_json(folder / name, FILE_BYTES)
            if not isinstance(found, dict):
                raise DataError("must be a JSON object", file=folder / name)
            said |= {key: value for key, value in found.items() if value is not None}
    if "steps" in said and "forced" in said:  # as `write_decoding` writes it
        return Decoding.from_json(said)
    file = folder / FILE
    start, end = (_token(said, key, file) for key in ("decoder_start_token_id", "eos_token_id"))
    forced = _forced(said, file)
    none = said.get("no_timestamps_token_id")
    untimed = none if isinstance(none, int) and forced[-1:] == ((none,),) else None
    # As transformers counts them: of Whisper the tokens at the beginning come on top.
    most = int(said.get("max_new_tokens") or said.get("max_length") or STEPS)
    if said.get("model_type") == "whisper":
        most += 1 + len(forced)
    elif said.get("max_new_tokens"):
        most += 1
    room = said.get("max_target_positions") or said.get("max_position_embeddings") or STEPS
    return Decoding(
        start,
        end,
        max(1, min(most, int(room)) - 1),
        forced,
        (*_tokens(said, "suppress_tokens", file), *_bad(said)),
        _tokens(said, "begin_suppress_tokens", file),
        None if untimed is None else untimed + 1,
        untimed,
        said.get("max_initial_timestamp_index"),
    )


def write_decoding(found: Decoding, folder: Path) -> None:
    """Write what `decoding_of` has found, so that it is read without the checkpoint."""
    text = json.dumps(found.to_json(), sort_keys=True) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def _forced(said: Mapping[str, Any], file: Path) -> tuple[tuple[int, ...], ...]:
    """Give the tokens that come first: language, task, and that no times are wanted."""
    languages, tasks = said.get("lang_to_id") or {}, said.get("task_to_id") or {}
    written = [token for _, token in sorted(said.get("forced_decoder_ids") or [], key=_place)]
    named = str(said.get("language") or "").strip("<|>")
    if named and f"<|{named}|>" not in languages:
        known = ", ".join(sorted(name.strip("<|>") for name in languages)) or "none is named"
        raise DataError(f"language {named!r} is none of the model's: {known}", file=file)
    found: list[tuple[int, ...]] = [(int(token),) for token in written if token is not None]
    if isinstance(said.get("forced_bos_token_id"), int) and not found:
        found = [(said["forced_bos_token_id"],)]
    if languages and said.get("is_multilingual", True):
        language = languages[f"<|{named}|>"] if named else next(iter(written), None)
        chosen = sorted(languages.values()) if language is None else [language]
        task = tasks.get(said.get("task") or "transcribe")
        if said.get("task") is None and len(written) > 1 and written[1] in tasks.values():
            task = written[1]
        found = [tuple(map(int, chosen)), *([(int(task),)] if task is not None else [])]
    elif None in written:
        raise DataError(
            "the language is to be found, and lang_to_id, which names the tokens of languages, is "
            "missing",
            file=file,
        )
    none = said.get("no_timestamps_token_id")
    return tuple(found) if none is None or (none,) in found else (*found, (int(none),))


def _bad(said: Mapping[str, Any]) -> tuple[int, ...]:
    """Give the tokens that are never written; of words of several tokens nothing is known here."""
    words = said.get("bad_words_ids") or ()
    return tuple(int(one[0]) for one in words if isinstance(one, list) and len(one) == 1)


def _place(pair: Sequence[Any]) -> int:
    return int(pair[0])


def _token(said: Mapping[str, Any], key: str, file: Path) -> int:
    value = said.get(key)
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, int):
        raise DataError(f"{key} is missing, without which nothing can be written", file=file)
    return value


def _tokens(said: Mapping[str, Any], key: str, file: Path) -> tuple[int, ...]:
    value = said.get(key) or ()
    if not isinstance(value, Sequence) or not all(isinstance(one, int) for one in value):
        raise DataError(f"{key} must be a list of token ids", file=file)
    return tuple(value)
