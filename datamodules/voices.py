"""A small source-filter synthesiser (Fant, Acoustic Theory of Speech Production, 1960; Klatt, JASA 67, 1980).

Five resonators, the formants, filter a glottal source and move from vowel to vowel. This is no substitute for speech:
it lets users try all commands without a corpus.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, sosfilt

RATE = 16_000
CONTROL = 160
"""Samples (10 ms) for which the formants stay the same."""

Floats = NDArray[np.float64]

# first three formants in Hz of a male voice, after Peterson and Barney, JASA 24, 1952
VOWELS = {
    "i": (270, 2290, 3010),
    "e": (480, 1900, 2540),
    "a": (730, 1090, 2440),
    "o": (500, 880, 2410),
    "u": (300, 870, 2240),
    "r": (490, 1350, 1690),
}
# consonants: centre of the noise in Hz, its width, level and duration in s ("-": a pause)
CONSONANTS = {
    "s": (6000, 2500, 0.12, 0.09),
    "f": (3500, 5000, 0.05, 0.07),
    "t": (4500, 3000, 0.20, 0.03),
    "k": (2000, 1000, 0.20, 0.04),
    "p": (800, 1000, 0.15, 0.03),
    "-": (1000, 1000, 0.0, 0.06),
}
# a sentence: syllables of a consonant and a vowel
SENTENCES = {
    "kitu": "ki tu se pa fi",
    "sapo": "sa po ku fo ta",
    "feri": "fe ri -e si te",
    "turo": "tu ro ko pu -a",
    "pike": "pe ta ki so fu",
    "osar": "-o sa pr ke tu",
}


@dataclass(frozen=True)
class Voice:
    """A speaker: fundamental frequency in Hz, and factors of all formants, of each formant, of the bandwidths and of the
    breath noise.
    """

    pitch: float
    scale: float
    offsets: tuple[float, ...]
    width: float
    breath: float


@dataclass(frozen=True)
class Manner:
    """An emotion: pitch factor; pitch range, slope over the sentence and tremor in octaves; level in dB; factor of the
    rate; pole of the source's low-pass filter (higher is darker); factor of the breath noise.
    """

    pitch: float
    range: float
    slope: float
    tremor: float
    level: float
    rate: float
    tilt: float
    breath: float


MANNERS = {
    "neutral": Manner(1.00, 0.10, -0.10, 0.003, 0.0, 1.00, 0.55, 1.0),
    "happy": Manner(1.27, 0.50, 0.25, 0.005, 3.0, 1.05, 0.35, 1.0),
    "sad": Manner(0.88, 0.06, -0.25, 0.010, -7.0, 0.80, 0.82, 2.5),
    "angry": Manner(1.12, 0.30, -0.45, 0.008, 7.0, 1.12, 0.00, 0.5),
    "fearful": Manner(1.50, 0.12, 0.05, 0.055, -2.0, 1.25, 0.50, 2.0),
}


def make_voice(female: bool, place: float, rng: np.random.Generator) -> Voice:
    """A voice at ``place`` in [0, 1] of its gender's pitch range, with formants of its own."""
    pitch = (180 + 60 * place if female else 95 + 45 * place) * np.exp(rng.normal(0, 0.02))
    scale = (1.17 if female else 0.98) * np.exp(rng.uniform(-0.07, 0.07))
    offsets = tuple(np.exp(rng.uniform(-0.08, 0.08, 5)))
    return Voice(float(pitch), float(scale), offsets, float(rng.uniform(0.8, 1.4)), float(rng.uniform(0.01, 0.04)))


