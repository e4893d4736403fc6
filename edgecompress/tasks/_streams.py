"""Words in a stream: windows with a stride, smoothed probabilities, a threshold, a pause.

Source: G. Chen, C. Parada, G. Heigold, «Small-footprint keyword spotting using deep neural
networks» (ICASSP 2014), whose smoothing this is; a pause behind a word keeps it from counting
twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecompress.processors.audio_settings import Stream
from edgecompress.tasks.answers import Answer


def window_starts(seconds: float, window: float, stride: float) -> NDArray[np.float64]:
    """Give the seconds at which windows begin, float64 (windows,): at least one."""
    count = 1 + max(0, int((seconds - window) / stride + 1e-6))
    return np.arange(count, dtype=np.float64) * np.float64(stride)


def smoothed(values: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """Give the mean of each value and those before it, float64 (values, classes)."""
    sums = np.concatenate((np.zeros((1, values.shape[1])), values.cumsum(axis=0)))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - windows, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[begins]) / (ends - begins)[:, None]
    return means


def heard(
    probabilities: NDArray[np.float64],
    starts: NDArray[np.float64],
    window: float,
    seconds: float,
    classes: Sequence[str],
    stream: Stream,
) -> Answer:
    """Read the words of a recording from the probabilities of its windows.

    Parameters
    ----------
    probabilities : float64 (windows, classes)
    starts : float64 (windows,)
        Seconds at which they begin.
    window : float
        Their seconds.
    seconds : float
        Of the recording.
    classes : sequence of str
    stream : Stream

    Returns
    -------
    Answer
        Its label is the word that is surest, or what is likeliest on average where none is heard;
        with ``heard``, ``at`` (the middle of the window), ``sure``, ``seconds`` and the
        number of ``windows``.
    """
    wide = max(1, round(stream.smoothing / stream.stride)) if len(starts) > 1 else 1
    means = smoothed(probabilities, wide)
    word = np.array([name not in stream.background for name in classes])
    winners, best = means.argmax(axis=1), means.max(axis=1)
    found: list[int] = []
    for place in np.flatnonzero(word[winners] & (best >= stream.threshold)).tolist():
        if not found or starts[place] - starts[found[-1]] >= stream.refractory:
            found.append(place)
    if found:
        surest = max(found, key=lambda place: best[place])
        scores = means[surest]
    else:
        scores = probabilities.mean(axis=0)
    winner = int(scores.argmax())
    details = {
        "classes": tuple(classes),
        "scores": scores,
        "heard": np.array([classes[winners[place]] for place in found], np.str_),
        "at": starts[found] + window / 2,
        "sure": best[found],
        "seconds": np.array(max(seconds, window)),
        "windows": len(starts),
    }
    return Answer((classes[winner],), scores[winner : winner + 1], details)
