"""An evaluation from end to end: protect a corpus by every system, train the attackers, let them predict, and score them.

Everything it makes lies in one folder, and what is complete is not made again:

    corpora/SYSTEM/          protected recordings and their manifest
    fold-K/manifests/        which of them an attacker of fold K learns from, and which are tested
    fold-K/attackers/        a job each: what it is trained on (or ``ignorant``) / architecture-seed
    fold-K/classifiers/      a job each: speaker, gender and content, and the verifier
    fold-K/predictions/      what all of them predict of each system's speech
    results.json, ...        see :mod:`psegan.evaluation.publish`
    wandb/                   see :mod:`psegan.jobs.dashboard`
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.base import CorpusDataModule, Utterance
from datamodules.manifest import ManifestDataModule, read_manifest, write_manifest
from datamodules.splits import SUBSETS
from psegan import __version__
from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.instantiate import instantiate
from psegan.common.machine import cores
from psegan.common.random import stable_hash
from psegan.common.record import Record
from psegan.evaluation import leakage, publish
from psegan.evaluation.attackers import ClassicalAttackers
from psegan.evaluation.corpora import load_corpus, protect_corpus, speaks_with_profiles
from psegan.evaluation.hearing import Hearing
from psegan.evaluation.predictions import GROUPS, SystemPredictions, predict
from psegan.evaluation.scoring import AWARE, COPY_SYNTHESIS, COUNTING, IGNORANT, ORIGINAL, Scoring, heard
from psegan.evaluation.specification import Evaluation, Trained, of_fold
from psegan.evaluation.verifiers import ClassifierVerifier, Verifier
from psegan.jobs import dashboard
from psegan.jobs.job import RECORD, Job, planned, planned_epochs, run_jobs
from psegan.jobs.options import Options
from psegan.protection.controls import checkpoint_of, is_trained, load_protector
from psegan.report.results import Results
from psegan.report.tables import CUT, SHUFFLED
from psegan.systems.classifier import load_classifier

SEEDS = {"attackers": 2000, "classifiers": 3000, "verifier": 4000}
"""Added to the seeds of trainings, so that no attacker or classifier is a network that a system was trained beside."""
CUT_ESTIMATOR = "psegan.evaluation.functionals.FunctionalsSVM"
"""Of the attacker who hears what a system lets through."""
LAYOUT = 2
"""Of the folder; raised by one whenever folders of before cannot be gone on with."""


@dataclass(frozen=True)
class Attacker:
    """One attacker on emotion, trained on ``ignorant``, ``vocoder-aware``, ``shuffled-labels``, or a system's name.

    Of an architecture of the evaluation file, or :data:`~psegan.report.tables.CUT`: who hears what a system lets through.
    """

    trained_on: str
    architecture: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.trained_on}/{self.architecture}-{self.seed}"

    @property
    def corpora(self) -> tuple[str, ...]:
        """The systems, or the permutation of labels, whose manifests that is."""
        if self.trained_on == SHUFFLED:
            return (f"{SHUFFLED}-{self.seed}",)
        return heard(self.trained_on)


class EvaluationRun:
    """One evaluation in its folder, with the options of the command line.

    Args:
        evaluation, options: what to do, and how.
        group: of W&B; by default the evaluation's name.
    """

    def __init__(self, evaluation: Evaluation, options: Options, group: str | None = None) -> None:
        self.evaluation, self.options = evaluation, options
        self.group = group or evaluation.name
        self.folder, self.workers = Path(evaluation.out), options.workers or cores()
        self.aware = AWARE in evaluation.attackers
        self.strongest = "strongest" in evaluation.attackers
        self.informed = self.strongest or "informed" in evaluation.attackers  # whether any learns from protected speech
        self.classical = cache(
            lambda fold: ClassicalAttackers(partial(self.opened, fold), self.folder / "corpora", self.workers)
        )
        self.verifier = cache(self._verifier)
        self.jobs = cache(self._jobs)
        self.cuts = cache(self._cuts)

    def run(self) -> None:
        """Do everything that is not done yet, and print the tables.

        Raises:
            PseganError: the corpus has no emotions, the folder holds another evaluation, a system was trained on what it is
                tested on, or whatever a job raises.
        """
        evaluation = self.evaluation
        if evaluation.attackers and self.data.n_classes["emotion"] < 2:
            raise PseganError(
                f"{self.data.where}: has a single emotion, or doesn't know it; attackers need a corpus with two or more; "
                "attackers: [] lets judges alone listen"
            )
        for corpus in self.corpora.values():
            for subset in SUBSETS if self.anybody_learns else ("test",):
                corpus.split_utterances(subset)
        _ = self.hearing.judges  # says what is not installed
        jobs = self.all_jobs  # settings that no training can have are refused before anything is done
        # systems, attackers and classifiers may be added to one's own folder
        settings = {
            "layout": LAYOUT, "name": evaluation.name, "corpus": _without_language(read_yaml(evaluation.corpus)),
            "data": _without_language(evaluation.data),
            "passes": evaluation.passes, "vocoder": evaluation.vocoder, "seed": evaluation.seed,
        }  # fmt: skip
        Record(self.folder / "evaluation.json", settings).claim("evaluation")
        self.check_leakage()
        self.protect()
        for fold, corpus in self.corpora.items():
            self.write_manifests(fold)
            leakage.check_manifest(self.manifest(fold, ORIGINAL), corpus.apart)
        run_jobs(jobs, self.options.trainings, "training attackers and classifiers")
        for fold in self.corpora:
            for system in evaluation.systems:
                self.predict(fold, system)
        for system in evaluation.systems:
            self.hearing.says(system)
        self.publish()

    @cached_property
    def corpora(self) -> dict[int, CorpusDataModule]:
        """Fold → original speech."""
        corpus, data, folds = self.evaluation.corpus, self.evaluation.data, self.evaluation.folds
        own = [data if folds == [0] else {**data, "fold": fold} for fold in folds]
        return {fold: load_corpus(corpus, self.options.data_root, one) for fold, one in zip(folds, own, strict=True)}

    @cached_property
    def hearing(self) -> Hearing:
        """The judges."""
        return Hearing(self.evaluation.judges, self.corpora, self.manifest, self.folder / "corpora", self.workers)

    @property
    def data(self) -> CorpusDataModule:
        """The corpus, for what is the same in all folds."""
        return next(iter(self.corpora.values()))

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute → names, as plain values."""
        return {attribute: list(names) for attribute, names in self.data.classes.items()}

    def attackers(self, trained_on: str) -> list[Attacker]:
        """Attackers who learn from ``trained_on``."""
        evaluation, wanted = self.evaluation, list(self.evaluation.architectures)
        if not evaluation.attackers:
            return []
        if trained_on == SHUFFLED:
            architecture = evaluation.permutation_architecture
            return [Attacker(trained_on, architecture, number) for number in range(evaluation.permutations)]
        if trained_on == AWARE or not self.strongest:
            wanted = wanted[:1]
        return [Attacker(trained_on, name, seed) for name in wanted for seed in evaluation.architectures[name].seeds]

    def attackers_of(self, *systems: str) -> list[Attacker]:
        """Attackers of systems' speech, each after the one that it starts from."""
        sources = [IGNORANT, *([SHUFFLED] if ORIGINAL in systems else []), *([AWARE] if self.aware else [])]
        sources += systems if self.informed else ()
        return [attacker for source in sources for attacker in self.attackers(source)]

    def readers_of(self, system: str) -> list[Attacker]:
        """Who hears what a system lets through, if it shows that and anybody is to hear it; no training is needed."""
        return [Attacker(system, CUT, 0)] if CUT in self.evaluation.attackers and self.cuts(system) else []

    def _cuts(self, system: str) -> bool:
        spec = of_fold(self.evaluation.systems[system], self.evaluation.folds[0])
        return is_trained(spec) and load_protector(spec).cuts

    def calibrated_on(self, system: str) -> list[Attacker]:
        """Attackers whose posteriors are calibrated on a system's validation speech, since they learnt from such."""
        return [attacker for attacker in self.attackers_of(system) if system in heard(attacker.trained_on)]

    def subsets(self, system: str) -> tuple[str, ...]:
        """What of a system's speech is predicted."""
        return ("test", "validation") if self.calibrated_on(system) else ("test",)

    def estimator(self, attacker: Attacker) -> str | None:
        """Of a classical attacker; None of one that is a network."""
        if attacker.architecture == CUT:
            return CUT_ESTIMATOR
        return self.evaluation.architectures[attacker.architecture].estimator

    def check_leakage(self) -> dict[str, str]:
        """What systems were trained on; if that, or what a network starts from, is the test set, raises a PseganError."""
        evaluation = self.evaluation
        every = *evaluation.architectures.items(), *evaluation.classifiers.items(), ("verifier", evaluation.verifier)
        for name, how in every:  # an architecture may be called like a classifier
            if (start := _start_of(how)) is not None:
                leakage.check_starts({name: start}, self.corpora)
        return leakage.check_systems(evaluation.systems, self.corpora, evaluation.vocoder, self.anybody_learns)

    def protect(self) -> None:
        """Write every system's corpora."""
        for system, spec in self.evaluation.systems.items():
            for (fold, number), folder in self.corpus_folders(system).items():
                protect_corpus(
                    self.data, self.utterances(system, fold, number), of_fold(spec, fold), folder,
                    seed=self.evaluation.seed + 1000 * number, workers=self.workers, label=f"protecting: {folder.name}",
                    enrolment=self.evaluation.enrolment,
                )  # fmt: skip

    def corpus_folders(self, system: str) -> dict[tuple[int | None, int], Path]:
        """(fold, pass) → folder; the fold is None for a protector that is the same in all of them."""
        differs = "{fold}" in str(self.evaluation.systems[system])
        passes = 1 if system in (ORIGINAL, COPY_SYNTHESIS) or not self.informed else self.evaluation.passes
        folders = {}
        for fold in self.evaluation.folds if differs else [None]:
            for number in range(passes):
                name = system + (f"-fold-{fold}" if differs else "") + (f"-pass-{number}" if number else "")
                folders[fold, number] = self.folder / "corpora" / name
        return folders

    def utterances(self, system: str, fold: int | None, number: int) -> list[tuple[str, Utterance]]:
        """What of the corpus a system has to protect, each with its subset in the first fold that has it."""
        subsets = self.subsets_of(system, number)
        wanted: dict[str, tuple[str, Utterance]] = {}
        for k in self.evaluation.folds if fold is None else [fold]:
            for subset in subsets:
                for utterance in self.corpora[k].split_utterances(subset):
                    wanted.setdefault(utterance.id, (subset, utterance))
        return [wanted[name] for name in sorted(wanted)]

    def subsets_of(self, system: str, number: int) -> tuple[str, ...]:
        """The subsets of which a system's speech is made, in a pass: all of them where somebody learns from it."""
        return ("train",) if number else SUBSETS if self.calibrated_on(system) else ("test",)

    def manifest(self, fold: int, name: str) -> Path:
        """Which recordings of a system, or under which permutation of labels, belong to which subset in a fold."""
        return self.folder / f"fold-{fold}" / "manifests" / name / "manifest.csv"

    def write_manifests(self, fold: int) -> None:
        """Write a fold's manifests."""
        subset_of = {u.id: subset for subset, found in self.corpora[fold].subsets().items() for u in found}
        for system in self.evaluation.systems:
            path = self.manifest(fold, system)
            rows = []
            for (own_fold, number), folder in self.corpus_folders(system).items():
                made = self.subsets_of(system, number)
                for row in read_manifest(folder / "manifest.csv") if own_fold in (None, fold) else []:
                    subset = subset_of.get(row["id"])
                    # what only another fold tests is no training set of this one
                    if subset in made:
                        name = row["id"] + (f"#{number}" if number else "")
                        recording = os.path.relpath(folder / row["path"], path.parent)
                        place = {"path": recording, "split": subset, "corpus": folder.name, "source": row["id"]}
                        # a text that is corrected later makes no other training of an attacker
                        rows.append({key: cell for key, cell in row.items() if key != "text"} | {"id": name, **place})
            write_manifest(path, rows)
        rows = [row for row in read_manifest(self.manifest(fold, ORIGINAL)) if row["split"] != "test"]
        for attacker in self.attackers(SHUFFLED):  # every seed and fold gets labels of its own
            permuted = _permuted(rows, self.evaluation.seed + attacker.seed + 1000 * fold)
            write_manifest(self.manifest(fold, attacker.corpora[0]), list(permuted))

    def opened(self, fold: int, name: str) -> ManifestDataModule:
        """A system's speech, as a fold has it."""
        manifest, size = str(self.manifest(fold, name)), self.data.eval_batch_size
        return ManifestDataModule(manifest, classes=self.classes, eval_batch_size=size, in_memory=False)

    @property
    def anybody_learns(self) -> bool:
        """Whether attackers, of which classical ones have no jobs, or classifiers learn from the corpus."""
        return bool(self.evaluation.attackers or self.all_jobs)

    @property
    def all_jobs(self) -> list[Job]:
        """Of all folds."""
        return [job for fold in self.evaluation.folds for job in self.jobs(fold).values()]

    def _jobs(self, fold: int) -> dict[str, Job]:
        """Folder's name below the fold's → the training of a network there.

        Who has protected speech of known emotion also has the speech that it was made from, and starts from what that
        taught; from nothing, the same network gets less out of little protected speech.
        """
        evaluation = self.evaluation
        jobs: dict[str, Job] = {}
        for attacker in self.attackers_of(*evaluation.systems):
            if self.estimator(attacker) is not None:
                continue
            name, how, start = f"attackers/{attacker.name}", evaluation.architectures[attacker.architecture], None
            if attacker.trained_on not in (IGNORANT, SHUFFLED):
                start = jobs[f"attackers/{replace(attacker, trained_on=IGNORANT).name}"]
                how = replace(how, set=how.set | how.continued)
            seed = SEEDS["attackers"] + attacker.seed
            jobs[name] = self._job(fold, name, how, attacker.corpora, "emotion", seed, start)
        corpus = self.corpora[fold]
        for attribute, trained in evaluation.classifiers.items():
            # a speaker is classified only where training has that speaker's speech, and so is a sentence
            shared = {"speaker": corpus.shares_speakers, "content": corpus.shares_contents}.get(attribute, True)
            if corpus.n_classes[attribute] > 1 and shared:
                name = f"classifiers/{attribute}"
                jobs[name] = self._job(fold, name, trained, [ORIGINAL], attribute, SEEDS["classifiers"])
        if evaluation.verifier and evaluation.verifier.backend is None:
            name = "classifiers/verifier"
            jobs[name] = self._job(fold, name, evaluation.verifier, [ORIGINAL], "speaker", SEEDS["verifier"])
        return jobs

    def _job(
        self, fold: int, name: str, how: Trained, corpora: Sequence[str], attribute: str, seed: int, start: Job | None = None,
    ) -> Job:  # fmt: skip
        """A training on a fold's corpora, from nothing or from the encoder of another."""
        values: dict[str, Any] = {
            **how.set,
            **planned_epochs(how.config, how.set, self.evaluation.epochs, self.options.max_epochs),
            "seed_everything": seed,
            "model.init_args.attribute": attribute,
            "data.class_path": "datamodules.ManifestDataModule",
            "data.init_args.manifest": [f"{{{one}}}" for one in corpora],
            "data.init_args.classes": self.classes,
            "data.init_args.batch_size": self.data.batch_size,
            "data.init_args.crop_seconds": self.data.crop_seconds,
            "run.loggers": ["csv"],
            "trainer.enable_progress_bar": False,
            "trainer.enable_model_summary": False,
        }
        needs: dict[str, Job | Path] = {one: self.manifest(fold, one) for one in corpora}
        own = _start_of(how)
        if encoder := start or (None if own is None else Path(own)):
            values["model.init_args.encoder_checkpoint"] = "{start/encoder}"  # no system's name holds a slash
            needs["start/encoder"] = encoder
        return Job(f"fold {fold}: {name}", self.folder / f"fold-{fold}" / name, tuple(how.config), values, needs)

    def predictions_path(self, fold: int, system: str, subset: str = "test") -> Path:
        return self.folder / f"fold-{fold}" / "predictions" / f"{system}-{subset}.npz"

    def predict(self, fold: int, system: str) -> None:
        """Let everybody predict a system's test speech, and who learnt from such speech its validation set beside it."""
        readers, jobs = self.readers_of(system), self.jobs(fold)
        attackers = self.attackers_of(system) + readers
        predicting = {"test": attackers, "validation": self.calibrated_on(system) + readers}
        networks = {a.name: job for a in attackers if (job := jobs.get(f"attackers/{a.name}")) is not None}
        kept = {a: job for a in self.evaluation.classifiers if (job := jobs.get(f"classifiers/{a}")) is not None}
        inputs = {name: file_hash(job.checkpoint) for name, job in (networks | kept).items()}
        for one in sorted({system, *(one for attacker in attackers for one in attacker.corpora)}):
            inputs[f"manifest {one}"] = file_hash(self.manifest(fold, one))
        verifier = self.verifier(fold)
        settings = {
            "inputs": inputs, "verifier": verifier and verifier.describe(), "version": __version__,
            "attackers": {attacker.name: self.estimator(attacker) for attacker in attackers},
            "calibrated": [attacker.name for attacker in predicting["validation"]], "groups": list(GROUPS),
        }  # fmt: skip
        record = Record(self.predictions_path(fold, system).with_suffix(".json"), settings)
        if record.valid and all(
            self.predictions_path(fold, system, subset).is_file() for subset in self.subsets(system)
        ):
            return
        record.begin()
        corpus = self.opened(fold, system)
        emotion = {name: load_classifier(job.checkpoint, "emotion") for name, job in networks.items()}
        label = f"fold {fold}: predicting {system}"
        for subset in self.subsets(system):
            if subset == "test":
                others = {attribute: load_classifier(job.checkpoint, attribute) for attribute, job in kept.items()}
                reference = corpus if system == ORIGINAL else self.opened(fold, ORIGINAL)
                found = predict(corpus, subset, {**emotion, **others}, verifier, reference, label, self.workers)
            else:
                own = {a.name: emotion[a.name] for a in predicting[subset] if a.name in emotion}
                found = predict(corpus, subset, own, label=f"{label}, validation")
            for attacker in predicting[subset]:
                if (estimator := self.estimator(attacker)) is not None:
                    features = CUT if attacker.architecture == CUT else "functionals"
                    found.probability[attacker.name] = self.classical(fold).posteriors(
                        estimator, attacker.seed, attacker.corpora, system, subset, features
                    )
            found.save(self.predictions_path(fold, system, subset))
        record.finish()

    def _verifier(self, fold: int) -> Verifier | None:
        how = self.evaluation.verifier
        if not how:
            return None
        if how.backend is None:
            return ClassifierVerifier(str(self.jobs(fold)["classifiers/verifier"].checkpoint))
        spec = {"class_path": how.backend, "init_args": how.init_args}
        return instantiate(Verifier, spec, "verifier", "psegan.evaluation.verifiers")  # type: ignore[type-abstract]

    @property
    def prediction_paths(self) -> dict[tuple[str, str, int], Path]:
        """(subset, system, fold) → file."""
        evaluation = self.evaluation
        return {
            (subset, system, fold): self.predictions_path(fold, system, subset)
            for system in evaluation.systems for subset in self.subsets(system) for fold in evaluation.folds
        }  # fmt: skip

    @cached_property
    def tables(self) -> list[Scoring]:
        """The scoring of all folds together and then, where there are several, of each; everything must be predicted."""
        found: dict[str, dict[str, dict[int, SystemPredictions]]] = {"test": {}, "validation": {}}
        for (subset, system, fold), path in self.prediction_paths.items():
            found[subset].setdefault(system, {})[fold] = SystemPredictions.load(path)
        folds = self.evaluation.folds
        pools: list[tuple[list[int], int | None]] = [(folds, None), *(([fold], fold) for fold in folds)]
        if len(folds) == 1:
            pools = [(folds, None if self.data.shares_speakers else folds[0])]
        known = self.evaluation, self.data, found["test"], found["validation"]
        systems, enrolled = self.evaluation.systems, self.enrolled
        return [Scoring(*known, *pool, self.hearing.listening(pool[0], systems, enrolled)) for pool in pools]

    @property
    def enrolled(self) -> list[str]:
        """Emotions of the recordings that voice profiles are made of; none where no system speaks with one."""
        folders = [folder for system in self.evaluation.systems for folder in self.corpus_folders(system).values()]
        return self.evaluation.enrolment.calm if any(map(speaks_with_profiles, folders)) else []

    def publish(self) -> None:
        """Score, write everything that a reader sees and log it to W&B, unless it is there already."""
        evaluation = self.evaluation
        settings = {
            "predictions": {" ".join(map(str, key)): file_hash(path) for key, path in self.prediction_paths.items()},
            "resamples": evaluation.resamples, "clips": evaluation.n_clips, "version": __version__,
            "attackers": evaluation.attackers, "max_epochs": self.options.max_epochs, "counting": COUNTING,
            "roles": evaluation.roles, "heard": self.hearing.known,
        }  # fmt: skip
        record = Record(self.folder / "publication.json", settings)
        if not record.valid or not all((self.folder / name).exists() for name in publish.OUTPUTS):
            record.begin()
            rows = [row for table in tqdm(self.tables, desc="scoring", unit="table") for row in table.rows()]
            clips = {system: self.clips(system) for system in evaluation.systems}
            results = Results(self.header(self.tables[0]), rows)
            publish.publish(self.folder, results, self.tables[0], clips)
            record.finish()
        publish.announce(self.folder)
        dashboard.log_evaluation(self)

    def header(self, table: Scoring) -> dict[str, Any]:
        """What the results say of how they came about."""
        folds, systems = self.evaluation.folds, self.evaluation.systems
        trained = [of_fold(spec, fold) for spec in systems.values() if is_trained(spec) for fold in folds]
        records = [Record(Path(checkpoint_of(spec)).parent.parent / RECORD, {}) for spec in trained]
        return publish.header(self.evaluation, self.corpora, self.options.max_epochs) | {
            "systems": {name: read_manifest(self.manifest(folds[0], name))[0]["protector"] for name in systems},
            "units": {self.data.corpus: table.bootstrap.drawn_from},
            "heard by the systems": self.check_leakage(),
            "judges": self.hearing.describe(),
            "language": self.data.language,
            "betas": table.betas,
            "weights": {job.name: file_hash(job.checkpoint) for job in self.all_jobs},
            "commits of trainings": {  # "commit" is that of the scoring alone
                "systems": _commits(records),
                "attackers and judges": _commits([job.record for job in self.all_jobs]),
            },
            "counting": COUNTING,
        }

    def clips(self, system: str) -> dict[str, Path]:
        """Id → recording of the utterances that the page plays."""
        fold = self.evaluation.folds[0]
        shown = publish.various(self.corpora[fold].split_utterances("test"), self.evaluation.n_clips)
        found = {u.id: u.path for u in self.opened(fold, system).split_utterances("test")}
        return {name: path for name in shown if (path := found[name]) is not None}


def _without_language(settings: Any) -> Any:
    """Settings without the language that is spoken: it may be stated later, since only judges ask for it."""
    if not isinstance(settings, dict):
        return settings
    return {key: _without_language(value) for key, value in settings.items() if key != "language"}


def _start_of(how: Trained) -> str | None:
    """The checkpoint whose encoder a training starts from, by its configuration."""
    return planned(how.config, how.set, "model.init_args.encoder_checkpoint")


def _permuted(rows: Sequence[dict[str, str]], seed: int) -> Iterator[dict[str, str]]:
    """The rows with the emotions of each subset permuted."""
    for subset in ("train", "validation"):
        own = [row for row in rows if row["split"] == subset]
        emotions = [row["emotion"] for row in sorted(own, key=lambda row: stable_hash("shuffled", seed, row["id"]))]
        for row, emotion in zip(own, emotions, strict=True):
            yield {**row, "emotion": emotion}


def _commits(records: Sequence[Record]) -> list[str]:
    return sorted({commit for record in records for commit in record.commits})
