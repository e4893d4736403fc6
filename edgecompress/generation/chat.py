"""Chats as a prompt: the template that travels with a tokenizer, in jinja2's sandbox.

Templates are programs of strangers, so that they see the messages and nothing else; the variables
and functions are those that transformers gives them
(https://huggingface.co/docs/transformers/chat_templating).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgecompress.errors import DataError

ROLES = ("system", "user", "assistant")


def is_messages(value: Any) -> bool:
    """Whether a value is a chat: a list of objects with ``role`` and ``content``."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(
            isinstance(one, Mapping)
            and set(one) == {"role", "content"}
            and one["role"] in ROLES
            and isinstance(one["content"], str)
            for one in value
        )
    )


def prompt_of(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str]
) -> str:
    """Write a chat as the prompt that a model of chats goes on from.

    Parameters
    ----------
    template : str
    messages : sequence of mapping
        As `is_messages` says.
    tokens : mapping of str to str
        ``bos_token``, ``eos_token`` and the like, which templates name.

    Raises
    ------
    DataError
        When jinja2 is not installed, or the template is faulty or refuses the messages.
    """
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise DataError(
            "chats need jinja2, which is not installed here (the extra `chat`); a text goes to the "
            "model as it is"
        ) from None

    def refuse(why: str) -> None:
        raise jinja2.TemplateError(why)

    def written(value: Any, **given: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **given)

    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = written
    sandbox.globals["raise_exception"] = refuse
    try:
        return sandbox.from_string(template).render(
            messages=[dict(one) for one in messages], add_generation_prompt=True, **tokens
        )
    except Exception as error:  # noqa: BLE001 - a stranger's program may raise anything
        why = " ".join(str(error).split())[:200]
        raise DataError(f"the model's chat template does not take these messages ({why})") from None
