"""From scores to what a reader sees: results.json and .csv, figures, recordings, and the page."""

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from datamodules.base import CorpusDataModule, Utterance
from psegan.common.files import commit, short_name
from psegan.evaluation.scoring import Scoring
from psegan.evaluation.specification import Evaluation
from psegan.metrics import scores as metrics
from psegan.plots import (
    Point,
    confusion_figure,
    frontier_figure,
    roc_figure,
    save_figure,
    speech_figure,
    tsne_figure,
    tsne_points,
)
from psegan.report.page import AudioExample, Page, read_run, render_runs, write_page
from psegan.report.results import Results, Row
from psegan.report.tables import ADAPTIVE, MEASURES, REPETITION
from psegan.report.typeset import summary_table
from psegan.speech.audio import LogMel, read_audio, write_audio
from psegan.speech.batch import ATTRIBUTES

FRONTIER = (("words", "wer"), ("words", "wer_to_original"), ("speaker", "eer"), ("speech", "overall"))
"""Attribute and metric of what judges measure that is drawn against emotion."""
OUTPUTS = ("report.html", "results.json", "results.csv", "page.json", "figures", "audio")
"""What :func:`publish` writes."""


def various(utterances: Sequence[Utterance], n: int) -> list[str]:
    """Ids of ``n`` utterances, each unlike those before in as much of speaker, emotion, gender and content as can be."""
    chosen: list[Utterance] = []
    while len(chosen) < min(n, len(utterances)):
        fresh = [u for u in utterances if u not in chosen]
        chosen.append(max(fresh, key=lambda u: sum(u.label(a) != c.label(a) for c in chosen for a in ATTRIBUTES)))
    return [utterance.id for utterance in chosen]


def publish(folder: Path, results: Results, table: Scoring, clips: Mapping[str, Mapping[str, Path]]) -> None:
    """Write :data:`OUTPUTS` into ``folder``: ``table`` is of all folds, and ``clips`` are system → id → recording."""
    results.to_json(folder / "results.json")
    results.to_csv(folder / "results.csv")
    figures = _frontier(results, table, folder / "figures") | _draw(table, clips, folder / "figures")
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
        "largest_share": {data.corpus: largest_share(list(corpora.values()))},
        "utterances": {
            f"fold {fold}": {subset: len(utterances) for subset, utterances in corpus.subsets().items()}
            for fold, corpus in corpora.items()
        },
        "commit": commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("psegan", "torch", "lightning", "torchaudio", "scikit-learn")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    if data.apart:
        found["folds"] = {data.corpus: data.n_folds}
    if max_epochs is not None:
        found["shortened"] = f"no training was longer than {max_epochs} epoch(s): a check of the path, not a result"
    return found


def largest_share(corpora: Sequence[CorpusDataModule]) -> float:
    """Share of the test utterances, one corpus a fold, that have the most frequent emotion of their fold.

    The ``most_predicted`` of an attacker who is always right (:func:`psegan.metrics.leakage.most_predicted`).
    """
    counts = [Counter(utterance.emotion for utterance in corpus.split_utterances("test")) for corpus in corpora]
    return sum(max(count.values()) for count in counts) / sum(count.total() for count in counts)


def _frontier(results: Results, table: Scoring, folder: Path) -> dict[str, Path]:
    """What the strongest attacker who heard protected speech finds, against what judges say of the rest; title → file.

    Of the table's own pool of folds.
    """
    adaptive = [name for name in table.evaluation.attackers if name in ADAPTIVE]
    if not adaptive:  # who has not heard protected speech says nothing of what is hidden
        return {}
    strongest = adaptive[-1]
    panels = frontier_panels(results, strongest, table.fold)
    if not panels:
        return {}
    title = f"{table.data.title}: emotion that attacker {strongest} finds, against what survives"
    figure = frontier_figure(panels, f"UAR of emotion, {strongest} (%) ↓", title)
    return {title: save_figure(figure, folder / "frontier.png")}


def frontier_panels(results: Results, attacker: str, fold: int | None) -> dict[str, dict[str, tuple[Point, Point]]]:
    """For each measure and judge, with its unit, system → UAR of emotion in percent, and what the judge says.

    Systems that a judge didn't hear are left out of that panel, and repetitions of all: their mean stands for them.
    """
    across = _points(results.select(attribute="emotion", attacker=attacker, metric="uar", fold=fold))
    roles = results.header["roles"]
    across = {name: point for name, point in across.items() if not roles.get(name, "").startswith(REPETITION)}
    panels = {}
    for attribute, metric in FRONTIER:
        measure = MEASURES[attribute, metric, True]
        unit = " (%)" if measure.scale == 100 else ""
        for judge in results.header["judges"]:
            points = _points(results.select(attribute=attribute, metric=metric, judge=judge, fold=fold), measure.scale)
            if both := {name: (across[name], points[name]) for name in across if name in points}:
                panels[f"{measure.name}{unit} {measure.better} by {judge}"] = both
    return panels


