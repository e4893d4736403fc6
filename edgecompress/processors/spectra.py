"""Short-time spectra of sounds in numpy: mel bands, their logarithm, cepstra (MFCC).

The arithmetic is that of `transformers.audio_utils.spectrogram` and of torchaudio's
`MelSpectrogram` and `MFCC`, in float64 until the end.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCALES = ("slaney", "htk", "kaldi")
WINDOWS = ("hann", "hamming", "povey", "boxcar")
LOGS = ("none", "natural", "log10", "db")


@dataclass(frozen=True, slots=True)
class Spectrum:
    """How a sound becomes frames of numbers.

    Attributes
    ----------
    sampling_rate : int
    n_fft : int
        Samples of the Fourier transform.
    hop_length : int
        Samples from one frame to the next.
    frame_length : int
        Samples of a frame; zeros fill it up to `n_fft`, as Kaldi does. Mostly `n_fft`.
    win_length : int
        Samples of the window, which stands in the middle of a frame, as in `torch.stft`.
    window : {"hann", "hamming", "povey", "boxcar"}
    periodic : bool
        Whether the window is that of a period, as for spectra; else a symmetric one.
    center : bool
        Whether frames are centred on their places, and the sound is lengthened at both ends.
    pad_mode : {"reflect", "constant"}
        With what it is lengthened.
    preemphasis : float
        Share of the sample before that is taken away; 0 for none.
    remove_dc_offset : bool
        Whether each frame loses its mean.
    power : int
        1 for magnitudes, 2 for energies.
    n_mels : int
        Bands; 0 for the frequencies themselves.
    f_min, f_max : float
        Hertz: where the first band begins and the last one ends.
    mel_scale : {"slaney", "htk", "kaldi"}
    mel_norm : bool
        Whether each band is divided by its width («slaney» of librosa and torchaudio).
    mel_space : bool
        Whether bands are triangles in mel, as Kaldi's, and not in hertz.
    log : {"none", "natural", "log10", "db"}
    log_offset : float
        What is added before the logarithm.
    log_floor : float
        What smaller energies are raised to before it; 0: bands without any energy stay 0.
    log_range : float
        What lies further below the loudest is raised to that, in units of `log`; 0 for no such.
    n_mfcc : int
        Cepstral coefficients; 0 for none.
    dct_norm : bool
        Whether their transform is orthonormal.
    """

    sampling_rate: int
    n_fft: int
    hop_length: int
    frame_length: int
    win_length: int
    window: str = "hann"
    periodic: bool = True
    center: bool = True
    pad_mode: Literal["reflect", "constant"] = "reflect"
    preemphasis: float = 0.0
    remove_dc_offset: bool = False
    power: int = 2
    n_mels: int = 0
    f_min: float = 0.0
    f_max: float = 0.0
    mel_scale: str = "htk"
    mel_norm: bool = False
    mel_space: bool = False
    log: str = "none"
    log_offset: float = 0.0
    log_floor: float = 1e-10
    log_range: float = 0.0
    n_mfcc: int = 0
    dct_norm: bool = True

    @property
    def width(self) -> int:
        """Numbers in a frame."""
        return self.n_mfcc or self.n_mels or self.n_fft // 2 + 1

    def frames(self, samples: int) -> int:
        """Count the frames of so many samples."""
        whole = samples + (self.frame_length // 2 * 2 if self.center else 0)
        return max(0, 1 + (whole - self.frame_length) // self.hop_length)

    def of(self, samples: NDArray[Any], most: int | None = None) -> Floats:
        """Give the frames of a sound, float64 (frames, width).

        Parameters
        ----------
        samples : float (samples,)
        most : int, optional
            Frames that are kept, the first ones.
        """
        values = samples.astype(np.float64)
        if self.center:
            half = self.frame_length // 2
            # A mirror needs something to show; a sound that is shorter is mirrored in silence.
            if self.pad_mode == "reflect" and len(values) <= half:
                values = np.pad(values, (0, half + 1 - len(values)))
            values = np.pad(values, half, mode=self.pad_mode)
        if len(values) < self.frame_length:
            return np.zeros((0, self.width))
        frames = np.lib.stride_tricks.sliding_window_view(values, self.frame_length)
        frames = frames[:: self.hop_length][:most]
        if self.remove_dc_offset:
            frames = frames - frames.mean(axis=1, keepdims=True)
        if self.preemphasis:
            before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
            frames = frames - self.preemphasis * before
        spectrum = np.abs(np.fft.rfft(frames * _window(self), self.n_fft))
        energies = spectrum if self.power == 1 else spectrum**2
        if self.n_mels:
            energies = energies @ mel_bands(self)
        found = self._logarithm(energies)
        if not self.n_mfcc:
            return found
        return found @ _cosines(found.shape[1], self.n_mfcc, self.dct_norm)

    def _logarithm(self, energies: Floats) -> Floats:
        if self.log == "none":
            return energies
        raised = energies + self.log_offset
        if self.log_floor:
            raised = np.maximum(raised, self.log_floor)
        there = raised > 0
        made: Floats = np.log(raised, out=np.zeros_like(raised), where=there)
        made *= {"natural": 1.0, "log10": 1 / np.log(10), "db": 20 / self.power / np.log(10)}[
            self.log
        ]
        if self.log_range and made.size:
            made = np.maximum(made, made.max() - self.log_range)
        return made


@functools.lru_cache(maxsize=8)
def mel_bands(of: Spectrum) -> Floats:
    """Give the weight of each frequency in each band, float64 (n_fft / 2 + 1, n_mels).

    Source: `transformers.audio_utils.mel_filter_bank`, after librosa and torchaudio.
    """
    ends = _mel(np.array([of.f_min, of.f_max]), of.mel_scale)
    mels = np.linspace(ends[0], ends[1], of.n_mels + 2)
    edges = mels if of.mel_space else _hertz(mels, of.mel_scale)
    given = np.fft.rfftfreq(of.n_fft, 1 / of.sampling_rate).astype(np.float64)
    if of.mel_space:
        given = _mel(given, of.mel_scale)
    widths, slopes = np.diff(edges), edges[None] - given[:, None]
    bands: Floats = np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:])
    bands = np.maximum(bands, 0)
    return bands * (2 / (edges[2:] - edges[:-2])) if of.mel_norm else bands


def _mel(hertz: Floats, scale: str) -> Floats:
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + hertz / 700))
    if scale == "kaldi":
        return np.asarray(1127 * np.log(1 + hertz / 700))
    above = 15 + np.log(np.maximum(hertz, 1000) / 1000) * (27 / np.log(6.4))
    return np.where(hertz < 1000, hertz * 3 / 200, above)


def _hertz(mel: Floats, scale: str) -> Floats:
    if scale == "htk":
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    if scale == "kaldi":
        return np.asarray(700 * (np.exp(mel / 1127) - 1))
    above = 1000 * np.exp((np.maximum(mel, 15) - 15) * (np.log(6.4) / 27))
    return np.where(mel < 15, mel * 200 / 3, above)


@functools.lru_cache(maxsize=8)
def _window(of: Spectrum) -> Floats:
    """Give the window in the middle of its frame, float64 (frame_length,)."""
    length = of.win_length + of.periodic
    if of.window == "boxcar":
        found = np.ones(length)
    elif of.window == "hamming":
        found = np.hamming(length)
    else:
        found = np.hanning(length) ** (0.85 if of.window == "povey" else 1)
    made = np.zeros(of.frame_length)
    start = (of.frame_length - of.win_length) // 2
    made[start : start + of.win_length] = found[: of.win_length]
    return made


@functools.lru_cache(maxsize=8)
def _cosines(bands: int, kept: int, orthonormal: bool) -> Floats:
    """Give the second discrete cosine transform, float64 (bands, kept)."""
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(kept)
    if not orthonormal:
        return np.asarray(2 * np.cos(angles))
    made = np.cos(angles) * np.sqrt(2 / bands)
    made[:, 0] = np.sqrt(1 / bands)
    return made
