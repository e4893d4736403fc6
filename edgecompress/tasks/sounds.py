"""Sounds among the inputs of examples: how a person, a data file and a request give one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.errors import DataError
from edgecompress.processors.sounds import Sound, Waveform, check_sound, checked
from edgecompress.tasks.asking import Field
from edgecompress.tasks.given_files import bytes_in_request, file_from, in_file, is_record
from edgecompress.values import Example


def is_sound(value: Any) -> bool:
    """Whether a value is one: a path, a file's bytes, a waveform, or a record.

    Hugging Face's datasets stores ``{"bytes": …, "path": …}``, and gives decoded ones as
    ``{"array": …, "sampling_rate": …}``.
    """
    plain = isinstance(value, str | Path | bytes | bytearray | Waveform)
    return plain or is_record(value) or _decoded(value)


def sound_from(value: Any, folder: Path = Path()) -> Sound:
    """Give the sound that a value means; a path is relative to `folder`.

    Raises
    ------
    DataError
        When it cannot be read to its end.
    """
    if isinstance(value, Waveform):
        return checked(value)
    if _decoded(value):
        rate = value["sampling_rate"]
        if isinstance(rate, bool) or not isinstance(rate, int):
            raise DataError("sampling_rate must be a whole number of samples a second")
        try:
            samples = np.asarray(value["array"], np.float32)
        except (TypeError, ValueError):
            raise DataError("array must be a list of numbers") from None
        return checked(Waveform(samples, rate))
    return check_sound(file_from(value, folder, "a sound"))


def sound_in_file(value: Any, folder: Path) -> Sound:
    """Give the sound that a cell of a data file means, and name it where it cannot be read."""
    return in_file(sound_from, value, folder)


def sound_in_request(value: Any) -> Sound:
    """Give the sound that base64 in a request holds; ``data:audio/…;base64,`` may stand ahead.

    Raises
    ------
    DataError
        When it is none. A path is never followed: whoever asks is a stranger.
    """
    return bytes_in_request(value, AUDIO.name)


AUDIO = Field(
    "audio",
    "a sound (a path or bytes; over HTTP its bytes in base64)",
    '"<base64>"',
    is_sound,
    "sounds",
    sound_in_file,
    sound_in_request,
)


def sound_of(example: Example) -> Sound:
    """Give the sound of an example."""
    found: Sound = example.inputs["audio"]
    return found


def _decoded(value: Any) -> bool:
    return isinstance(value, Mapping) and {"array", "sampling_rate"} <= set(value)
