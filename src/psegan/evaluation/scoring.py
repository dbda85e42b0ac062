"""From predictions to the rows of results.json: every score with its interval over speakers and seeds, pooled over folds."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.base import CorpusDataModule
from psegan.evaluation.predictions import SystemPredictions
from psegan.evaluation.specification import Evaluation
from psegan.evaluation.utility import Listening, Utility, level_scores
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap, Resampled
from psegan.protection.controls import is_trained
from psegan.report.results import Row
from psegan.report.tables import SHUFFLED

Scores = NDArray[np.float64]
ByFold = Mapping[int, SystemPredictions]
COUNTING = 4
"""Version of the scoring: raised by one whenever the same predictions give other scores, so that all are computed again."""
ORIGINAL, COPY_SYNTHESIS = "original", "copy-synthesis"
"""The two reference systems, which every other one is compared with."""
LEVELS = ("loudest", "mean_level", "clipped")
"""The measures of :func:`psegan.metrics.level.levels`."""
COMPARED = (
    "uar", "accuracy", "eer", "eer_protected", "eer_neutral", "wer", "wer_to_original", "overall", "loudest_p95",
)  # fmt: skip
"""Metrics of which paired differences between systems are given."""
ENSEMBLE = "ensemble"
"""The candidate for ``strongest`` that averages the posteriors of all others."""


class Attack(NamedTuple):
    """Posteriors ``(N, K)`` of one attacker for one system, or ``(S, N, K)`` of S seeds; the seed if there is just one."""

    scores: Scores
    seed: int | None = None


class Scoring:
    """Computes the rows of one pool of folds.

    Args:
        evaluation, data: name the attackers and the classes.
        test: system → fold → predictions for its test speech.
        validation: the same for its validation speech, on which ``strongest`` is chosen.
        folds: the folds of the pool.
        fold: fold that the rows name; None if the split has no folds or all are pooled.
        listening: what judges say of the pool's test speech.

    Attributes:
        attacks: system → name of the attacker in the table → its attack.
        chosen: system → fold → the attacker that was chosen as ``strongest``.
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
        self.chosen: dict[str, dict[str, str]] = {}
        for system, k in itertools.product(test, folds):
            assert np.array_equal(test[system][k].id, test[ORIGINAL][k].id), f"{system} is of other utterances"
        self.target = {attribute: self.pooled(ORIGINAL, "target", attribute) for attribute in data.classes}
        self.group = np.repeat(folds, [len(test[ORIGINAL][k].id) for k in folds])
        self.bootstrap = Bootstrap(self.target["speaker"], evaluation.resamples, seed=0)
        self.attacks = {system: dict(self._attacks(system)) for system in evaluation.systems}

    def pooled(self, system: str, kind: str, name: str) -> NDArray[Any]:
        """One array of a system's :class:`SystemPredictions`, over all folds of the pool."""
        return np.concatenate([getattr(self.test[system][fold], kind)[name] for fold in self.folds])

    def rows(self) -> Iterator[Row]:
        """The rows of all systems."""
        scored: dict[tuple[str, str | tuple[str, str]], dict[str, Resampled]] = {}
        for system, attacks in self.attacks.items():
            for attacker, attack in attacks.items():
                scored[system, attacker] = self.emotion(attacker, attack.scores)
                for metric, score in scored[system, attacker].items():
                    yield self.row(system, "emotion", metric, score, attacker, attack.seed)
            for (attribute, metric), score in self.preserved(system).items():
                scored.setdefault((system, attribute), {})[metric] = score
                yield self.row(system, attribute, metric, score)
            for one in self.survived(system):
                scored.setdefault((system, (one.attribute, one.judge)), {})[one.metric] = one.score
                yield self.row(system, one.attribute, one.metric, one.score, judge=one.judge, n=one.n)
            for metric in self.test[system][self.folds[0]].measure:
                if metric in LEVELS:
                    continue
                values = self.pooled(system, "measure", metric)
                n = int(np.isfinite(values).sum())
                yield self.row(system, "speech", metric, self.bootstrap.mean(values), n=n)
        yield from self.differences(scored)

    def row(
        self, system: str, attribute: str, metric: str, score: Resampled, attacker: str | None = None,
        seed: int | None = None, n: int | None = None, judge: str | None = None,
    ) -> Row:  # fmt: skip
        """One row of the table; ``n`` is the number of utterances behind the score, by default all of them."""
        return Row(
            system=system, corpus=self.data.corpus, split=self.data.split, fold=self.fold, attacker=attacker, seed=seed,
            judge=judge, attribute=attribute, metric=metric, **score.interval()._asdict(),
            n=len(self.bootstrap) if n is None else n,
        )  # fmt: skip

    def _attacks(self, system: str) -> Iterator[tuple[str, Attack]]:
        """All attacks on a system: first the attackers of the table, then single classifiers and their ensemble."""
        wanted, architectures = self.evaluation.attackers, self.evaluation.architectures
        first = next(iter(architectures))
        trained_on = {"ignorant": "ignorant", "vocoder-aware": "vocoder-aware", "informed": system}
        for attacker, source in trained_on.items():
            if attacker in wanted:
                yield attacker, Attack(self.of_seeds(system, f"{source}/{first}", architectures[first].seeds))
        if "strongest" in wanted:
            yield "strongest", Attack(self.strongest(system))
            for attacker in ("ignorant", "informed") if "ignorant" in wanted else ("informed",):
                for name, one in architectures.items():
                    for seed in one.seeds:
                        member = f"{trained_on[attacker]}/{name}-{seed}"
                        posteriors = self.pooled(system, "probability", member)
                        yield f"{attacker}/{name}-{seed}", Attack(posteriors, seed)
            everyone = [self.ensemble(system, fold) for fold in self.folds]
            yield f"informed/{ENSEMBLE}", Attack(np.concatenate(everyone))
        if system == ORIGINAL:
            name = f"{SHUFFLED}/{self.evaluation.permutation_architecture}"
            yield SHUFFLED, Attack(self.of_seeds(system, name, range(self.evaluation.permutations)))

    def of_seeds(self, system: str, name: str, seeds: Sequence[int]) -> Scores:
        """Posteriors ``(S, N, K)``, folds pooled, of S classifiers that differ in their seed alone."""
        return np.stack([self.pooled(system, "probability", f"{name}-{seed}") for seed in seeds])

    def strongest(self, system: str) -> Scores:
        """Posteriors ``(N, K)``, in each fold of the informed attacker with the highest UAR on the validation set.

        An adversary could choose in the same way, on speech of its own. The best attacker on the test set would look better
        than it is.
        """
        parts, chosen = [], self.chosen.setdefault(system, {})
        for fold in self.folds:
            test, validation = self.test[system][fold], self.validation[system][fold]
            informed, wanted = _informed(system, validation), validation.target["emotion"]
            informed[ENSEMBLE] = np.mean(list(informed.values()), 0)
            # if several have the same UAR, the one with the highest mean posterior of the true class
            truth = np.arange(len(wanted)), wanted
            best = max(informed, key=lambda m: (metrics.uar(informed[m], wanted), float(informed[m][truth].mean())))
            chosen[f"fold {fold}"] = best.removeprefix(f"{system}/")
            parts.append(self.ensemble(system, fold) if best == ENSEMBLE else test.probability[best])
        return np.concatenate(parts)

    def ensemble(self, system: str, fold: int) -> Scores:
        """Mean posteriors ``(N, K)`` of all informed attackers of a fold on its test speech."""
        return np.mean(list(_informed(system, self.test[system][fold]).values()), 0)

    def emotion(self, attacker: str, scores: Scores) -> dict[str, Resampled]:
        """Metrics of one attack; only UAR and accuracy for single classifiers and their ensemble."""
        wanted, resamples, n_classes = self.target["emotion"], self.bootstrap, self.data.n_classes["emotion"]
        if attacker == SHUFFLED:
            return resamples.permuted(scores, wanted, n_classes, self.group)
        found = {"accuracy": resamples.accuracy(scores, wanted), "uar": resamples.uar(scores, wanted)}
        if "/" in attacker:
            return found
        for metric, measure in (("auc", resamples.macro_auc), ("eer", resamples.one_vs_rest_eer)):
            with suppress(metrics.UndefinedMetricError):  # a fold may hold a single emotion
                found[metric] = measure(scores, wanted, self.group)
        # the chance level would be another one in a fold that lacks a class
        if len(np.unique(wanted)) == n_classes:
            original = self.attacks[ORIGINAL][attacker].scores
            with suppress(metrics.UndefinedMetricError):  # the attacker is at chance on original speech
                found["residual"] = resamples.residual(scores, original, wanted, 1 / n_classes)
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
                verified = self.bootstrap.verification(enrol, after, self.target["speaker"], self.group)
                found |= {("speaker", metric + suffix): score for metric, score in verified.items()}
        return found

    def survived(self, system: str) -> Iterator[Utility]:
        """What independent judges say of a system's speech, and its level."""
        yield from self.listening.scores(system, ORIGINAL, self.bootstrap)
        if all(set(LEVELS) <= self.test[system][fold].measure.keys() for fold in self.folds):
            yield from level_scores({name: self.pooled(system, "measure", name) for name in LEVELS}, self.bootstrap)

    def differences(self, scored: Mapping[tuple[str, str | tuple[str, str]], Mapping[str, Resampled]]) -> Iterator[Row]:
        """Paired differences of every system to the reference systems, and of trained systems to all others."""
        systems, references = self.evaluation.systems, (ORIGINAL, COPY_SYNTHESIS)
        for system, spec in systems.items():
            if system == ORIGINAL:
                continue
            others = [name for name in systems if name not in references] if is_trained(spec) else []
            for other in (*references, *others):
                if other == system:
                    continue
                for (one, key), found in scored.items():
                    if one != system or (other, key) not in scored or "/" in key or key == SHUFFLED:
                        continue
                    theirs = scored[other, key]
                    attribute, judge = key if isinstance(key, tuple) else (key, None)
                    attacker = key if key in self.evaluation.attackers else None
                    for metric in COMPARED:
                        if metric in found and metric in theirs:
                            yield self.row(
                                system, "emotion" if attacker else attribute, f"{metric}-minus-{other}",
                                found[metric] - theirs[metric], attacker, judge=judge,
                            )  # fmt: skip


def _informed(system: str, predictions: SystemPredictions) -> dict[str, Scores]:
    """Name → posteriors of every informed attacker of a system."""
    return {name: scores for name, scores in predictions.probability.items() if name.startswith(f"{system}/")}
