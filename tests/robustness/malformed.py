"""Malformed inputs, drawn by a seed from good ones: recordings, manifests, configurations, checkpoints, weights, results."""

import io
import json
import pickle
import random
import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

RATE = 16_000
SECONDS = 1.0
"""Of speech in a recording: long enough to be protected, short enough for hundreds."""
CONTAINERS = {
    "pcm16.wav": ("WAV", "PCM_16"), "pcm24.wav": ("WAV", "PCM_24"), "float.wav": ("WAV", "FLOAT"),
    "ulaw.wav": ("WAV", "ULAW"), "adpcm.wav": ("WAV", "IMA_ADPCM"), "extensible.wav": ("WAVEX", "PCM_16"),
    "rf64.wav": ("RF64", "PCM_16"), "a.w64": ("W64", "PCM_16"), "a.aiff": ("AIFF", "PCM_16"), "a.au": ("AU", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"), "a.flac": ("FLAC", "PCM_16"), "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"), "a.mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
"""Ending of the name → format and subtype of soundfile."""
WAV_FIELDS = {
    "riff-size": (4, "<I"), "tag": (20, "<H"), "channels": (22, "<H"), "rate": (24, "<I"), "byte-rate": (28, "<I"),
    "align": (32, "<H"), "bits": (34, "<H"), "data-size": (40, "<I"),
}  # fmt: skip
"""Field of a WAV header of 44 bytes → place and type."""
HARMLESS = ("riff-size", "byte-rate")
"""Fields that don't say how long the recording is."""
SILENT = ("silence.wav", "one-value.wav")
"""Recordings in which nothing is to be heard."""
NAMES = (
    "-n.wav", "--model.wav", "two\nlines.wav", "tab\t.wav", "\x1b[31mred.wav", " .wav", "%s{0}.wav", "'\"$(x)`.wav", "*.wav",
    "ü.wav", unicodedata.normalize("NFD", "é.wav"), "日本語.wav", "n" * 251 + ".wav", "UPPER.WAV", "two.dots.wav", "a..wav",
    "con.wav", "\udcff.wav",
)  # fmt: skip
"""Of good recordings; the last is no UTF-8."""


@dataclass(frozen=True)
class Malformed:
    """A file as a disk, a recorder, an editor or a script may leave it.

    Attributes:
        name: of the file.
        content: of the file.
        seconds: of speech that must come out of it, unless it fails; None where the file no longer says.
    """

    name: str
    content: bytes
    seconds: float | None = None


def good_recording(format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """A recording that nothing is wrong with, :data:`SECONDS` long."""
    return _written(_speech(), format, subtype)


def recordings(seed: int) -> list[Malformed]:
    """Nearly 300: cut, flipped, lengthened and renamed ones of every container, false headers, odd samples, odd names."""
    chance = random.Random(f"recordings {seed}")
    found = []
    for ending, (format, subtype) in CONTAINERS.items():
        good = good_recording(format, subtype)
        ends = {0, 1, 12, chance.randrange(13, 60), len(good) // 2, chance.randrange(len(good)), len(good) - 1}
        found += [Malformed(f"cut-{end}-{ending}", good[:end], SECONDS) for end in sorted(ends)]
        found += [Malformed(f"flipped-{n}-{ending}", _flipped(good, chance, n)) for n in (1, 4, 32)]
        found.append(Malformed(f"with-more-{ending}", good + chance.randbytes(chance.randrange(1, 300)), SECONDS))
        found.append(Malformed(f"twice-{ending}", good + good, 2 * SECONDS))
        found.append(Malformed(f"behind-{ending}", chance.randbytes(chance.randrange(1, 300)) + good))
        other = chance.choice([one for one in CONTAINERS if one.rpartition(".")[2] != ending.rpartition(".")[2]])
        found.append(Malformed(f"is-{format}-{subtype}-named-{other}", good, SECONDS))
    found += _false_headers(chance)
    found += _odd_samples(chance)
    wave = good_recording()
    return [*found, *(Malformed(name, wave, SECONDS) for name in NAMES)]


def _false_headers(chance: random.Random) -> Iterator[Malformed]:
    good = good_recording()
    for field, (place, type) in WAV_FIELDS.items():
        top = 256 ** struct.calcsize(type) - 1
        (true,) = struct.unpack_from(type, good, place)
        for value in {0, 1, top // 2, top, true + 1, chance.randrange(top)}:
            content = bytearray(good)
            struct.pack_into(type, content, place, value)
            to_the_end = field == "data-size" and value in (0, 0x7FFFFFFF, 0xFFFFFFFF)
            too_long = field == "data-size" and value > true
            yield Malformed(
                f"{field}-{value:x}.wav", bytes(content),
                SECONDS if field in HARMLESS or to_the_end or too_long else None,
            )  # fmt: skip


def _odd_samples(chance: random.Random) -> Iterator[Malformed]:
    speech = _speech()
    noise = np.random.default_rng(chance.randrange(1 << 30)).standard_normal(len(speech))
    odd = {
        "no-samples": speech[:0], "one-sample": speech[:1], "few-samples": speech[:300], "silence": 0 * speech,
        "one-value": 0 * speech + 0.5, "full-scale": np.sign(speech), "beyond-full-scale": 20 * speech,
        "not-a-number": np.where(np.arange(len(speech)) == 9, np.nan, speech),
        "infinite": np.where(np.arange(len(speech)) == 9, np.inf, speech), "noise": 0.1 * noise,
        "cancels": np.stack([speech, -speech], 1), "one-sided": np.stack([speech, 0 * speech], 1),
        "eight-channels": np.tile(speech[:, None], 8),
    }  # fmt: skip
    for name, samples in odd.items():
        yield Malformed(f"{name}.wav", _written(samples, "WAV", "FLOAT"), len(samples) / RATE)
    for rate in (1, 1_000, 4_001, 8_000, 11_025, 44_101, 192_000, 768_000):
        yield Malformed(f"sampled-at-{rate}.wav", _written(speech, "WAV", "PCM_16", rate), len(speech) / rate)


MANIFEST = "path,emotion,speaker,gender,split\n" + "".join(
    f"{n}.wav,{emotion},s{n % 4},{'fm'[n % 2]},{split}\n"
    for n, (emotion, split) in enumerate(
        (emotion, split) for split in ("train", "train", "validation", "test") for emotion in ("calm", "angry")
    )
)
"""Of eight recordings, 0.wav to 7.wav."""


def manifests(seed: int) -> list[Malformed]:
    """Lists of recordings, as spreadsheets, editors and scripts leave them."""
    chance = random.Random(f"manifests {seed}")
    header, *rows = MANIFEST.splitlines()
    columns = header.split(",")
    objects = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    lines = "\n".join(map(json.dumps, objects))
    texts = {
        "empty.csv": "", "header-only.csv": header, "no-header.csv": "\n".join(rows),
        "semicolons.csv": MANIFEST.replace(",", ";"),
        "same-row-twice.csv": MANIFEST + rows[0] + "\n", "column-twice.csv": MANIFEST.replace("gender", "emotion"),
        "blank-lines.csv": MANIFEST.replace("\n", "\n\n"), "short-row.csv": MANIFEST + "8.wav,calm\n",
        "long-row.csv": MANIFEST + "8.wav,calm,s1,f,train,more\n", "open-quote.csv": MANIFEST.replace("1.wav", '"1.wav'),
        "zero-byte.csv": MANIFEST.replace("s1", "s\x001"), "missing-file.csv": MANIFEST.replace("2.wav", "none.wav"),
        "outside.csv": MANIFEST.replace("2.wav", "../../2.wav"), "folder.csv": MANIFEST.replace("2.wav", "."),
        "unknown-split.csv": MANIFEST.replace("validation", "dev"), "no-training.csv": MANIFEST.replace(",train", ",test"),
        "carriage-returns.csv": MANIFEST.replace("\n", "\r"), "no-emotion.csv": MANIFEST.replace("emotion", "mood"),
        "two-genders.csv": MANIFEST.replace("s0,f", "s1,f"), "huge-cell.csv": MANIFEST.replace("angry", "a" * 200_000),
        "cut.jsonl": lines[:-9], "list.jsonl": json.dumps(objects), "numbers.jsonl": lines.replace('"calm"', "3"),
        "key-twice.jsonl": lines.replace('{"path"', '{"path": "7.wav", "path"'), "nested.jsonl": lines.replace('"calm"', "[1]"),
        "not-a-number.jsonl": lines.replace('"calm"', "NaN"), "deep.jsonl": "[" * 100_000,
    }  # fmt: skip
    found = [Malformed(name, text.encode()) for name, text in texts.items()]
    found += [
        Malformed("marked.csv", "\ufeff".encode() + MANIFEST.encode()),
        Malformed("wide.csv", MANIFEST.encode("utf-16")),
    ]
    found.append(Malformed("latin.csv", MANIFEST.replace("calm", "müde").encode("latin-1")))
    return found + [Malformed(f"mangled-{n}.csv", mangled(MANIFEST, chance)) for n in range(10)]


def mangled(text: str, chance: random.Random) -> bytes:
    """A text with one fault of those that hands, editors and disks make."""
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    value = chance.choice(
        ["null", "[]", "{}", "-1", "1e999", "9" * 30, "text", "''", "!!python/object/apply:os.system ['touch executed']", 
         "*unknown", "&a [*a]", "{missing}", "é", "yes", "2026-02-30", "0x", "${oc.env:HOME}", "../../etc/passwd", "NaN"]
    )  # fmt: skip
    fault = chance.randrange(9)
    if fault == 0:
        return text[: chance.randrange(len(text))].encode()
    if fault == 1:
        return _flipped(text.encode(), chance, chance.choice((1, 3, 20)))
    if fault == 2:
        del lines[at]
    elif fault == 3:
        lines.insert(at, lines[at])
    elif fault == 4:
        lines[at] = chance.choice(("  ", " ", "\t")) + lines[at]
    elif fault == 5:
        lines[at] = lines[at].lstrip()
    elif fault in (6, 7):
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {value}" if colon else value
    else:
        key, colon, rest = lines[at].partition(":")
        lines[at] = f"{key}x{colon}{rest}"
    return "\n".join(lines).encode()


def configurations(good: str, seed: int, count: int) -> list[Malformed]:
    """A YAML file with a fault each, after some that are none at all."""
    chance = random.Random(f"configurations {seed}")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    texts = {
        "empty": "", "text": "text", "list": "- 1\n- 2", "number": "3", "tabs": "\ta: 1", "open": "a: [", "bomb": bomb,
        "twice": f"{good}\n---\n{good}", "code": "!!python/object/apply:os.system ['touch executed']", "zero": "a: \x00",
        "deep": "[" * 3_000, "comment": "# nothing", "key": "? [a, b]\n: 1",
    }  # fmt: skip
    found = [Malformed(f"{name}.yaml", text.encode()) for name, text in texts.items()]
    return found + [Malformed(f"mangled-{n}.yaml", mangled(good, chance)) for n in range(count)]


class _Code:
    """Unpickled by anything but PyTorch's weights_only, it would make a file named `executed`."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('executed', 'w')",)


def checkpoints(good: bytes, seed: int) -> list[Malformed]:
    """Files in the place of a checkpoint."""
    chance = random.Random(f"checkpoints {seed}")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(_Code()))
        file.writestr("archive/version", "3\n")
    contents = {
        "empty": b"", "text": b"model", "code": pickle.dumps(_Code()), "code-in-zip": archive.getvalue(),
        "plain-pickle": pickle.dumps({"state_dict": {}}), "recording": good_recording(), "half": good[: len(good) // 2],
        "a-byte-less": good[:-1], "header": good[:100], "more": good + b"more",
    }  # fmt: skip
    found = [Malformed(f"{name}.ckpt", content) for name, content in contents.items()]
    found += [Malformed(f"cut-{n}.ckpt", good[: chance.randrange(len(good))]) for n in range(3)]
    return found + [Malformed(f"flipped-{n}.ckpt", _flipped(good, chance, 200)) for n in range(3)]


def weights(config: str, tensors: bytes, seed: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Folders of released weights: a name, config.json and model.safetensors."""
    chance = random.Random(f"weights {seed}")
    for name, text in {
        "empty": "",
        "list": "[]",
        "null": "null",
        "no-parts": '{"about": {}}',
        "deep": "[" * 100_000,
    }.items():
        yield f"config-{name}", text.encode(), tensors
    for n in range(6):
        yield f"config-mangled-{n}", mangled(config, chance), tensors
    size = struct.unpack("<Q", tensors[:8])[0]
    for name, content in {
        "empty": b"", "text": b"weights", "header-only": tensors[: 8 + size], "half": tensors[: len(tensors) // 2],
        "long-header": struct.pack("<Q", 1 << 60) + tensors[8:],
        "header-flipped": tensors[:8] + _flipped(tensors[8 : 8 + size], chance, 5) + tensors[8 + size :],
    }.items():  # fmt: skip
        yield f"tensors-{name}", config.encode(), content


def results(good: str, seed: int, count: int) -> list[Malformed]:
    """Files in the place of results.json."""
    chance = random.Random(f"results {seed}")
    content = json.loads(good)
    changed = {
        "empty": "", "list": "[]", "null": "null", "no-rows": json.dumps(content | {"rows": None}), "deep": "[" * 100_000,
        "row-text": json.dumps(content | {"rows": ["row"]}), "no-header": json.dumps({"rows": content["rows"]}),
        "text-for-number": json.dumps(content | {"rows": [content["rows"][0] | {"value": "high"}]}),
        "not-a-number": good.replace('"value": ', '"value": NaN, "was": ', 1),
    }  # fmt: skip
    found = [Malformed(f"{name}.json", text.encode()) for name, text in changed.items()]
    return found + [Malformed(f"mangled-{n}.json", mangled(good, chance)) for n in range(count)]


def _speech() -> np.ndarray:
    """A voice's vowel, gliding, with a fade at both ends ``(T,)``."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    phase = 2 * np.pi * (140 * time + 40 * time**2)
    voice = sum(np.sin(n * phase) / n for n in range(1, 20))
    return 0.2 * voice * np.sin(np.pi * time / SECONDS) ** 0.3


def _written(samples: np.ndarray, format: str, subtype: str, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=format)
    return file.getvalue()


def _flipped(content: bytes, chance: random.Random, count: int) -> bytes:
    changed = bytearray(content)
    for _ in range(count):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)