def synthesise(voice: Voice, manner: Manner, sentence: str, rng: np.random.Generator) -> Floats:
    """Speak a sentence in a voice and a manner; what differs between takes is drawn from ``rng``.

    Returns:
        Waveform ``(T,)`` at 16 kHz in [-1, 1], about one to two seconds.
    """
    rate = manner.rate * np.exp(rng.normal(0, 0.04))
    targets, voicing, noise = _plan(sentence, rate, rng)
    frames = len(voicing)
    samples = frames * CONTROL
    time = np.linspace(0, 1, frames)

    # pitch: a fall or rise over the sentence, accents and tremor, each varied by chance from take to take
    accents = np.sin(2 * np.pi * (rng.uniform(1.8, 2.6) * time + rng.uniform()))
    tremor = rng.normal(0, 1, frames)
    seconds = np.arange(frames) * CONTROL / RATE
    shake = np.sin(2 * np.pi * (rng.uniform(6, 8) * seconds + rng.uniform()))
    octaves = (
        np.log2(manner.pitch)
        + rng.normal(0, 0.05)
        + manner.range * np.exp(rng.normal(0, 0.15)) * accents / 2
        + (manner.slope + rng.normal(0, 0.05)) * (time - 0.5)
        + manner.tremor * (shake + 0.3 * tremor)
    )
    pitch = _to_samples(voice.pitch * 2**octaves)

    # source: derivative of a Rosenberg flow pulse (JASA 49, 1971), low-passed by the manner's tilt, and breath
    phase = np.cumsum(pitch / RATE) % 1.0
    opening, closing = 0.4, 0.16
    flow = np.where(
        phase < opening,
        0.5 * (1 - np.cos(np.pi * phase / opening)),
        np.where(phase < opening + closing, np.cos(np.pi / 2 * (phase - opening) / closing), 0.0),
    )
    breath = voice.breath * manner.breath * rng.normal(0, 1, samples) * (0.3 + flow)
    pole = float(np.clip(manner.tilt + rng.normal(0, 0.04), 0, 0.95))
    source = lfilter([1 - pole], [1, -pole], np.diff(flow, prepend=0.0) * 8 + breath)
    voiced = _formants(source * _to_samples(voicing), targets, voice, rng)
    voiced /= np.sqrt(np.mean(voiced**2)) + 1e-9

    wave = 0.045 * voiced
    for frame, kind in noise:
        centre, width, level, duration = CONSONANTS[kind]
        burst = _burst(centre * voice.scale, width, int(duration * RATE / rate), rng)
        start = frame * CONTROL
        wave[start : start + len(burst)] += 0.2 * level * burst[: samples - start]
    wave *= 10 ** ((manner.level + rng.normal(0, 1.2)) / 20)
    wave += rng.normal(0, 2e-4, samples)  # a room is never digitally silent
    peak = float(np.abs(wave).max())
    return wave if peak <= 0.99 else np.tanh(wave / peak * 1.5) * 0.99 / np.tanh(1.5)


def _plan(sentence: str, rate: float, rng: np.random.Generator) -> tuple[Floats, Floats, list[tuple[int, str]]]:
    """Formant targets ``(frames, 3)``, voicing in [0, 1] ``(frames,)`` and the frames where consonants begin."""
    lead = int(rng.integers(3, 7))  # frames of silence at either end
    syllables = sentence.split()
    parts = [(syllables[0][1], 0.0, lead)]  # vowel, voicing, frames
    noise = []
    for consonant, vowel in map(list, syllables):
        if consonant in CONSONANTS:
            noise.append((sum(frames for *_, frames in parts), consonant))
            parts.append((vowel, 0.0, max(2, round(CONSONANTS[consonant][3] * 100 / rate))))
        else:  # a consonant without noise is a short vowel
            parts.append(("r", 0.7, round(7 / rate)))
        parts.append((vowel, 1.0, max(6, round(20 / rate * np.exp(rng.normal(0, 0.1))))))
    parts.append((syllables[-1][1], 0.0, lead))
    vowels, voicing, frames = zip(*parts, strict=True)
    targets = np.repeat(np.array([VOWELS[vowel] for vowel in vowels], float), frames, axis=0)
    return np.stack([_smooth(track, 9) for track in targets.T], axis=1), _smooth(np.repeat(voicing, frames), 5), noise


def _formants(source: Floats, targets: Floats, voice: Voice, rng: np.random.Generator) -> Floats:
    """Filter by five resonators in cascade that change every 10 ms; each has unit gain at 0 Hz (Klatt, 1980)."""
    high = np.broadcast_to([3500.0, 4500.0], (len(targets), 2))
    centre = np.concatenate([targets, high], axis=1) * voice.scale * np.array(voice.offsets)
    centre = np.minimum(centre * np.exp(rng.normal(0, 0.015, 5)), 7000)
    width = np.array([60, 90, 130, 200, 250]) * voice.width
    radius = np.exp(-np.pi * width / RATE)
    a1 = -2 * radius * np.cos(2 * np.pi * centre / RATE)
    a2 = np.broadcast_to(radius**2, a1.shape)
    one, zero = np.ones_like(a1), np.zeros_like(a1)
    sections = np.ascontiguousarray(np.stack([1 + a1 + a2, zero, zero, one, a1, a2], axis=-1))
    state = np.zeros((5, 2))
    output = np.empty_like(source)
    for frame, section in enumerate(sections):
        part = slice(frame * CONTROL, (frame + 1) * CONTROL)
        output[part], state = sosfilt(section, source[part], zi=state)
    return output


def _burst(centre: float, width: float, samples: int, rng: np.random.Generator) -> Floats:
    """Noise through one resonator, which swells and fades, with a peak of 1."""
    centre, radius = min(centre, 7500.0), np.exp(-np.pi * width / RATE)
    noise = lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], rng.normal(0, 1, samples))
    shaped = noise * np.sin(np.linspace(0, np.pi, samples)) ** 0.5
    return np.asarray(shaped / (np.abs(shaped).max() + 1e-9))


def _smooth(x: Floats, width: int) -> Floats:
    window = np.hanning(width)
    return np.convolve(np.pad(x, width // 2 - 1, mode="edge"), window[1:-1] / window.sum(), mode="valid")


def _to_samples(x: Floats) -> Floats:
    return np.interp(np.arange(len(x) * CONTROL) / CONTROL, np.arange(len(x)), x)
