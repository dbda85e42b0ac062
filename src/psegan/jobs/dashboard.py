"""What an evaluation leaves in W&B: one run a system, with its scores, curves, recordings and artifacts.

The results are written before, and no error of W&B loses them: it is a line, and the next start of the same command tries
again. In the evaluation's folder, ``wandb/`` holds W&B's own files, the weights that it was given, and ``evaluation.json``,
which says under which id a system's run is and of which results: other results go into the same run.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.errors import PseganError, readable
from psegan.common.files import file_hash, read_yaml, write_json
from psegan.evaluation import publish
from psegan.evaluation.scoring import COPY_SYNTHESIS, ORIGINAL, Scoring
from psegan.evaluation.specification import of_fold
from psegan.metrics.scores import UndefinedMetricError
from psegan.protection.controls import checkpoint_of, is_trained
from psegan.protection.export import exported
from psegan.report.page import read_page
from psegan.report.results import COLUMNS, Results, Row
from psegan.training.identity import Identity
from psegan.training.loggers import PROJECT, artifact_name, new_id, roc_chart, run_id
from psegan.training.wandb_mode import OPTION, resolve_mode
from psegan.weights import find, is_checkpoint, is_exported, read_about, read_checkpoint

if TYPE_CHECKING:  # it imports this module
    from psegan.jobs.evaluation_run import EvaluationRun

RECORD = "evaluation.json"
TAG = 64
"""Characters of a tag that W&B takes."""


def log_evaluation(run: "EvaluationRun") -> None:
    """Log every system of a published evaluation whose results W&B does not have yet; one that fails stops no other.

    Repetitions have a run each, tagged by their role. Their mean has none: no network made it, so there is nothing to hear,
    to draw or to link, and W&B can average runs itself. It stands in ``results.json``, which every run has as an artifact.
    """
    folder = run.folder / "wandb"
    path, results = folder / RECORD, file_hash(run.folder / "results.json")
    new = list(run.evaluation.systems)
    failed: dict[str, list[str]] = {}  # reason → systems
    try:
        logged = _read_record(path)
        new = [system for system in new if logged.get(system, {}).get("results") != results]
        mode = resolve_mode(run.options.wandb_mode, str(run.folder), OPTION) if new else "disabled"
        found = Results.from_json(run.folder / "results.json") if mode != "disabled" else Results()
    except Exception as error:  # W&B raises anything
        failed[_reason(error)], mode = new, "disabled"
    for system in new if mode != "disabled" else ():
        try:
            own = logged.setdefault(system, {"id": new_id()})
            write_json(path, logged)  # an id that was used once is used again
            with _staged(folder), _whole(folder, own["id"]):
                _log_system(run, found, system, own["id"], mode)
            own["results"] = results
            write_json(path, logged)
        except Exception as error:
            failed.setdefault(_reason(error), []).append(system)
    if failed:
        said = "; ".join(f"{', '.join(systems)} ({reason})" for reason, systems in failed.items())
        _warn(
            f"W&B has not got the evaluation in {run.folder} of {said}; the results are complete, and the same command "
            f"tries again, or add {OPTION} disabled"
        )


def _read_record(path: Path) -> dict[str, dict[str, str]]:
    """System → ``id`` of its run, and ``results``, the hash of those that W&B has; empty without the file.

    Raises:
        PseganError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        logged = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        logged = None
    if not isinstance(logged, dict) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in logged.values()
    ):
        raise PseganError(f"{path} is damaged; restore it, or remove it, and every system gets a new run")
    return logged


def _reason(error: Exception) -> str:
    return readable(str(error)) or type(error).__name__


def _warn(text: str) -> None:
    print(f"psegan: warning: {text}", file=sys.stderr, flush=True)


@contextmanager
def _whole(folder: Path, id: str) -> Iterator[None]:
    """Remove what a run that fails has left offline: each start would leave another, and ``wandb sync`` upload them all."""
    before = set(folder.glob(f"offline-run-*-{id}"))
    try:
        yield
    except Exception:
        for left in set(folder.glob(f"offline-run-*-{id}")) - before:
            shutil.rmtree(left, ignore_errors=True)
        raise


