"""Make torchaudio.npz: what torchaudio's own front ends make of the sounds of test_audio.py.

There is no torchaudio for every torch, so its arrays lie beside the test. Where one can be
imported, run:
`PYTHONPATH=. python tests/processors/make_torchaudio.py`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio

from edgecompress.processors.sounds import TAPS
from tests.processors.test_audio import FRONT_ENDS, RATE, RATES, SHORT_SOUNDS, noise


def front_end(features: str, fields: dict[str, Any]) -> torch.nn.Module:
    """Give torchaudio's module for one described front end."""
    if fields.get("window_fn") == "hamming":
        fields = {**fields, "window_fn": torch.hamming_window}
    made = (
        torchaudio.transforms.MFCC if features == "mfcc" else torchaudio.transforms.MelSpectrogram
    )
    return made(RATE, **({"n_mfcc": 20} if features == "mfcc" else {}), **fields)


def main() -> None:
    """Write the arrays, by the name of the front end or the rates, and of the sound."""
    arrays = {}
    for name, (ours, theirs) in FRONT_ENDS.items():
        module = front_end(ours["features"], theirs)
        for number, samples in enumerate(SHORT_SOUNDS):
            arrays[f"{name}-{number}"] = module(torch.from_numpy(samples)).numpy()
    for old, new in RATES:
        # Its kernels are made in the type of the samples, and those of floats are coarse.
        samples = torch.from_numpy(noise()).double()
        made = torchaudio.functional.resample(samples, old, new, lowpass_filter_width=TAPS)
        arrays[f"{old}-{new}"] = made.numpy().astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("torchaudio.npz"), **arrays)


if __name__ == "__main__":
    main()
