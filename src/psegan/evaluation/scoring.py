"""From predictions to the rows of results.json: every score with its interval over speakers and seeds, pooled over folds."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.base import CorpusDataModule
from psegan.evaluation.predictions import SystemPredictions
from psegan.evaluation.specification import Evaluation
from psegan.evaluation.utility import Listening, Utility, level_scores
from psegan.metrics import calibration, leakage
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap, Resampled
from psegan.protection.controls import is_trained
from psegan.report.results import Row
from psegan.report.tables import ADAPTIVE, CUT, SHUFFLED

Scores = NDArray[np.float64]
ByFold = Mapping[int, SystemPredictions]
COUNTING = 6
"""Version of the scoring: raised by one whenever the same predictions give other scores, so that all are computed again."""
ORIGINAL, COPY_SYNTHESIS = "original", "copy-synthesis"
"""The two reference systems, which every other one is compared with."""
IGNORANT, AWARE = "ignorant", "vocoder-aware"
"""What attackers of original, and of original and copy-synthesised speech are called."""
SETS = (2, 4, 8)
"""How many utterances the attackers of ``uar_of_2`` and so on hear of one speaker and emotion."""
STRICT = {"tpr_at_1": 0.01, "tpr_at_5": 0.05}
"""Metric → the false positive rate that its true positive rate is at."""
COMPARED = (
    "uar", "accuracy", "bits", "eer", "eer_protected", "eer_neutral", "wer", "wer_to_original", "overall", "loudest_p95",
)  # fmt: skip
"""Metrics of which paired differences between systems are given."""


def heard(trained_on: str) -> tuple[str, ...]:
    """The systems whose speech an attacker learnt from, and whose validation speech its posteriors are calibrated on.

    Those who learnt permuted labels are calibrated by the true ones: what they made of their own they were fitted to
    already, and who has learnt nothing is worth nothing by the true ones.
    """
    known = {IGNORANT: (ORIGINAL,), SHUFFLED: (ORIGINAL,), AWARE: (ORIGINAL, COPY_SYNTHESIS)}
    return known.get(trained_on, (trained_on,))


class Key(NamedTuple):
    """What is scored of a system, and who attacked or judged, if anybody did."""

    attribute: str
    attacker: str | None = None
    judge: str | None = None


Scored = dict[tuple[str, Key], dict[str, Resampled]]
"""System and key → metric → score."""


class Attack(NamedTuple):
    """What one attacker, or S seeds of it, says of one system's test speech.

    Attributes:
        evidence: of each class, calibrated, in nats; ``(N, K)`` or ``(S, N, K)``. See :mod:`psegan.metrics.calibration`.
        offset: of the same shape; what the attacker adds to it, however much it hears, before it names a class.
        seed: if there is just one.
    """

    evidence: Scores
    offset: Scores
    seed: int | None = None

    @property
    def decisions(self) -> Scores:
        """The attacker names the class in which this is largest; of a single network, as by its own posteriors."""
        return self.evidence + self.offset


class Scoring:
    """Computes the rows of one pool of folds.

    Args:
        evaluation, data: name the attackers and the classes.
        test: system → fold → predictions for its test speech.
        validation: the same for its validation speech, if attackers learnt from such; they are calibrated on it.
        folds: the folds of the pool.
        fold: fold that the rows name; None if the split has no folds or all are pooled.
        listening: what judges say of the pool's test speech.

    Attributes:
        attacks: system → name of the attacker in the table → its attack.
        betas: fold → attacker → β of its calibration, the inverse of its temperature.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        data: CorpusDataModule,
        test: Mapping[str, ByFold],
        validation: Mapping[str, ByFold],
        folds: Sequence[int],
        fold: int | None = None,
        listening: Listening | None = None,
    ) -> None:
        self.listening = listening or Listening()
        self.evaluation, self.data, self.fold, self.folds = evaluation, data, fold, folds
        self.test, self.validation = test, validation
        self.betas: dict[str, dict[str, float]] = {}
        for system, k in itertools.product(test, folds):
            assert np.array_equal(test[system][k].id, test[ORIGINAL][k].id), f"{system} is of other utterances"
        self.target = {attribute: self.pooled(ORIGINAL, "target", attribute) for attribute in data.classes}
        self.group = np.repeat(folds, [len(test[ORIGINAL][k].id) for k in folds])
        self.bootstrap = Bootstrap(self.target["speaker"], evaluation.resamples, seed=0)
        self.base = calibration.base_rates(self.target["emotion"], data.n_classes["emotion"])
        self.calibrated = cache(self._calibrated)
        self.attacks = {system: dict(self._attacks(system)) for system in evaluation.systems}

    def pooled(self, system: str, kind: str, name: str) -> NDArray[Any]:
        """One array of a system's :class:`SystemPredictions`, over all folds of the pool."""
        return np.concatenate([getattr(self.test[system][fold], kind)[name] for fold in self.folds])

    @cached_property
    def sets(self) -> dict[int, Any]:
        """Number of utterances → sets of so many of one speaker, emotion and fold, as far as there are enough for them."""
        speaker, n_classes = self.target["speaker"], self.data.n_classes
        cells = (self.group * n_classes["speaker"] + speaker) * n_classes["emotion"] + self.target["emotion"]
        found = {n: leakage.utterance_sets(cells, n) for n in SETS}
        return {n: sets for n, sets in found.items() if sets is not None}

    def posteriors(self, attack: Attack) -> Scores:
        """Calibrated posteriors ``(N, K)`` or ``(S, N, K)``, where classes are as frequent as they are in the test set."""
        return calibration.posteriors_of(attack.evidence, self.base)

    def rows(self) -> Iterator[Row]:
        """The rows of all systems."""
        scored: Scored = {}
        counts: dict[tuple[str, Key, str], int] = {}
        for system, attacks in self.attacks.items():
            for attacker, attack in attacks.items():
                key = Key("emotion", attacker)
                scored[system, key] = self.emotion(attacker, attack)
                for metric, score in scored[system, key].items():
                    yield self.row(system, key, metric, score, attack.seed)
            for (attribute, metric), score in self.preserved(system).items():
                scored.setdefault((system, Key(attribute)), {})[metric] = score
                of_trials = metric.startswith(("eer", "min_dcf"))
                n = len(self.bootstrap) - self.listening.left_out if of_trials else None
                yield self.row(system, Key(attribute), metric, score, n=n)
            for one in self.survived(system):
                key = Key(one.attribute, judge=one.judge)
                scored.setdefault((system, key), {})[one.metric] = one.score
                counts[system, key, one.metric] = one.n
                yield self.row(system, key, one.metric, one.score, n=one.n)
            for metric in self.test[system][self.folds[0]].measure:
                values, key = self.pooled(system, "measure", metric), Key("speech")
                scored.setdefault((system, key), {})[metric] = self.bootstrap.mean(values)
                counts[system, key, metric] = int(np.isfinite(values).sum())
                yield self.row(system, key, metric, scored[system, key][metric], n=counts[system, key, metric])
        for name, members in self.evaluation.repetitions.items():
            for key, means in self.averaged(name, members, scored).items():
                scored[name, key] = means
                for metric, mean in means.items():
                    yield self.row(name, key, metric, mean, n=counts.get((members[0], key, metric)))
        yield from self.differences(scored)

    def averaged(self, name: str, members: Sequence[str], scored: Scored) -> dict[Key, dict[str, Resampled]]:
        """Key → metric → mean score of a system's repetitions; single attackers have none.

        Raises:
            ValueError: a score of one repetition is missing of another.
        """
        found: dict[tuple[Key, str], dict[str, Resampled]] = {}
        for (system, key), scores in scored.items():
            if system in members and "/" not in (key.attacker or ""):
                for metric, score in scores.items():
                    found.setdefault((key, metric), {})[system] = score
        means: dict[Key, dict[str, Resampled]] = {}
        for (key, metric), of_members in found.items():
            if lacking := [one for one in members if one not in of_members]:
                what = " ".join(filter(None, (*key, metric)))
                raise ValueError(f"{lacking[0]} has no score {what}, as other repetitions of {name} have")
            runs = [of_members[one] for one in members]
            means.setdefault(key, {})[metric] = self.bootstrap.mean_of(runs, f"repetitions of {name}")
        return means

    def row(
        self, system: str, key: Key, metric: str, score: Resampled, seed: int | None = None, n: int | None = None
    ) -> Row:
        """One row of the table; ``n`` is the number of utterances behind the score, by default all of them."""
        return Row(
            system=system, corpus=self.data.corpus, split=self.data.split, fold=self.fold, seed=seed, metric=metric,
            **key._asdict(), **score.interval()._asdict(), n=len(self.bootstrap) if n is None else n,
        )  # fmt: skip

    def _attacks(self, system: str) -> Iterator[tuple[str, Attack]]:
        """All attacks on a system: first the attackers of the table, then single classifiers."""
        wanted, architectures = self.evaluation.attackers, self.evaluation.architectures
        if not wanted:
            return
        first = next(iter(architectures))
        sources = {IGNORANT: IGNORANT, AWARE: AWARE, "informed": system}
        for attacker, source in sources.items():
            if attacker in wanted:
                names = [f"{source}/{first}-{seed}" for seed in architectures[first].seeds]
                yield attacker, self.of_seeds(system, names)
        if "strongest" in wanted:
            yield "strongest", self.strongest(system)
            for attacker in (IGNORANT, "informed") if IGNORANT in wanted else ("informed",):
                for name, one in architectures.items():
                    for seed in one.seeds:
                        evidence, offset, _ = self.of_seeds(system, [f"{sources[attacker]}/{name}-{seed}"])
                        yield f"{attacker}/{name}-{seed}", Attack(evidence[0], offset[0], seed)
        if CUT in wanted and _reader(system) in self.test[system][self.folds[0]].probability:
            yield CUT, self.of_seeds(system, [_reader(system)])
        if system == ORIGINAL:
            name = f"{SHUFFLED}/{self.evaluation.permutation_architecture}"
            names = [f"{name}-{number}" for number in range(self.evaluation.permutations)]
            # with a temperature each, a hundred attackers who know nothing would each have fitted noise
            yield SHUFFLED, self.of_seeds(system, names, together=True)

    def of_seeds(self, system: str, names: Sequence[str], together: bool = False) -> Attack:
        """The attack, folds pooled, of S classifiers; each has a temperature of its own, unless they get one ``together``."""
        evidence, offset = [], []
        for fold in self.folds:
            raw = [self.test[system][fold].probability[name] for name in names]
            alike = [tuple(names)] * len(names) if together else [(name,) for name in names]
            fitted = [self.calibrated(fold, group) for group in alike]
            evidence.append(np.stack([one.evidence(scores) for one, scores in zip(fitted, raw, strict=True)]))
            offset.append(np.stack([np.broadcast_to(one.beta * np.log(one.prior), raw[0].shape) for one in fitted]))
        return Attack(np.concatenate(evidence, 1), np.concatenate(offset, 1))

    def strongest(self, system: str) -> Attack:
        """The mean of the calibrated posteriors of all informed attackers of a fold, calibrated in its turn.

        A mean is not sure enough of itself where its members disagree, and needs a temperature as well (Ranjan and Gneiting,
        Combining probability forecasts, JRSS B 2010). It names the class that speech speaks for most, however frequent
        that is: the mean of attackers who hear little would always name the most frequent one.
        """
        parts = []
        for fold in self.folds:
            known = self.validation[system][fold]
            names = [name for name in known.probability if name.startswith(f"{system}/") and name != _reader(system)]
            fitted = {name: self.calibrated(fold, (name,)) for name in names}

            def mean(predictions: SystemPredictions, fitted: Mapping[str, calibration.Calibration] = fitted) -> Scores:
                return np.mean([one.posteriors(predictions.probability[name]) for name, one in fitted.items()], 0)

            of_mean = calibration.calibrate(mean(known), known.target["emotion"])
            self.betas[f"fold {fold}"][f"{system}/mean"] = of_mean.beta
            parts.append(of_mean.evidence(mean(self.test[system][fold])))
        evidence = np.concatenate(parts)
        return Attack(evidence, np.zeros_like(evidence))

    def _calibrated(self, fold: int, names: tuple[str, ...]) -> calibration.Calibration:
        """One temperature for classifiers that learnt from the same, fitted on the validation speech of that kind."""
        known = [self.validation[system][fold] for system in heard(names[0].partition("/")[0])]
        posteriors = np.stack([np.concatenate([one.probability[name] for one in known]) for name in names])
        found = calibration.calibrate(posteriors, np.concatenate([one.target["emotion"] for one in known]))
        name = names[0] if len(names) == 1 else names[0].rpartition("-")[0]
        self.betas.setdefault(f"fold {fold}", {})[name] = found.beta
        return found

    def emotion(self, attacker: str, attack: Attack) -> dict[str, Resampled]:
        """Metrics of one attack; only accuracy, UAR and bits for single classifiers and those of permuted labels."""
        wanted, resamples, n_classes = self.target["emotion"], self.bootstrap, self.data.n_classes["emotion"]
        decisions = attack.decisions
        if attacker == SHUFFLED:
            return resamples.permuted(decisions, wanted, n_classes, self.group, attack.evidence)
        found = {
            "accuracy": resamples.accuracy(decisions, wanted), "uar": resamples.uar(decisions, wanted),
            "bits": leakage.bits(resamples, attack.evidence, wanted),
        }  # fmt: skip
        if "/" in attacker:
            return found
        found["worst_class"] = leakage.worst_class(resamples, decisions, wanted)
        found["worst_speaker"] = leakage.worst_speaker(resamples, decisions, wanted, self.target["speaker"])
        found["most_predicted"] = leakage.most_predicted(resamples, decisions, wanted, self.group)
        for n, sets in self.sets.items():
            found[f"uar_of_{n}"] = leakage.uar_of_sets(resamples, attack.evidence, attack.offset, wanted, sets)
        posteriors = self.posteriors(attack)
        with suppress(metrics.UndefinedMetricError):  # a fold may hold a single emotion
            found["eer"] = resamples.one_vs_rest_eer(posteriors, wanted, self.group)
            for metric, fpr in STRICT.items():
                found[metric] = resamples.one_vs_rest_tpr(posteriors, wanted, fpr, self.group)
            found["auc"] = resamples.macro_auc(posteriors, wanted, self.group)
        # the chance level would be another one in a fold that lacks a class
        if len(np.unique(wanted)) == n_classes:
            of_original = self.attacks[ORIGINAL]  # of which there is no cut: all of it passes
            reference = attacker if attacker in of_original else next(one for one in ADAPTIVE if one in of_original)
            original = of_original[reference].decisions
            with suppress(metrics.UndefinedMetricError):  # the attacker is at chance on original speech
                found["residual"] = resamples.residual(decisions, original, wanted, 1 / n_classes)
        return found

    def preserved(self, system: str) -> dict[tuple[str, str], Resampled]:
        """(attribute, metric) → score of the classifiers of other attributes, and of verification by both enrolments."""
        found: dict[tuple[str, str], Resampled] = {}
        for attribute in self.evaluation.classifiers:
            if any(attribute not in self.test[system][fold].probability for fold in self.folds):
                continue
            scores, wanted = self.pooled(system, "probability", attribute), self.target[attribute]
            found[attribute, "accuracy"] = self.bootstrap.accuracy(scores, wanted)
            found[attribute, "uar"] = self.bootstrap.uar(scores, wanted)
        if not self.evaluation.verifier:
            return found
        before, after = (self.pooled(one, "embedding", "verifier") for one in (ORIGINAL, system))
        for enrol, suffix in ((before, ""), (after, "_protected")):
            with suppress(metrics.UndefinedMetricError):  # a fold may hold a single speaker
                verified = self.bootstrap.verification(
                    enrol, after, self.target["speaker"], self.group, outside=self.listening.enrolled
                )
                found |= {("speaker", metric + suffix): score for metric, score in verified.items()}
        return found

    def survived(self, system: str) -> Iterator[Utility]:
        """What independent judges say of a system's speech, and its level."""
        yield from self.listening.scores(system, ORIGINAL, self.bootstrap)
        names = self.test[system][self.folds[0]].level
        yield from level_scores({name: self.pooled(system, "level", name) for name in names}, self.bootstrap)

    def differences(self, scored: Scored) -> Iterator[Row]:
        """Paired differences of every system to the reference systems, and of trained systems to all others.

        A system's repetitions stand in them by their mean alone.
        """
        references = (ORIGINAL, COPY_SYNTHESIS)
        members = {one for several in self.evaluation.repetitions.values() for one in several}
        systems = {name: is_trained(spec) for name, spec in self.evaluation.systems.items() if name not in members}
        systems |= dict.fromkeys(self.evaluation.repetitions, True)
        for system, learnt in systems.items():
            if system == ORIGINAL:
                continue
            others = [name for name in systems if name not in references] if learnt else []
            for other in (*references, *others):
                if other == system:
                    continue
                for (one, key), found in scored.items():
                    who = key.attacker or ""
                    if one != system or (other, key) not in scored or "/" in who or who == SHUFFLED:
                        continue
                    theirs = scored[other, key]
                    for metric in COMPARED:
                        if metric in found and metric in theirs:
                            yield self.row(system, key, f"{metric}-minus-{other}", found[metric] - theirs[metric])


def _reader(system: str) -> str:
    """The name, in predictions, of who hears what a system lets through."""
    return f"{system}/{CUT}-0"
