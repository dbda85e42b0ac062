"""From scores to what a reader sees: results.json and .csv, figures, recordings, and the page."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from datamodules.base import CorpusDataModule
from psegan.common.files import commit
from psegan.evaluation.scoring import Scoring
from psegan.evaluation.specification import Evaluation
from psegan.metrics import scores as metrics
from psegan.plots import confusion_figure, roc_figure, save_figure, speech_figure, tsne_figure, tsne_points
from psegan.report.page import AudioExample, Page, read_run, render_runs, write_page
from psegan.report.results import Results
from psegan.report.typeset import summary_table
from psegan.speech.audio import LogMel, read_audio, write_audio

OUTPUTS = ("report.html", "results.json", "results.csv", "page.json", "figures", "audio")
"""What :func:`publish` writes."""


def publish(folder: Path, results: Results, table: Scoring, clips: Mapping[str, Mapping[str, Path]]) -> None:
    """Write everything into ``folder``.

    Args:
        folder: gets :data:`OUTPUTS`.
        results: all scores.
        table: the posteriors and embeddings behind them, of all folds.
        clips: system → id → recording, to be played on the page.
    """
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    figures = _draw(table, clips, folder / "figures")
    audio = _copy_clips(table.data, clips, folder / "audio")
    title = f"psegan: {results.header['evaluation']['name']}"
    if "shortened" in results.header:
        title += f" ({results.header['shortened']})"
    write_page(folder, Page(title, figures, audio))
    render_runs([read_run(folder)], folder / "report.html", title)


def announce(folder: Path) -> None:
    """Print the tables of a published folder, and where its files are."""
    results = Results.from_json(folder / "results.json")
    print(f"\n{summary_table(results)}")
    if "shortened" in results.header:
        print(f"Shortened: {results.header['shortened']}.")
    print()
    for name in OUTPUTS:
        print(f"  {folder / name}")


def header(evaluation: Evaluation, corpora: Mapping[int, CorpusDataModule], max_epochs: int | None) -> dict[str, Any]:
    """What the results say of how they came about."""
    data = next(iter(corpora.values()))
    found = {
        "evaluation": asdict(evaluation),
        "seed": evaluation.seed,
        "roles": evaluation.roles,
        "chance": {data.corpus: {attribute: 1 / n for attribute, n in data.n_classes.items()}},
        "utterances": {
            f"fold {fold}": {stage: len(corpus.split_utterances(stage)) for stage in ("train", "validation", "test")}
            for fold, corpus in corpora.items()
        },
        "commit": commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("psegan", "torch", "lightning", "torchaudio", "scikit-learn")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    if data.split == "speaker-disjoint":
        found["folds"] = {data.corpus: data.n_folds}
    if max_epochs is not None:
        found["shortened"] = f"no training was longer than {max_epochs} epoch(s): a check of the path, not a result"
    return found


def _draw(table: Scoring, clips: Mapping[str, Mapping[str, Path]], folder: Path) -> dict[str, Path]:
    """Figures 4 to 6 of the article, and confusion matrices; title → file."""
    data, names = table.data, table.data.classes["emotion"]
    systems = list(table.evaluation.systems)
    wanted = table.target["emotion"]
    attacks = {system: {attack.attacker: attack for attack in table.attacks(system)} for system in systems}
    figures = {}
    for system in systems[1:]:
        figure = _speech_figure(clips["original"], clips[system], system)
        figures[f"An utterance: original and {system}"] = save_figure(figure, folder / f"speech_{system}.png")
    for system in systems[1:]:
        before, after = table.emotion_embeddings("original"), table.emotion_embeddings(system)
        if before is None or after is None:
            continue
        points, moved, kept = tsne_points(before, after, seed=0)
        figure = tsne_figure(points, moved, wanted[kept], names, ("original", system))
        title = f"t-SNE of emotion features: original and {system}"
        figures[title] = save_figure(figure, folder / f"tsne_{system}.png")
    for rung in table.evaluation.attackers:
        curves = {}
        for system in systems:
            scores = attacks[system][rung].scores
            trials = metrics.one_vs_rest_trials(scores.mean(0) if scores.ndim == 3 else scores, wanted)
            curves[system] = (*metrics.roc_points(*trials)[:2], metrics.auc(*trials))
        title = f"Emotion ROC of {data.title}, attacker {rung}, trials of all classes pooled"
        figures[title] = save_figure(roc_figure(curves, title), folder / f"roc_emotion_{rung}.png")
    if curves := _speaker_curves(table, systems):
        title = f"Speaker ROC of {data.title}, verification trials"
        figures[title] = save_figure(roc_figure(curves, title), folder / "roc_speaker.png")
    rung = table.evaluation.attackers[-1]
    for system in systems:
        scores = attacks[system][rung].scores
        title = f"Emotions that attacker {rung} recognises in {system} speech"
        matrix = metrics.confusion_matrix(scores.mean(0) if scores.ndim == 3 else scores, wanted, len(names))
        figures[title] = save_figure(confusion_figure(matrix, names, title), folder / f"confusion_{system}.png")
    return figures


def _speaker_curves(table: Scoring, systems: list[str]) -> dict[str, tuple[Any, Any, float]]:
    """Every system's ROC of verification; none where a fold of one speaker has no impostors."""
    if not table.evaluation.verifier:
        return {}
    speaker = table.target["speaker"]
    curves = {}
    for system in systems:
        embeddings = table.embeddings("original"), table.embeddings(system)
        try:
            trials = metrics.verification_trials(*embeddings, speaker, table.group)
            curves[system] = (*metrics.roc_points(*trials)[:2], metrics.auc(*trials))
        except metrics.UndefinedMetricError:
            return {}
    return curves


def _speech_figure(original: Mapping[str, Path], protected: Mapping[str, Path], system: str) -> Any:
    front_end = LogMel()
    name = next(iter(original))
    waveforms = {"original": read_audio(original[name]), system: read_audio(protected[name])}
    mels = {key: front_end(w.unsqueeze(0), torch.tensor([len(w)]))[0][0] for key, w in waveforms.items()}
    return speech_figure(waveforms, mels, title=name)


def _copy_clips(data: CorpusDataModule, clips: Mapping[str, Mapping[str, Path]], folder: Path) -> list[AudioExample]:
    """Copies as WAV, which every browser plays."""
    utterances = {utterance.id: utterance for utterance in data.utterances()}
    examples = []
    for number, name in enumerate(clips["original"], 1):  # ids may hold slashes
        copies = {}
        for system, recordings in clips.items():
            copies[system] = folder / f"{number}-{Path(name).name}-{system}.wav"
            write_audio(copies[system], read_audio(recordings[name]))
        utterance = utterances[name]
        label = f"speaker {data.speakers[utterance.speaker]}, {data.emotions[utterance.emotion]}"
        examples.append(AudioExample(name, label, copies))
    return examples
