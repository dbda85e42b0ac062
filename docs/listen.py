"""Make docs/listen.html: three synthetic sentences before and after protection, on one page without any other file.

    apt-get install espeak-ng
    python docs/listen.py

Corpus recordings may not be published here, so that espeak-ng, a speech synthesiser, speaks. Every sentence is shown as it
was spoken, as a copy by the vocoder alone, and as ``psegan protect`` with seed 1 wrote it.
"""

import base64
import io
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from jinja2 import Template
from torch import Tensor

import psegan
from psegan import cli
from psegan.speech.audio import SAMPLE_RATE, LogMel, read_audio

MODEL, SEED = "psegan-ravdess", "1"
PAGE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Sentence:
    """What espeak-ng is told to say.

    Attributes:
        name: of the recording.
        voice: and variant, as espeak-ng calls them.
        pitch: 0 to 99.
        speed: in words a minute.
        text: in the voice's language.
    """

    name: str
    voice: str
    pitch: int
    speed: int
    text: str

    def command(self, path: str) -> list[str]:
        """The command that speaks it into a WAV file."""
        return ["espeak-ng", "-v", self.voice, "-p", str(self.pitch), "-s", str(self.speed), "-w", path, self.text]


SENTENCES = (
    Sentence("keys", "en-us", 40, 150, "Please leave the keys on the kitchen table."),
    Sentence("harbour", "en-gb+f3", 60, 160, "We could walk to the harbour before it rains."),
    Sentence("train", "de+m3", 30, 150, "Der Zug nach Hamburg fährt heute von Gleis sieben."),
)


@dataclass(frozen=True)
class Clip:
    """One recording on the page."""

    title: str
    audio: str
    picture: str
    peak: str
    louder: float


def main() -> None:
    """Speak, copy, protect and write the page."""
    protector = psegan.Protector.from_pretrained(MODEL)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        spoken, protected = Path(folder, "spoken"), Path(folder, "protected")
        spoken.mkdir()
        for sentence in SENTENCES:
            subprocess.run(sentence.command(str(spoken / f"{sentence.name}.wav")), check=True)
        cli.run(["protect", str(spoken), "-o", str(protected), "--model", MODEL, "--seed", SEED])
        for sentence in SENTENCES:
            original = read_audio(spoken / f"{sentence.name}.wav")
            versions = {
                "original": original,
                "copy (the vocoder alone)": copy(original, protector),
                f"protected ({MODEL})": read_audio(protected / f"{sentence.name}.wav"),
            }
            clips = [clip(title, waveform, original) for title, waveform in versions.items()]
            for one in clips:
                print(f"{sentence.name:8} {one.title:26} peak {one.peak}, loudest 20 ms {one.louder:+.1f} dB")
            rows.append((sentence, shlex.join(sentence.command(f"{sentence.name}.wav")), clips))
    loudest = f"{max(clips[-1].louder for _, _, clips in rows):+.1f} dB"
    page = Template(HTML, trim_blocks=True).render(rows=rows, loudest=loudest, model=MODEL, seed=SEED)
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE}: {PAGE.stat().st_size / 1e6:.2f} MB")


