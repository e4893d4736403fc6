"""The text side of a language model: a tokenizer, what ends an answer, and how chats are written.

The files are those of a checkpoint: ``generation_config.json`` (tokens that end an answer, and
what else of it is followed) and ``chat_template.jinja`` beside the tokenizer's; both may be
missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgecompress.errors import DataError
from edgecompress.generation.chat import prompt_of
from edgecompress.processors.base import fields_of
from edgecompress.processors.text import TextProcessor
from edgecompress.reading import read_json, read_text
from edgecompress.values import file_digest

GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
TEMPLATE_BYTES = 2**20
SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True, eq=False)
class PromptProcessor(TextProcessor):
    """A tokenizer with what generation needs to know.

    Attributes
    ----------
    ends : tuple of int
        Tokens that end an answer.
    template : str
        How chats become a prompt; empty for a model of no chats.
    special : mapping of str to str
        Special tokens by their names (``bos_token``), as templates use them.
    followed : mapping
        Of ``generation_config.json``, as it is.
    """

    kind: ClassVar[str] = "prompts"

    ends: tuple[int, ...] = ()
    template: str = ""
    special: Mapping[str, str] = field(default_factory=dict)
    followed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path | None) -> PromptProcessor:
        """Read the tokenizer and what stands beside it.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """
        base = TextProcessor.load(directory)
        folder = Path(directory or "")  # without one the tokenizer has been missed already
        given = fields_of(base)
        found = hashlib.sha256(base.digest.encode())
        for name in (GENERATION, TEMPLATE):
            file = folder / name
            found.update(f"{name} {file_digest(file) if file.is_file() else '-'}\n".encode())
        given["digest"] = found.hexdigest()
        followed = _object(folder / GENERATION)
        special = _special(_object(folder / SETTINGS))
        template = folder / TEMPLATE
        return cls(
            **given,
            ends=_ends(followed, special, base.tokenizer),
            template=read_text(template, TEMPLATE_BYTES) if template.is_file() else "",
            special=special,
            followed=followed,
        )

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Write a chat as a prompt.

        Raises
        ------
        DataError
            When the model has no template, or it cannot be used here.
        """
        if not self.template:
            raise DataError(
                "the model's tokenizer has no chat template, so that nobody knows how chats are "
                "written for it; ask with a text, which goes to the model as it is"
            )
        return prompt_of(self.template, messages, self.special)


def take_prompt_files(source: Path, folder: Path) -> None:
    """Take the template and the settings of generation out of a checkpoint, where it has them."""
    for name in (GENERATION, TEMPLATE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    known = _object(source / SETTINGS).get("chat_template")
    if isinstance(known, list):  # several by name
        known = next((one.get("template") for one in known if one.get("name") == "default"), None)
    if isinstance(known, str) and not (folder / TEMPLATE).is_file():
        (folder / TEMPLATE).write_text(known, encoding="utf-8")
    if not (folder / GENERATION).is_file():
        config = _object(source / "config.json")
        kept = {key: config[key] for key in ("bos_token_id", "eos_token_id") if key in config}
        (folder / GENERATION).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError("must be a JSON object", file=file)
    return found


def _special(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _ends(
    followed: Mapping[str, Any], special: Mapping[str, str], tokenizer: Any
) -> tuple[int, ...]:
    value = followed.get("eos_token_id")
    listed = value if isinstance(value, list) else [value]
    ids = {one for one in listed if isinstance(one, int) and not isinstance(one, bool)}
    ids |= {tokenizer.token_to_id(special[one]) for one in ("eos_token",) if one in special}
    return tuple(sorted(one for one in ids if one is not None))
