"""Commands that are killed at a random moment and given again: they end with the bytes of an uninterrupted run."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from psegan.speech.audio import write_audio
from tests.robustness.place import REPOSITORY, Place

TINY = {"data.init_args.n_speakers": 2, "data.init_args.n_contents": 2, "data.init_args.n_takes": 4}
QUICK = {"trainer.enable_progress_bar": False, "trainer.enable_model_summary": False, "run.loggers": ["csv"]}
SHORT = {"trainer.limit_train_batches": 2, "trainer.limit_val_batches": 2, "samples.n_utterances": 0}
DATA = {name.rpartition(".")[2]: value for name, value in TINY.items()}
CLASSIFIER = {
    "config": ["experiments/classifier.yaml"],
    "set": {"trainer.max_epochs": 2, "trainer.check_val_every_n_epoch": 1},
}


def fit(place: Place) -> list[str]:
    """A classifier, four epochs."""
    options = {
        **TINY,
        **QUICK,
        "data.init_args.crop_seconds": 0.5,
        "trainer.max_epochs": 4,
        "trainer.check_val_every_n_epoch": 2,
        "run.dir": "out",
    }
    words = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()]
    return [
        "fit",
        "--config=experiments/classifier.yaml",
        "--config=experiments/corpora/synthetic.yaml",
        *words,
        "--ckpt_path=auto",
    ]


def protect(place: Place) -> list[str]:
    """Six recordings of up to 20 s."""
    (place.folder / "in").mkdir()
    for n, seconds in enumerate((1, 20, 2, 0.5, 18, 3)):
        generator = torch.Generator().manual_seed(n)
        write_audio(place.folder / "in" / f"{n}.wav", 0.1 * torch.randn(int(16_000 * seconds), generator=generator))
    return ["protect", "in", "-o", "out", "--seed=0", "--existing=skip"]


def evaluate(place: Place) -> list[str]:
    """Noise, met by a network and by a support vector machine."""
    return ["evaluate", "--config", _evaluation(place, {"noise": _noise()}), "--out=out", "--workers=1"]


def reproduce(place: Place) -> list[str]:
    """A speaker matcher, PSEGAN, and its evaluation."""
    matcher = {"model.init_args.speaker_matcher_checkpoint": "{speaker_matcher}", "trainer.max_epochs": 1}
    experiment = {
        "name": "killed", "out": "out", "corpus": "experiments/corpora/synthetic.yaml", "set": {**TINY, **QUICK, **SHORT},
        "trainings": {
            "speaker_matcher": {"config": ["experiments/speaker_matcher.yaml"], "set": {"trainer.max_epochs": 1}},
            "psegan": {"config": ["experiments/psegan.yaml"], "set": matcher},
        },
        "evaluation": _evaluation(place, {}), "systems": {"psegan": "psegan"},
    }  # fmt: skip
    (place.folder / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    return ["reproduce", "--config=experiment.yaml", "--workers=1", "--attackers=ignorant"]


def sweep(place: Place) -> list[str]:
    """Two seeds of a classifier, side by side."""
    content = {
        "name": "killed", "method": "grid", "metric": {"name": "val/uar", "goal": "maximize"},
        "command": [
            "psegan", "fit", "--config=experiments/classifier.yaml", "--config=experiments/corpora/synthetic.yaml", "${args}",
            *(f"--{key}={json.dumps(value)}" for key, value in {**TINY, **QUICK, "trainer.max_epochs": 2}.items()),
        ],
        "parameters": {"seed_everything": {"values": [0, 1]}},
    }  # fmt: skip
    (place.folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return ["sweep", "sweep.yaml", "--out=out", "--workers=2", "--no-evaluation"]


COMMANDS: tuple[Callable[[Place], list[str]], ...] = (fit, protect, evaluate, reproduce, sweep)


def _noise() -> dict[str, Any]:
    return {"class_path": "psegan.protection.controls.AdditiveNoise", "init_args": {"snr_db": 10.0}}


def _evaluation(place: Place, systems: dict[str, Any]) -> str:
    content = yaml.safe_load((REPOSITORY / "experiments" / "evaluate" / "demo.yaml").read_text())
    content |= {
        "systems": systems, "data": DATA, "resamples": 100, "n_clips": 1, "permutations": 1, "verifier": {},
        "classifiers": {"speaker": CLASSIFIER}, "attackers": ["ignorant", "informed"],
    }  # fmt: skip
    content["architectures"]["cnn"]["set"]["trainer.max_epochs"] = 1
    content["architectures"]["cnn"]["continued"]["trainer.max_epochs"] = 1
    (place.folder / "evaluation.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return "evaluation.yaml"


def are_killed(
    folder: Path, command: Callable[[Place], list[str]], seed: int, kills: int
) -> Iterator[tuple[str, str | None]]:
    """Kill a command so many times, each time in a run of its own; the moment, and what differs afterwards, or None."""
    whole = Place(folder / "whole")
    words = command(whole)
    began = time.monotonic()
    outcome = whole.run(*words, patience=600)
    lasts = time.monotonic() - began
    assert outcome.status == 0, outcome.said
    expected = contents(whole.folder / "out")
    assert expected
    chance = random.Random(f"{command.__name__} {seed}")
    for n in range(kills):
        place = Place(folder / f"killed-{n}")
        assert command(place) == words
        moment = chance.uniform(0.1, 0.9) * lasts
        killed = place.run(*words, patience=moment)
        name = f"{command.__name__} after {moment:.1f} of {lasts:.1f} s"
        again = place.run(*words, patience=600)
        if (fault := again.fault) is not None or again.status != 0:
            yield name, fault or again.said[-300:]
            continue
        found = contents(place.folder / "out")
        differ = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
        left = [path.name for path in place.folder.rglob(".*") if path.is_file() and path.name != ".lock"]
        if differ or left:
            yield (
                name,
                f"{'differs in ' + ', '.join(differ) if differ else ''} {f'leaves {left}' if left else ''}".strip(),
            )
        else:
            yield name + ("" if killed.status is None else " (had ended)"), None


def contents(folder: Path) -> dict[str, str]:
    """File → digest of what it says that is to be the same: speech, weights, scores and tables, but no times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".wav", ".flac") or path.name in ("metrics.csv", "manifest.csv", "results.csv"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".ckpt":
            found[name] = _digest(
                torch.load(path, weights_only=True), ("state_dict", "optimizer_states", "epoch", "global_step")
            )
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = _digest({key: arrays[key] for key in arrays.files}, tuple(arrays.files))
    return found


def _digest(content: dict[str, Any], keys: tuple[str, ...]) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(value.tobytes())
        elif isinstance(value, dict):
            for key, one in value.items():
                digest.update(repr(key).encode())
                add(one)
        elif isinstance(value, list | tuple):
            for one in value:
                add(one)
        else:
            digest.update(repr(value).encode())

    for key in keys:
        add(content[key])
    return digest.hexdigest()
