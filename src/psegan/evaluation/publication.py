"""From checkpoints to what a reader sees: results.json and .csv, figures, recordings, and the page."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from jsonargparse import ArgumentParser

from datamodules.base import CorpusDataModule
from psegan.audio import LogMel, write_audio
from psegan.evaluation import scoring
from psegan.evaluation.metrics import confusion_matrix
from psegan.evaluation.report import AudioExample, render_report, summary_table
from psegan.evaluation.results import Results
from psegan.files import file_hash, read_yaml
from psegan.models.vocoder import GriffinLim
from psegan.plots import confusion_figure, roc_figure, save_figure, speech_figure, tsne_figure, tsne_points
from psegan.systems.adversarial import load_system
from psegan.systems.classifier import load_classifier

if TYPE_CHECKING:
    from psegan.pipeline import Reproduction


OUTPUTS = ("report.html", "results.json", "results.csv", "figures", "audio")
"""What :func:`publish` writes."""


def publish(
    experiment: "Reproduction", folder: Path, checkpoints: dict[str, Path], max_epochs: int | None = None
) -> None:
    """Score the systems of ``experiment`` on the test set and write everything into ``folder``.

    Args:
        experiment: names classifiers and systems.
        folder: gets results.json, results.csv, report.html, figures/ and audio/.
        checkpoints: stage → trained weights.
        max_epochs: what the trainings were shortened to; the results then say so.
    """
    classifiers = {a: load_classifier(checkpoints[stage], a) for a, stage in experiment.classifiers.items()}
    systems = {name: load_system(checkpoints[stage]) for name, stage in experiment.systems.items()}
    data = load_corpus(folder / next(iter(experiment.systems.values())) / "config.yaml")
    data.setup("test")
    vocoder = GriffinLim()
    protectors: dict[str, scoring.Protector] = {
        "original": scoring.identity,
        "copy-synthesis": scoring.copy_synthesis(vocoder),
        **{name: scoring.protection(system, vocoder, experiment.seed) for name, system in systems.items()},
    }
    heard = scoring.hear(data, protectors, classifiers)
    fold = data.fold if data.split == "speaker-disjoint" else None
    rows = list(
        scoring.rows(
            heard, corpus=data.corpus, split=data.split, fold=fold, seed=experiment.seed,
            shares_speakers=data.shares_speakers,
        )
    )  # fmt: skip
    header = _header(experiment, data, checkpoints)
    title = f"psegan: {experiment.name}"
    if max_epochs is not None:
        header["shortened"] = f"no training was longer than {max_epochs} epoch(s): a check of the path, not a result"
        title += f" ({header['shortened']})"
    results = Results(header, rows)
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    figures = _draw(heard, data, folder / "figures")
    audio = _write_clips(heard, data, folder / "audio")
    render_report(results, figures, audio, folder / "report.html", title)


def announce(folder: Path) -> None:
    """Print the table of a published folder, and where its files are."""
    results = Results.from_json(folder / "results.json")
    print(f"\n{summary_table(results)}")
    if "shortened" in results.header:
        print(f"Shortened: {results.header['shortened']}.")
    print()
    for name in OUTPUTS:
        print(f"  {folder / name}")


def load_corpus(config: Path) -> CorpusDataModule:
    """The corpus that a run's saved configuration names."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(CorpusDataModule, "data")
    settings = parser.parse_object({"data": yaml.safe_load(config.read_text(encoding="utf-8"))["data"]})
    return parser.instantiate_classes(settings).data


def _header(experiment: "Reproduction", data: CorpusDataModule, checkpoints: dict[str, Path]) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "systems": experiment.systems,
        "configuration": {stage: read_yaml(path.parents[1] / "config.yaml") for stage, path in checkpoints.items()},
        "seed": experiment.seed,
        "vocoder": "Griffin-Lim, 32 iterations",
        "chance": {data.corpus: {attribute: 1 / n for attribute, n in data.n_classes.items()}},
        "utterances": {stage: len(data.split_utterances(stage)) for stage in ("train", "validation", "test")},
        "weights": {name: file_hash(path) for name, path in checkpoints.items()},
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("psegan", "torch", "lightning", "torchaudio", "scikit-learn")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def _commit() -> str | None:
    """The checkout's commit, with a + where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        described = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return None
    return described.stdout.strip() if described.returncode == 0 else None


def _draw(heard: dict[str, scoring.Hearing], data: CorpusDataModule, folder: Path) -> dict[str, Path]:
    names = data.classes["emotion"]
    original = heard["original"].judgements["emotion"]
    figures = {}
    kinds = {"emotion": "trials of all classes pooled", "speaker": "verification trials"}
    for attribute, trials in kinds.items():
        title = f"{attribute.capitalize()} ROC of {data.title}, {trials}"
        if curves := scoring.roc_curves(heard, attribute):
            figures[title] = save_figure(roc_figure(curves, title), folder / f"roc_{attribute}.png")
    for system, hearing in heard.items():
        emotion = hearing.judgements["emotion"]
        title = f"Emotions recognised in {system} speech"
        matrix = confusion_matrix(emotion.probability, emotion.target, len(names))
        figures[title] = save_figure(confusion_figure(matrix, names, title), folder / f"confusion_{system}.png")
    for system, hearing in heard.items():
        if system == "original":
            continue
        after = hearing.judgements["emotion"].embedding
        original_points, points, kept = tsne_points(original.embedding, after, seed=0)
        figure = tsne_figure(original_points, points, original.target[kept], names, ("original", system))
        figures[f"t-SNE of emotion features: original and {system}"] = save_figure(
            figure, folder / f"tsne_{system}.png"
        )
        figure = _speech_figure(heard, system)
        figures[f"An utterance: original and {system}"] = save_figure(figure, folder / f"speech_{system}.png")
    return figures


def _speech_figure(heard: dict[str, scoring.Hearing], system: str) -> Any:
    front_end = LogMel()
    name = next(iter(heard["original"].clips))
    waveforms = {"original": heard["original"].clips[name], system: heard[system].clips[name]}
    mels = {key: front_end(w.unsqueeze(0), torch.tensor([len(w)]))[0][0] for key, w in waveforms.items()}
    return speech_figure(waveforms, mels, title=name)


def _write_clips(heard: dict[str, scoring.Hearing], data: CorpusDataModule, folder: Path) -> list[AudioExample]:
    utterances = {utterance.id: utterance for utterance in data.split_utterances("test")}
    examples = []
    for name in heard["original"].clips:
        clips = {}
        for system, hearing in heard.items():
            clips[system] = folder / f"{name.replace('/', '_')}-{system}.wav"
            write_audio(clips[system], hearing.clips[name])
        utterance = utterances[name]
        label = f"speaker {data.speakers[utterance.speaker]}, {data.emotions[utterance.emotion]}"
        examples.append(AudioExample(name, label, clips))
    return examples
