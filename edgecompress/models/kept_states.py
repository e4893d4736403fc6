"""A session that is given its own states again: what it said of a step is what the next reads.

Nothing of a state is copied to Python. Where the graph says that its attention can write into what
it reads (`generation.states.IN_PLACE`), keys and values have one place that past and present share,
with room for more: a step then writes one token, and copies none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecompress.generation.states import IN_PLACE, TOKENS_AXIS

ROOM = 256
"""Tokens: states in place have room for a multiple of them."""


class KeptStates:
    """Runs of a session, each of which goes on from the one before.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : sequence of str
        What it is asked for.
    fed_back : mapping of str to str
        For each input that holds a state, the output that it is given next.
    run : callable
        Runs a function of the session, and says in a sentence what ONNX Runtime refuses.
    """

    def __init__(
        self,
        session: Any,
        outputs: Sequence[str],
        fed_back: Mapping[str, str],
        run: Callable[..., Any],
    ) -> None:
        self.session, self.outputs, self.fed_back, self._run = session, outputs, fed_back, run
        self.answers = [name for name in outputs if name not in {*fed_back.values()}]
        self.in_place = bool(fed_back) and IN_PLACE in session.get_modelmeta().custom_metadata_map
        self.given: dict[str, Any] = {}
        self.room = self.total = self.count = 0

    def __call__(self, new: Mapping[str, Any], total: int) -> dict[str, Any]:
        """Run once.

        Parameters
        ----------
        new : mapping of str to ndarray
            What is not as at the run before; the first time all, with states of no tokens.
        total : int
            Tokens that are read when this run is done.

        Returns
        -------
        dict of str to ndarray
            The outputs that are no states.
        """
        return self._shared(new, total) if self.in_place else self._handed_on(new)

    def _handed_on(self, new: Mapping[str, Any]) -> dict[str, Any]:
        import onnxruntime

        made = onnxruntime.OrtValue.ortvalue_from_numpy
        self.given |= {name: made(value) for name, value in new.items()}
        found = self._run(self.session.run_with_ort_values, list(self.outputs), self.given)
        by_name = dict(zip(self.outputs, found, strict=True))
        self.given |= {name: by_name[output] for name, output in self.fed_back.items()}
        return {name: by_name[name].numpy() for name in self.answers}

    def _shared(self, new: Mapping[str, Any], total: int) -> dict[str, Any]:
        import onnxruntime

        if total > self.room:
            self._make_room(new, total)
        for name in new.keys() - self.fed_back.keys():
            self.given[name] = value = onnxruntime.OrtValue.ortvalue_from_numpy(new[name])
            self.binding.bind_ortvalue_input(name, value)
        count, self.total = total - self.total, total
        again, self.count = count == self.count, count
        if not again:  # of as many tokens as before, answers have the place that they had
            for name in self.answers:
                self.binding.bind_output(name)
        self._run(self.session.run_with_iobinding, self.binding)
        if not again:
            self.found = self.binding.get_outputs()[len(self.fed_back) :]
        answers = zip(self.answers, self.found, strict=True)
        return {name: each.numpy().copy() for name, each in answers}  # the next run writes there

    def _make_room(self, new: Mapping[str, Any], total: int) -> None:
        import onnxruntime

        before, self.room, self.count = self.room, -(-total // ROOM) * ROOM, 0
        self.binding = self.session.io_binding()
        for name, output in self.fed_back.items():
            old = self.given[name].numpy() if before else new[name]
            shape = [*old.shape]
            shape[TOKENS_AXIS] = self.room
            roomy = np.zeros(shape, old.dtype)
            roomy[:, :, :before] = old
            self.given[name] = value = onnxruntime.OrtValue.ortvalue_from_numpy(roomy)
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(output, value)
        for name in self.given.keys() - self.fed_back.keys():
            self.binding.bind_ortvalue_input(name, self.given[name])