@torch.inference_mode()
def copy(waveform: Tensor, protector: psegan.Protector) -> Tensor:
    """What the protector's vocoder alone makes of a waveform ``(T,)``."""
    log_mel, frames = LogMel()(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    copied: Tensor = protector.vocoder(log_mel, frames)[0, : len(waveform)]
    return copied.clamp(-1, 1)


def clip(title: str, waveform: Tensor, original: Tensor) -> Clip:
    """A recording as FLAC, its log-mel as PNG, its peak and how much louder its loudest 20 ms are than the original's."""
    peak = 20 * float(waveform.abs().max().clamp(min=1e-5).log10())
    louder = power(waveform) - power(original)
    audio = io.BytesIO()
    soundfile.write(audio, waveform.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    log_mel = LogMel()(waveform.unsqueeze(0), torch.tensor([len(waveform)]))[0][0].numpy()
    picture = io.BytesIO()
    plt.imsave(picture, np.flipud(log_mel), cmap="magma", vmin=-10, vmax=2, format="png")
    return Clip(title, inline(audio), inline(picture), f"{peak:.1f} dBFS", louder)


def power(waveform: Tensor) -> float:
    """Power of the loudest 20 ms, in dB."""
    return 10 * float(waveform.unfold(0, SAMPLE_RATE // 50, SAMPLE_RATE // 100).square().mean(1).max().log10())


def inline(file: io.BytesIO) -> str:
    """Base64 of what was written."""
    return base64.b64encode(file.getvalue()).decode()


HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>How psegan sounds</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
code { background: #f2f2f2; padding: .1em .3em; font-size: .9em; }
pre { background: #f2f2f2; padding: .8em; overflow-x: auto; }
.clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
img { width: 100%; height: 8rem; display: block; image-rendering: auto; background: #000; }
audio { width: 100%; margin-top: .4rem; }
.warning { border-left: .3rem solid #c60; padding: .2rem 1rem; background: #fff6ec; }
small { color: #555; }
</style>
</head>
<body>
<h1>How psegan sounds</h1>
<p class="warning"><b>Protected speech is not as good as before</b>: its spectrum is smeared, and a public speech
recogniser misunderstands more of its words. The level stays: the loudest 20 ms of a protected version on this page are up
to {{ loudest }} against its original. A peak of 0.0 dBFS would mean that samples were cut off at full scale.
A synthesiser's voice is not what the weights learnt from, so that this page cannot say how well they work on people.</p>
<p>The three sentences are spoken by <a href="https://github.com/espeak-ng/espeak-ng">espeak-ng</a>, a speech
synthesiser, since recordings of the corpora may not be published here. The weights are <code>{{ model }}</code>:
PSEGAN trained on RAVDESS, where 24 actors speak two English sentences in eight emotions. They speak through the
vocoder <code>vocos</code>, which was trained on 318 voices of five corpora. Each sentence can be heard as it was spoken, as a
copy by the vocoder alone (what it costs to go from speech to a log-mel spectrogram and back), and as <code>psegan
protect</code> wrote it. The emotion that speech is moved to is drawn at random. The seed is fixed so that this page
can be made again. Where privacy counts, leave it out.</p>
<p>Pictures are log-mel spectrograms: time runs to the right, 0 to 8 kHz upwards on the mel scale, all on one colour
scale.</p>
{% for sentence, command, clips in rows %}
<h2>“{{ sentence.text }}”</h2>
<p><small>Voice: <code>{{ command }}</code></small></p>
<div class="clips">
{% for clip in clips %}
<figure>
<figcaption>{{ clip.title }}</figcaption>
<img alt="log-mel spectrogram" src="data:image/png;base64,{{ clip.picture }}">
<audio controls preload="metadata" src="data:audio/flac;base64,{{ clip.audio }}"></audio>
<small>peak {{ clip.peak }}, loudest 20 ms {{ "%+.1f"|format(clip.louder) }} dB against the original</small>
</figure>
{% endfor %}
</div>
{% endfor %}
<h2>How this page was made</h2>
<pre>python docs/listen.py    # espeak-ng speaks, the vocoder copies, and this command protects:
psegan protect spoken -o protected --model {{ model }} --seed {{ seed }}</pre>
<p>Who retrains on protected speech recovers much of the emotion, however it sounds. See the <a
href="results/README.md">results</a>, <a href="evaluation.md">what the numbers show</a> and the <a
href="../checkpoints/released/{{ model }}/README.md">card of the weights</a>. To hear protected recordings of RAVDESS
and Emo-DB, evaluate a system on your own copy of the corpus: the page that <code>psegan report</code> writes plays a
few of them.</p>
</body>
</html>
"""


if __name__ == "__main__":
    main()
