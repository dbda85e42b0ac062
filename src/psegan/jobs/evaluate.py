"""An evaluation from end to end: protect a corpus by every system, build the attackers, let them listen, and count.

Everything it makes lies in one folder, stage by stage, and a stage that is complete is not repeated:

    corpora/SYSTEM/          protected recordings and their manifest
    fold-K/manifests/        which of them an attacker of fold K learns from, and which are tested
    fold-K/attackers/        one training each: what it heard (or ``ignorant``) / architecture-seed
    fold-K/judges/           classifiers of speaker, gender and content, and the verifier
    fold-K/verdicts/         what all of them say of each system's test speech
    results.json, ...        see publication.py
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
from psegan import __version__
from psegan.common.errors import PseganError
from psegan.common.files import file_hash, read_yaml
from psegan.common.instantiate import instantiate
from psegan.common.machine import cores, usual_workers
from psegan.common.random import stable_hash
from psegan.common.record import Record
from psegan.evaluation import leakage as independence
from psegan.evaluation import publish as publication
from psegan.evaluation.attackers import ClassicalAttackers
from psegan.evaluation.clips import various
from psegan.evaluation.corpora import load_corpus, protect_corpus
from psegan.evaluation.predictions import SystemPredictions, predict
from psegan.evaluation.scoring import COUNTING, Scoring
from psegan.evaluation.specification import Evaluation, Trained, Verification
from psegan.evaluation.verifiers import ClassifierVerifier, Verifier
from psegan.jobs.job import Fit, planned, prolonged, train_all
from psegan.protection.controls import checkpoint_of, is_trained
from psegan.report.results import Results
from psegan.report.tables import SHUFFLED
from psegan.systems.classifier import load_classifier

ORIGINAL = "original"
IGNORANT, AWARE = "ignorant", "vocoder-aware"
SEEDS = {"attackers": 2000, "judges": 3000, "verifier": 4000}
"""Added to the seeds of trainings, so that no attacker or judge is a network that a system was trained beside."""


def evaluate(
    evaluation: Evaluation, data_root: str | None = None, max_epochs: int | None = None, workers: int | None = None
) -> None:
    """Do everything that is not done yet, and print the tables.

    Args:
        evaluation: what to do.
        data_root: where the corpus lies, instead of the corpus file's ``root``.
        max_epochs: upper bound of every training; the results then say so.
        workers: processes at a time; by default one a core, and four trainings a GPU.

    Raises:
        PseganError: the folder holds another evaluation, a protector has heard what it is tested on, or whatever a
            stage raises.
    """
    Run(evaluation, data_root, max_epochs, workers or cores(), workers or usual_workers()).all()


@dataclass(frozen=True)
class Member:
    """One attacker on emotion.

    Attributes:
        heard: what it learnt from: ``ignorant``, ``vocoder-aware``, ``shuffled-labels``, or a system's name.
        architecture, seed: which.
    """

    heard: str
    architecture: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.heard}/{self.architecture}-{self.seed}"

    @property
    def corpora(self) -> tuple[str, ...]:
        """The systems whose speech that is."""
        if self.heard == SHUFFLED:
            return (f"{SHUFFLED}-{self.seed}",)
        return {IGNORANT: (ORIGINAL,), AWARE: (ORIGINAL, "copy-synthesis")}.get(self.heard, (self.heard,))


class Run:
    """One evaluation in its folder. Arguments: see :func:`evaluate`."""

    def __init__(
        self, evaluation: Evaluation, data_root: str | None, max_epochs: int | None, workers: int, trainings: int
    ) -> None:
        self.evaluation = evaluation
        self.folder = Path(evaluation.out)
        self.data_root, self.max_epochs, self.workers, self.trainings = data_root, max_epochs, workers, trainings
        self.first = next(iter(evaluation.attackers))
        self.classical = cache(self._classical)
        self.verifier = cache(self._verifier)

    # what there is to do

    def corpus(self, fold: int) -> CorpusDataModule:
        """The corpus of original speech, split for a fold."""
        own = {"fold": fold} if len(self.evaluation.folds) > 1 or fold else {}
        return load_corpus(self.evaluation.corpus, self.data_root, {**self.evaluation.data, **own})

    @cached_property
    def corpora(self) -> dict[int, CorpusDataModule]:
        """Fold → original speech."""
        return {fold: self.corpus(fold) for fold in self.evaluation.folds}

    @property
    def data(self) -> CorpusDataModule:
        """The corpus, for what is the same in all folds."""
        return self.corpora[self.evaluation.folds[0]]

    def members(self, heard: str) -> list[Member]:
        """Attackers who learnt from ``heard``."""
        wanted = self.evaluation.attackers
        if heard == SHUFFLED:
            return [
                Member(heard, self.evaluation.shuffled_architecture, deal) for deal in range(self.evaluation.shuffles)
            ]
        if heard == AWARE or "strongest" not in self.evaluation.ladder:
            wanted = {self.first: wanted[self.first]}
        return [Member(heard, name, seed) for name, one in wanted.items() for seed in one.seeds]

    def attackers_of(self, system: str) -> list[Member]:
        """Attackers who judge a system's speech."""
        heard = [IGNORANT]
        if AWARE in self.evaluation.ladder:
            heard.append(AWARE)
        if self.informed:
            heard.append(system)
        if system == ORIGINAL:
            heard.append(SHUFFLED)
        return [member for one in heard for member in self.members(one)]

    @property
    def informed(self) -> bool:
        """Whether any attacker learns from protected speech."""
        return not {"informed", "strongest"}.isdisjoint(self.evaluation.ladder)

    # stages

    def all(self) -> None:
        """Every stage in order."""
        for corpus in self.corpora.values():
            for stage in ("train", "validation", "test"):
                corpus.split_utterances(stage)
        self.check_folder()
        self.heard()
        self.protect()
        for fold in self.evaluation.folds:
            self.write_manifests(fold)
            disjoint = self.corpora[fold].split == "speaker-disjoint"
            independence.check_manifest(self.manifest(fold, ORIGINAL), disjoint)
        for label, fits in (("attackers of original speech, and judges", self.fits), ("attackers", self.continued)):
            found = [fit for fold in self.evaluation.folds for fit in fits(fold)]
            train_all(found, self.trainings, f"training {label}")
        for fold in self.evaluation.folds:
            for system in self.evaluation.systems:
                self.judge(fold, system)
        self.publish()

    def publish(self) -> None:
        """Count, and write everything that a reader sees, unless it is there already."""
        every = [(s, k, stage) for s in self.evaluation.systems for k in self.evaluation.folds for stage in self.stages]
        paths = {f"{s} {k} {stage}": self.verdict_path(k, s, stage) for s, k, stage in every}
        settings = {
            "verdicts": {name: file_hash(path) for name, path in paths.items()},
            "resamples": self.evaluation.resamples, "clips": self.evaluation.n_clips, "version": __version__,
            "ladder": self.evaluation.ladder, "max_epochs": self.max_epochs, "counting": COUNTING,
        }  # fmt: skip
        record = Record(self.folder / "stage.json", settings)
        if not record.valid or not all((self.folder / name).exists() for name in publication.OUTPUTS):
            record.begin()
            found: dict[str, dict[str, dict[int, SystemPredictions]]] = {"test": {}, "validation": {}}
            for system, fold, stage in every:
                found[stage].setdefault(system, {})[fold] = SystemPredictions.load(
                    self.verdict_path(fold, system, stage)
                )
            self.count(found["test"], found["validation"])
            record.finish()
        publication.announce(self.folder)

    def count(
        self, test: dict[str, dict[int, SystemPredictions]], validation: dict[str, dict[int, SystemPredictions]]
    ) -> None:
        """Make rows, figures, recordings and the page."""
        folds = self.evaluation.folds
        one = len(folds) == 1 and not self.data.shares_speakers
        tables = [Scoring(self.evaluation, self.data, test, validation, folds, folds[0] if one else None)]
        if len(folds) > 1:
            tables += [Scoring(self.evaluation, self.data, test, validation, [fold], fold) for fold in folds]
        rows = [row for table in tqdm(tables, desc="counting", unit="table") for row in table.rows()]
        header = publication.header(self.evaluation, self.corpora, self.max_epochs)
        header["systems"] = {
            system: read_manifest(self.manifest(folds[0], system))[0]["protector"] for system in self.evaluation.systems
        }
        header["units"] = {self.data.corpus: tables[0].bootstrap.drawn_from}
        header["heard by the systems"] = self.heard()
        header["strongest"] = tables[0].chosen
        trained = [fit for fold in folds for fit in (*self.fits(fold), *self.continued(fold))]
        header["weights"] = {fit.name: file_hash(fit.checkpoint) for fit in trained}
        # "commit" is that of the counting alone
        specs = [of_fold(spec, k) for spec in self.evaluation.systems.values() if is_trained(spec) for k in folds]
        systems = [Record(Path(checkpoint_of(spec)).parent.parent / "stage.json", {}) for spec in specs]
        header["commits of trainings"] = {
            "systems": sorted({commit for record in systems for commit in record.commits}),
            "attackers and judges": sorted({commit for fit in trained for commit in fit.record.commits}),
        }
        header["counting"] = COUNTING
        clips = {system: self.clips(system) for system in self.evaluation.systems}
        publication.publish(self.folder, Results(header, rows), tables[0], clips)

    def clips(self, system: str) -> dict[str, Path]:
        """Id → recording of the utterances that the page plays."""
        fold = self.evaluation.folds[0]
        shown = various(self.corpora[fold].split_utterances("test"), self.evaluation.n_clips)
        found = {u.id: u.path for u in self.opened(fold, system).split_utterances("test")}
        return {name: path for name in shown if (path := found[name]) is not None}

    @property
    def stages(self) -> list[str]:
        """Parts of the corpus that are judged; the strongest attacker is chosen on the second."""
        return ["test", "validation"] if "strongest" in self.evaluation.ladder else ["test"]

    def heard(self) -> dict[str, str]:
        """What trained systems have heard.

        Raises:
            PseganError: they, or a network that an attacker or judge starts from, have heard what is tested.
        """
        wanted: dict[str, Trained] = {**self.evaluation.attackers, **self.evaluation.judges}
        if self.evaluation.verifier:
            wanted["verifier"] = self.evaluation.verifier
        starts = {name: start for name, how in wanted.items() if (start := _start_of(how)) is not None}
        independence.check_starts(starts, self.corpora)
        return independence.check_systems(self.evaluation.systems, self.corpora, self.evaluation.vocoder)

    def check_folder(self) -> None:
        """Refuse a folder of another evaluation; systems, attackers and judges may be added to one's own."""
        evaluation = self.evaluation
        settings = {
            "name": evaluation.name, "corpus": read_yaml(evaluation.corpus), "data": evaluation.data,
            "passes": evaluation.passes, "vocoder": evaluation.vocoder, "seed": evaluation.seed,
        }  # fmt: skip
        record = Record(self.folder / "evaluation.json", settings)
        if record.difference:
            raise PseganError(
                f"{self.folder} holds another evaluation ({record.difference}); remove it, or choose another with --out"
            )
        if not record.begun:
            record.begin()

    def protect(self) -> None:
        """Write every system's corpora."""
        for system, spec in self.evaluation.systems.items():
            for (fold, number), folder in self.corpus_folders(system).items():
                protect_corpus(
                    self.data, self.parts(system, fold, number), of_fold(spec, fold), folder,
                    seed=self.evaluation.seed + 1000 * number, workers=self.workers, label=f"protecting: {folder.name}",
                )  # fmt: skip

    def corpus_folders(self, system: str) -> dict[tuple[int | None, int], Path]:
        """(fold, pass) → folder; the fold is None for a protector that is the same in all of them."""
        differs = "{fold}" in str(self.evaluation.systems[system])
        folders = {}
        for fold in self.evaluation.folds if differs else [None]:
            for number in range(self.passes(system)):
                name = system + (f"-fold-{fold}" if differs else "") + (f"-pass-{number}" if number else "")
                folders[fold, number] = self.folder / "corpora" / name
        return folders

    def passes(self, system: str) -> int:
        """How often a system protects training speech."""
        return 1 if system in (ORIGINAL, "copy-synthesis") or not self.informed else self.evaluation.passes

    def parts(self, system: str, fold: int | None, number: int) -> list[tuple[str, Utterance]]:
        """What of the corpus a system has to protect, each with its part in the first fold that has it."""
        stages = ["test"]
        if self.informed or system == ORIGINAL or (system == "copy-synthesis" and AWARE in self.evaluation.ladder):
            stages = ["train", "validation", "test"]
        if number:
            stages = ["train"]
        folds = self.evaluation.folds if fold is None else [fold]
        wanted: dict[str, tuple[str, Utterance]] = {}
        for k in folds:
            for stage in stages:
                for utterance in self.corpora[k].split_utterances(stage):
                    wanted.setdefault(utterance.id, (stage, utterance))
        return [wanted[name] for name in sorted(wanted)]

    # manifests

    def manifest(self, fold: int, heard: str) -> Path:
        """Which recordings belong to which part in a fold."""
        return self.folder / f"fold-{fold}" / "manifests" / heard / "manifest.csv"

    def write_manifests(self, fold: int) -> None:
        """Write a fold's manifests."""
        corpus = self.corpora[fold]
        stage_of = {u.id: stage for stage in ("train", "validation", "test") for u in corpus.split_utterances(stage)}
        for system in self.evaluation.systems:
            path = self.manifest(fold, system)
            rows = []
            for (own_fold, number), folder in self.corpus_folders(system).items():
                if own_fold not in (None, fold):
                    continue
                for row in read_manifest(folder / "manifest.csv"):
                    if row["id"] not in stage_of or (number and stage_of[row["id"]] != "train"):
                        continue
                    recording = os.path.relpath(folder / row["path"], path.parent)
                    name = row["id"] + (f"#{number}" if number else "")
                    place = {"corpus": folder.name, "source": row["id"]}
                    rows.append({**row, "id": name, "path": recording, "split": stage_of[row["id"]], **place})
            write_manifest(path, rows)
        rows = [row for row in read_manifest(self.manifest(fold, ORIGINAL)) if row["split"] != "test"]
        for member in self.members(SHUFFLED):  # every seed and fold gets labels of its own
            dealt = _shuffled(rows, self.evaluation.seed + member.seed + 1000 * fold)
            write_manifest(self.manifest(fold, member.corpora[0]), list(dealt))

    def opened(self, fold: int, heard: str) -> ManifestDataModule:
        """A fold's corpus of protected speech."""
        return ManifestDataModule(
            str(self.manifest(fold, heard)),
            classes={name: list(names) for name, names in self.data.classes.items()},
            eval_batch_size=self.data.eval_batch_size,
            in_memory=False,
        )

    # trainings

    def fits(self, fold: int) -> Iterator[Fit]:
        """Every training of a fold that starts from nothing."""
        for heard in (IGNORANT, SHUFFLED):
            yield from self.attackers(fold, heard)
        for attribute in self.judged_attributes(fold):
            yield self.judge_fit(fold, attribute)
        verifier = self.evaluation.verifier
        if verifier and verifier.backend is None:
            yield self.verifier_fit(fold, verifier)

    def continued(self, fold: int) -> Iterator[Fit]:
        """Every training of a fold that starts from an attacker of original speech."""
        if AWARE in self.evaluation.ladder:
            yield from self.attackers(fold, AWARE)
        if self.informed:
            for system in self.evaluation.systems:
                yield from self.attackers(fold, system)

    def attackers(self, fold: int, heard: str) -> list[Fit]:
        """The trainings of the networks that learn from ``heard``."""
        return [self.attacker(fold, member) for member in self.members(heard) if self._is_network(member)]

    def judged_attributes(self, fold: int) -> list[str]:
        """Attributes to survive that a classifier can judge: a speaker only where training heard that speaker."""
        corpus = self.corpora[fold]
        return [
            attribute
            for attribute in self.evaluation.judges
            if corpus.n_classes[attribute] > 1 and (attribute != "speaker" or corpus.shares_speakers)
        ]

    def attacker(self, fold: int, member: Member) -> Fit:
        """The training of an attacker that is a network.

        Who has protected speech of known emotion also has the speech that it was made from, and starts from what that
        taught; from nothing, the same network gets less out of little protected speech.
        """
        how, seed = self.evaluation.attackers[member.architecture], SEEDS["attackers"] + member.seed
        name = f"attackers/{member.name}"
        if member.heard in (IGNORANT, SHUFFLED):
            return self.fit(fold, name, how, member.corpora, "emotion", seed)
        start = self.attacker(fold, replace(member, heard=IGNORANT))
        how = replace(how, set=how.set | how.continued)
        return self.fit(fold, name, how, member.corpora, "emotion", seed, start.checkpoint)

    def judge_fit(self, fold: int, attribute: str) -> Fit:
        """The training of a judge."""
        how = self.evaluation.judges[attribute]
        return self.fit(fold, f"judges/{attribute}", how, [ORIGINAL], attribute, SEEDS["judges"])

    def verifier_fit(self, fold: int, how: Verification) -> Fit:
        """The training of the network that verifies speakers."""
        return self.fit(fold, "judges/verifier", how, [ORIGINAL], "speaker", SEEDS["verifier"])

    def fit(
        self, fold: int, name: str, how: Trained, heard: Sequence[str], attribute: str, seed: int,
        start: Path | None = None,
    ) -> Fit:  # fmt: skip
        """A training on what was heard in a fold, from nothing or from the encoder of the checkpoint ``start``."""
        values: dict[str, Any] = {
            **how.set,
            **prolonged(how.config, how.set, self.evaluation.epochs),
            "seed_everything": seed,
            "model.init_args.attribute": attribute,
            "data.class_path": "datamodules.ManifestDataModule",
            "data.init_args.manifest": [f"{{{one}}}" for one in heard],
            "data.init_args.classes": {key: list(names) for key, names in self.data.classes.items()},
            "data.init_args.batch_size": self.data.batch_size,
            "data.init_args.crop_seconds": self.data.crop_seconds,
            "run.loggers": ["csv"],
            "trainer.enable_progress_bar": False,
            "trainer.enable_model_summary": False,
        }
        files = {one: self.manifest(fold, one) for one in heard}
        own = _start_of(how)
        start = start if own is None or start is not None else Path(own)
        if start is not None:
            values["model.init_args.encoder_checkpoint"] = "{start/encoder}"  # no system's name holds a slash
            files["start/encoder"] = start
        if self.max_epochs is not None:
            own = planned(how.config, values, "trainer.max_epochs", self.max_epochs)
            values["trainer.max_epochs"] = min(self.max_epochs, own)
        best = planned(how.config, how.set, "best.monitor", None) is not None
        return Fit(
            f"fold {fold}: {name}",
            self.folder / f"fold-{fold}" / name,
            tuple(how.config),
            values,
            files,
            result="best.ckpt" if best else "last.ckpt",
        )

    # verdicts

    def verdict_path(self, fold: int, system: str, stage: str = "test") -> Path:
        """Where a system's verdicts lie."""
        return self.folder / f"fold-{fold}" / "verdicts" / f"{system}-{stage}.npz"

    def _verifier(self, fold: int) -> Verifier | None:
        """What verifies speakers in a fold."""
        how = self.evaluation.verifier
        if not how:
            return None
        if how.backend is None:
            return ClassifierVerifier(str(self.verifier_fit(fold, how).checkpoint))
        spec = {"class_path": how.backend, "init_args": how.init_args}
        return instantiate(Verifier, spec, "verifier", "psegan.evaluation.verifiers")  # type: ignore[type-abstract]

    def judge(self, fold: int, system: str) -> None:
        """Let everybody judge a system's test speech, and its informed attackers the validation set beside it."""
        nets = {m: self.attacker(fold, m) for m in self.attackers_of(system) if self._is_network(m)}
        judges = {a: self.judge_fit(fold, a) for a in self.judged_attributes(fold)}
        inputs = {member.name: file_hash(fit.checkpoint) for member, fit in nets.items()}
        inputs |= {attribute: file_hash(fit.checkpoint) for attribute, fit in judges.items()}
        for one in sorted({system, *(one for member in self.attackers_of(system) for one in member.corpora)}):
            inputs[f"manifest {one}"] = file_hash(self.manifest(fold, one))
        verifier = self.verifier(fold)
        settings = {
            "inputs": inputs, "verifier": verifier and verifier.describe(), "version": __version__,
            "attackers": {m.name: self.evaluation.attackers[m.architecture].estimator for m in self.attackers_of(system)},
        }  # fmt: skip
        record = Record(self.verdict_path(fold, system).with_suffix(".json"), settings)
        if record.valid and all(self.verdict_path(fold, system, stage).is_file() for stage in self.stages):
            return
        record.begin()
        corpus, original = self.opened(fold, system), self.opened(fold, ORIGINAL)
        attackers = {member.name: load_classifier(fit.checkpoint, "emotion") for member, fit in nets.items()}
        for stage in self.stages:
            if stage == "test":
                survivors = {a: load_classifier(fit.checkpoint, a) for a, fit in judges.items()}
                reference = None if system == ORIGINAL else original
                label = f"fold {fold}: judging {system}"
                judging = {**attackers, **survivors}
                found = predict(corpus, stage, judging, verifier, reference, label, self.workers)
                members = self.attackers_of(system)
            else:
                members = self.members(system)
                own = {m.name: attackers[m.name] for m in members if m.name in attackers}
                found = predict(corpus, stage, own, label=f"fold {fold}: judging {system}, validation")
            for member in members:
                estimator = self.evaluation.attackers[member.architecture].estimator
                if estimator is not None:
                    found.probability[member.name] = self.classical(fold).posteriors(
                        estimator, member.seed, member.corpora, system, stage
                    )
            found.save(self.verdict_path(fold, system, stage))
        record.finish()

    def _classical(self, fold: int) -> ClassicalAttackers:
        """Classical attackers of a fold."""
        return ClassicalAttackers(partial(self.opened, fold), self.folder / "corpora", self.workers)

    def _is_network(self, member: Member) -> bool:
        return self.evaluation.attackers[member.architecture].estimator is None


def _start_of(how: Trained) -> str | None:
    """The checkpoint whose encoder a training starts from, by its configuration."""
    found: str | None = planned(how.config, how.set, "model.init_args.encoder_checkpoint", None)
    return found


def of_fold(spec: Any, fold: int | None) -> Any:
    """A protector's specification with ``{fold}`` filled in."""
    if isinstance(spec, dict):
        return {key: of_fold(value, fold) for key, value in spec.items()}
    return spec.replace("{fold}", str(fold)) if isinstance(spec, str) else spec


def _shuffled(rows: Sequence[dict[str, str]], seed: int) -> Iterator[dict[str, str]]:
    """The rows with the emotions of each part dealt out anew."""
    for stage in ("train", "validation"):
        part = [row for row in rows if row["split"] == stage]
        emotions = [row["emotion"] for row in sorted(part, key=lambda row: stable_hash("shuffled", seed, row["id"]))]
        for row, emotion in zip(part, emotions, strict=True):
            yield {**row, "emotion": emotion}