def _points(rows: Sequence[Row], scale: float = 100.0) -> dict[str, Point]:
    """System → score and ends of its interval."""
    ends = {row.system: (row.value, row.low, row.high) for row in rows}
    return {name: tuple(scale * (math.nan if x is None else x) for x in found) for name, found in ends.items()}  # type: ignore[misc]


def _draw(table: Scoring, clips: Mapping[str, Mapping[str, Path]], folder: Path) -> dict[str, Path]:
    """Figures 4 to 6 of the article, and confusion matrices; title → file."""
    data, names, wanted = table.data, table.data.classes["emotion"], table.target["emotion"]
    systems, attackers = list(table.evaluation.systems), table.evaluation.attackers
    original, *others = systems
    figures = {}

    def keep(title: str, name: str, figure: Figure) -> None:
        figures[title] = save_figure(figure, folder / f"{name}.png")

    front_end, shown = LogMel(), next(iter(clips[original]))
    for system in others:
        waveforms = {one: read_audio(clips[one][shown]) for one in (original, system)}
        mels = {one: front_end(w.unsqueeze(0), torch.tensor([len(w)]))[0][0] for one, w in waveforms.items()}
        figure = speech_figure(waveforms, mels, title=shown)
        keep(f"An utterance: original and {system}", f"speech_{system}", figure)
    if attackers:
        first, architecture = next(iter(table.evaluation.architectures.items()))
        if architecture.estimator is None:  # networks have embeddings
            network = f"ignorant/{first}-{architecture.seeds[0]}"
            before = table.pooled(original, "embedding", network)
            for system in others:
                points, moved, kept = tsne_points(before, table.pooled(system, "embedding", network), seed=0)
                figure = tsne_figure(points, moved, wanted[kept], names, ("original", system))
                keep(f"t-SNE of emotion features: original and {system}", f"tsne_{system}", figure)
    for attacker in attackers:
        attacked = [system for system in systems if attacker in table.attacks[system]]  # not everything shows a cut
        if not attacked:
            continue
        curves = {system: emotion_curve(table, system, attacker) for system in attacked}
        title = f"Emotion ROC of {data.title}, attacker {attacker}, trials of all classes pooled"
        keep(title, f"roc_emotion_{attacker}", roc_figure(curves, title))
    if table.evaluation.verifier:
        with suppress(metrics.UndefinedMetricError):  # a fold of one speaker has no impostors
            curves = {system: speaker_curve(table, system) for system in systems}
            title = f"Speaker ROC of {data.title}, verification trials"
            keep(title, "roc_speaker", roc_figure(curves, title))
    if not attackers:
        return figures
    strongest = attackers[-1]
    for system in systems:
        title = f"Emotions that attacker {strongest} recognises in {system} speech"
        matrix = confusion(table, system, strongest)
        keep(title, f"confusion_{system}", confusion_figure(matrix, names, title))
    return figures


def _one(scores: Any) -> Any:
    """The mean over seeds."""
    return scores.mean(0) if scores.ndim == 3 else scores


def _curve(*trials: Any) -> tuple[Any, Any, float]:
    return (*metrics.roc_points(*trials)[:2], metrics.auc(*trials))


def emotion_curve(table: Scoring, system: str, attacker: str) -> tuple[Any, Any, float]:
    """False and true positive rates of an attacker on a system, and the area, over the trials of all emotions."""
    return _curve(
        *metrics.one_vs_rest_trials(_one(table.posteriors(table.attacks[system][attacker])), table.target["emotion"])
    )


def speaker_curve(table: Scoring, system: str) -> tuple[Any, Any, float]:
    """The same of speaker verification, enrolled with original speech.

    Raises:
        UndefinedMetricError: there is a single speaker, so that there are no impostors.
    """
    enrolled, tested = (table.pooled(one, "embedding", "verifier") for one in ("original", system))
    return _curve(*metrics.verification_trials(enrolled, tested, table.target["speaker"], table.group))


def confusion(table: Scoring, system: str, attacker: str) -> Any:
    """Counts ``(K, K)`` of true emotions and of those that an attacker says."""
    wanted, n_emotions = table.target["emotion"], len(table.data.classes["emotion"])
    return metrics.confusion_matrix(_one(table.attacks[system][attacker].decisions), wanted, n_emotions)


def _copy_clips(data: CorpusDataModule, clips: Mapping[str, Mapping[str, Path]], folder: Path) -> list[AudioExample]:
    """Copies as WAV, which every browser plays."""
    utterances = {utterance.id: utterance for utterance in data.utterances()}
    examples = []
    for number, name in enumerate(clips["original"], 1):  # ids may hold slashes
        copies = {}
        for system, recordings in clips.items():
            copies[system] = folder / f"{number}-{short_name(Path(name).name)}-{system}.wav"
            write_audio(copies[system], read_audio(recordings[name]))
        utterance = utterances[name]
        label = f"speaker {data.speakers[utterance.speaker]}, {data.emotions[utterance.emotion]}"
        examples.append(AudioExample(name, label, copies))
    return examples