@contextmanager
def _staged(folder: Path) -> Iterator[None]:
    """Meanwhile let W&B keep copies of what it will upload in a folder, and not in the home, unless WANDB_DATA_DIR is set."""
    name, before = "WANDB_DATA_DIR", os.environ.get("WANDB_DATA_DIR")
    os.environ.setdefault(name, str(folder.absolute()))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _log_system(run: "EvaluationRun", found: Results, system: str, id: str, mode: str) -> None:
    import wandb

    evaluation, table = run.evaluation, run.tables[0]
    rows, networks = found.select(system=system), trained_networks(run, system)
    fold = table.folds[0] if len(table.folds) == 1 and run.data.apart else None
    kind = networks[0]["system"] if networks else system
    identity = Identity(kind, system, run.data.corpus, run.data.split, fold, evaluation.seed)
    role = evaluation.roles[system]
    shortened = ["shortened"] if "shortened" in found.header else []
    (run.folder / "wandb").mkdir(exist_ok=True)
    with wandb.init(
        project=run.options.wandb_project or PROJECT,
        dir=str(run.folder),
        id=id,
        name=f"{identity.name} · evaluation",
        group=run.group,
        job_type="evaluation",
        tags=list(dict.fromkeys(tag[:TAG] for tag in (run.data.corpus, run.data.split, role, *shortened))),
        config={
            **identity.config, "role": role, "evaluation": found.header["evaluation"], "trained networks": networks,
            "training": networks[0]["training"] if len(networks) == 1 else None,
        },
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,  # offline the id is what continues a run
        # a run of whoever calls stays as it is; offline, W&B would only say where its folder is
        reinit="create_new",
        settings=wandb.Settings(silent=mode != "online", show_info=mode == "online", console="off", x_disable_stats=True),
    ) as logged:  # fmt: skip
        logged.summary.update(summary_of(rows))
        logged.log(charts(table, system) | pictures(run.folder, system) | {
            "scores": wandb.Table(columns=list(COLUMNS), data=[_cells(row) for row in rows], allow_mixed_types=True),
            "recordings": recordings(run.folder, system),
        })  # fmt: skip
        _log_artifacts(logged, run, system, networks)
        if mode == "online":
            _link(logged, networks)


def summary_of(rows: Iterable[Row]) -> dict[str, float]:
    """``attribute/who measured/metric`` → score of one system, with ``/low`` and ``/high`` beside where it has an interval.

    Who measured is an attacker or a judge, and is left out where it is neither. Paired differences and single attackers
    stand in the table of all rows alone. Of several folds only what is pooled over them counts.
    """
    rows = list(rows)
    pooled = [row for row in rows if row.fold is None] or rows
    found = {}
    for row in pooled:
        who = row.attacker or row.judge
        if "-minus-" in row.metric or "/" in (row.attacker or "") or not isfinite(row.value):
            continue
        key = "/".join(filter(None, (row.attribute, who, row.metric)))
        found[key] = row.value
        for end, value in (("low", row.low), ("high", row.high)):
            if value is not None and isfinite(value):
                found[f"{key}/{end}"] = value
    return found


def _cells(row: Row) -> list[Any]:
    values = [getattr(row, column) for column in COLUMNS]
    return [None if isinstance(value, float) and not isfinite(value) else value for value in values]


def charts(table: Scoring, system: str) -> dict[str, Any]:
    """Name → W&B's own plot: ROC of every attacker, of speaker verification, and emotions confused by the last attacker."""
    import wandb

    names = table.data.classes["emotion"]
    attackers = [name for name in table.evaluation.attackers if name in table.attacks[system]]
    found = {}
    if table.evaluation.verifier:
        with suppress(UndefinedMetricError):  # a fold of one speaker has no impostors
            of_speaker = {"verification": publish.speaker_curve(table, system)}
            found["roc/speaker"] = roc_chart("Speaker ROC, verification trials", of_speaker)
    if not attackers:
        return found
    curves = {attacker: publish.emotion_curve(table, system, attacker) for attacker in attackers}
    found["roc/emotion"] = roc_chart("Emotion ROC, trials of all classes pooled", curves)
    columns, counts = ("Actual", "Predicted", "nPredictions"), publish.confusion(table, system, attackers[-1])
    cells = [[names[i], names[j], int(n)] for i, line in enumerate(counts) for j, n in enumerate(line)]
    found[f"confusion/{attackers[-1]}"] = wandb.plot_table(
        "wandb/confusion_matrix/v1", wandb.Table(columns=list(columns), data=cells), {name: name for name in columns},
        {"title": f"Emotions that attacker {attackers[-1]} recognises"},
    )  # fmt: skip
    return found


def pictures(folder: Path, system: str) -> dict[str, Any]:
    """t-SNE of emotion, and an utterance's waveform and spectrogram, as far as they were drawn."""
    import wandb

    paths = {
        name: folder / "figures" / f"{file}_{system}.png" for name, file in (("t-SNE", "tsne"), ("speech", "speech"))
    }
    return {name: wandb.Image(str(path)) for name, path in paths.items() if path.is_file()}


def recordings(folder: Path, system: str) -> Any:
    """A table of the page's utterances: name, label, and what original, copy-synthesis and the system sound like."""
    import wandb

    heard = list(dict.fromkeys((ORIGINAL, COPY_SYNTHESIS, system)))
    data = [
        [example.id, example.label, *(wandb.Audio(str(example.clips[name])) for name in heard)]
        for example in read_page(folder).audio
        if all(name in example.clips for name in heard)
    ]
    return wandb.Table(columns=["utterance", "label", *heard], data=data)


def trained_networks(run: "EvaluationRun", system: str) -> list[dict[str, Any]]:
    """Of a trained system what it is, in each fold that has networks of its own; nothing of a control.

    Each says its ``checkpoint`` (or the name of released weights), ``system`` (the class in lower case) and ``fold``. Of a
    checkpoint also ``hash`` (the first 16 digits of its SHA-256), ``training`` (the id of its run in W&B) and
    ``artifact``, as far as there are any.
    """
    found = []
    for fold, number in run.corpus_folders(system):
        spec = of_fold(run.evaluation.systems[system], 0 if fold is None else fold)
        if number or not is_trained(spec):
            continue
        checkpoint = checkpoint_of(spec)
        one: dict[str, Any] = {"checkpoint": checkpoint, "fold": fold, "training": None, "artifact": None}
        if is_checkpoint(checkpoint):
            folder = Path(checkpoint).parent.parent
            one |= {"system": read_checkpoint(checkpoint)["psegan"]["system"].lower(), "hash": file_hash(checkpoint)}
            if (training := run_id(folder)) is not None:
                project = (read_yaml(folder / "config.yaml").get("run") or {}).get("project", PROJECT)
                one |= {"training": training, "artifact": f"{project}/{artifact_name(training)}"}
        else:
            one["system"] = read_about(checkpoint)["system"].lower()
        found.append(one)
    return found


def _log_artifacts(logged: Any, run: "EvaluationRun", system: str, networks: Iterable[dict[str, Any]]) -> None:
    """Give W&B the results, the manifests of the system's corpora and, of a trained system, weights and card."""
    import wandb

    results = wandb.Artifact(f"results-{logged.id}", "results", f"scores of all systems of {run.evaluation.name}")
    for name in ("results.json", "results.csv"):
        results.add_file(str(run.folder / name))
    logged.log_artifact(results)
    manifest = wandb.Artifact(
        f"manifest-{logged.id}", "dataset", f"what {system} has protected, without the recordings"
    )
    for folder in run.corpus_folders(system).values():
        manifest.add_file(str(folder / "manifest.csv"), f"{folder.name}.csv")
    logged.log_artifact(manifest)
    try:
        weights = wandb.Artifact(f"weights-{logged.id}", "model", f"{system}, as psegan protect --model takes it")
        for one in networks:
            place = "" if one["fold"] is None else f"fold-{one['fold']}/"
            if (exported_to := weights_of(run, system, one)) is not None:
                for path in sorted(exported_to.iterdir()):
                    weights.add_file(str(path), place + path.name, policy="immutable")  # no second copy on this disk
        if weights.manifest.entries:
            logged.log_artifact(weights)
    except Exception as error:  # a checkpoint that cannot be exported can be evaluated all the same
        _warn(f"W&B has no weights of {system} ({_reason(error)}); everything else of it is logged")


def weights_of(run: "EvaluationRun", system: str, network: dict[str, Any]) -> Path | None:
    """The folder with safetensors, configuration and card of a trained system; None for a repository of the hub.

    Of a checkpoint it is made here, as ``psegan export --half`` does.
    """
    checkpoint = network["checkpoint"]
    if not is_checkpoint(checkpoint):
        return Path(find(checkpoint)) if is_exported(checkpoint) else None
    folder = run.folder / "wandb" / "weights" / f"{system}-{network['hash']}"
    if not folder.is_dir():
        spec = run.evaluation.systems[system]
        vocoder = (spec.get("init_args") or {}).get("vocoder") if isinstance(spec, dict) else None
        exported(checkpoint, vocoder).save_pretrained(folder, half=True)
    return folder


def _link(logged: Any, networks: Iterable[dict[str, Any]]) -> None:
    """Say that the run has used the checkpoints' artifacts, as far as the server has them; offline, W&B refuses that."""
    for one in networks:
        if one["artifact"] is None:
            continue
        try:
            artifact = logged.use_artifact(f"{one['artifact']}:latest")
            if artifact.metadata.get("hash") != one["hash"]:
                raise PseganError(f"its latest version is of another checkpoint than {one['checkpoint']}")
        except Exception as error:  # it may still wait for wandb sync
            _warn(f"{one['artifact']} is not linked ({_reason(error)})")
