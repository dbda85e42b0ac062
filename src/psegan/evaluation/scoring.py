"""From verdicts to the tidy table: every score with its interval over speakers and seeds, pooled over folds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.base import CorpusDataModule
from psegan.evaluation.predictions import Verdicts
from psegan.evaluation.specification import Evaluation
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap, Resampled
from psegan.protection.controls import is_trained
from psegan.report.results import Row
from psegan.report.tables import SHUFFLED

Scores = NDArray[np.float64]
ByFold = Mapping[int, Verdicts]
COUNTING = 4
"""Raised by one whenever the same verdicts come to other numbers, so that what is published is counted again."""
ENSEMBLE = "ensemble"
"""The candidate for ``strongest`` that averages the posteriors of all others."""


@dataclass(frozen=True)
class Attack:
    """One attacker's posteriors for one system.

    Attributes:
        attacker: name in the table.
        scores: ``(N, K)``, or ``(S, N, K)`` of S seeds.
        seed: of a single one.
    """

    attacker: str
    scores: Scores
    seed: int | None = None


class Table:
    """The rows of one pool of folds.

    Args:
        evaluation: says which attackers there are.
        data: says what the classes are.
        test: system → fold → verdicts on its test speech.
        validation: the same for its validation speech, by which ``strongest`` is chosen.
        folds: of the pool.
        fold: what the rows say; None where there are no folds, or all are pooled.

    Attributes:
        chosen: system → fold → the attacker that is its ``strongest``; filled in by :meth:`attacks`.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        data: CorpusDataModule,
        test: Mapping[str, ByFold],
        validation: Mapping[str, ByFold],
        folds: Sequence[int],
        fold: int | None = None,
    ) -> None:
        self.evaluation, self.data, self.fold, self.folds = evaluation, data, fold, folds
        self.test, self.validation = test, validation
        self.chosen: dict[str, dict[str, str]] = {}
        first = self.pooled("original", lambda v: v.target["speaker"])
        ids = self.pooled("original", lambda v: v.id)
        for system in test:
            assert np.array_equal(self.pooled(system, lambda v: v.id), ids), f"{system} was judged on other utterances"
        self.target = {a: self.pooled("original", lambda v, a=a: v.target[a]) for a in data.classes}  # type: ignore[misc]
        self.group = np.concatenate([np.full(len(test["original"][fold]), fold) for fold in folds])
        self.bootstrap = Bootstrap(first, evaluation.resamples, seed=0)
        self.chance = 1 / data.n_classes["emotion"]

    def pooled(self, system: str, what: Callable[[Verdicts], NDArray[Any]]) -> NDArray[Any]:
        """Something of a system's verdicts, over all folds."""
        return np.concatenate([what(self.test[system][fold]) for fold in self.folds])

    def rows(self) -> Iterator[Row]:
        """Every system's."""
        attacks = {system: {a.attacker: a for a in self.attacks(system)} for system in self.evaluation.systems}
        scored: dict[tuple[str, str], dict[str, Resampled]] = {}
        for system in self.evaluation.systems:
            for attack in attacks[system].values():
                original = attacks["original"].get(attack.attacker)
                found = self.emotion(attack, original)
                scored[system, attack.attacker] = found
                for metric, score in found.items():
                    yield self.row(system, "emotion", metric, score, attack.attacker, attack.seed)
            kept = self.kept(system)
            for (attribute, metric), score in kept.items():
                scored.setdefault((system, attribute), {})[metric] = score
                yield self.row(system, attribute, metric, score)
            for metric, values in self.measures(system).items():
                n = int(np.isfinite(values).sum())
                yield self.row(system, "speech", metric, self.bootstrap.mean(values), n=n)
        yield from self.differences(scored)

    def row(
        self, system: str, attribute: str, metric: str, score: Resampled, attacker: str | None = None,
        seed: int | None = None, n: int | None = None,
    ) -> Row:  # fmt: skip
        """One row of the table, which rests on ``n`` utterances: all of them, unless said otherwise."""
        interval = score.interval()
        return Row(
            system=system, corpus=self.data.corpus, split=self.data.split, fold=self.fold, attacker=attacker,
            attribute=attribute, metric=metric, value=interval.value, low=interval.low, high=interval.high,
            n=len(self.bootstrap) if n is None else n, seed=seed,
        )  # fmt: skip

    # emotion

    def attacks(self, system: str) -> Iterator[Attack]:
        """All attackers of a system: the rungs of the ladder, then single ones."""
        ladder = self.evaluation.attackers
        heard = {"ignorant": "ignorant", "vocoder-aware": "vocoder-aware", "informed": system}
        first = next(iter(self.evaluation.architectures))
        for rung, source in heard.items():
            if rung in ladder:
                yield Attack(rung, self.seeds(system, source, first))
        if "strongest" in ladder:
            yield self.strongest(system)
            for rung in ("ignorant", "informed"):
                if rung == "ignorant" and rung not in ladder:
                    continue
                for name, one in self.evaluation.architectures.items():
                    for seed in one.seeds:
                        member = f"{heard[rung]}/{name}-{seed}"
                        scores = self.pooled(system, lambda v, m=member: v.probability[m])  # type: ignore[misc]
                        yield Attack(f"{rung}/{name}-{seed}", scores, seed)
            yield Attack(f"informed/{ENSEMBLE}", np.concatenate([self.ensemble(system, fold) for fold in self.folds]))
        if system == "original":
            dealt = self.evaluation.permutation_architecture
            yield Attack(SHUFFLED, self.seeds(system, SHUFFLED, dealt, range(self.evaluation.permutations)))

    def seeds(self, system: str, heard: str, architecture: str, seeds: Sequence[int] | None = None) -> Scores:
        """Posteriors ``(S, N, K)`` of one architecture's seeds, its own if no others are given."""
        seeds = self.evaluation.architectures[architecture].seeds if seeds is None else seeds
        names = [f"{heard}/{architecture}-{seed}" for seed in seeds]
        return np.stack([self.pooled(system, lambda v, n=name: v.probability[n]) for name in names])  # type: ignore[misc]

    def strongest(self, system: str) -> Attack:
        """The best of all informed attackers of each fold, as the adversary would choose: on speech of the adversary's own.

        Chosen on the test set, the best of several would look better than it is.
        """
        parts, names = [], []
        for fold in self.folds:
            test, validation = self.test[system][fold], self.validation[system][fold]
            heard, wanted = _informed(system, validation), validation.target["emotion"]
            heard[ENSEMBLE] = np.mean(list(heard.values()), 0)
            # ties go to the one that is surer of the truth
            truth = np.arange(len(wanted)), wanted
            best = max(heard, key=lambda m: (metrics.uar(heard[m], wanted), float(heard[m][truth].mean())))
            names.append(best)
            parts.append(self.ensemble(system, fold) if best == ENSEMBLE else test.probability[best])
        self.chosen.setdefault(system, {}).update(
            {f"fold {fold}": name.removeprefix(f"{system}/") for fold, name in zip(self.folds, names, strict=True)}
        )
        return Attack("strongest", np.concatenate(parts))

    def ensemble(self, system: str, fold: int) -> Scores:
        """Mean posteriors ``(N, K)`` of a fold's informed attackers on its test speech."""
        return np.mean(list(_informed(system, self.test[system][fold]).values()), 0)

    def emotion(self, attack: Attack, original: Attack | None) -> dict[str, Resampled]:
        """Metrics of one attack; of a member of ``strongest`` just its UAR and accuracy."""
        wanted, scores, resamples = self.target["emotion"], attack.scores, self.bootstrap
        if attack.attacker == SHUFFLED:
            return resamples.dealt(scores, wanted, self.data.n_classes["emotion"], self.group)
        found = {"accuracy": resamples.accuracy(scores, wanted), "uar": resamples.uar(scores, wanted)}
        if "/" in attack.attacker:
            return found
        for metric, measure in (("auc", resamples.macro_auc), ("eer", resamples.one_vs_rest_eer)):
            try:
                found[metric] = measure(scores, wanted, self.group)
            except metrics.UndefinedMetricError:  # a fold may hold a single emotion
                continue
        # chance is another where a fold lacks a class
        if original is not None and len(np.unique(wanted)) == self.data.n_classes["emotion"]:
            with suppress(metrics.UndefinedMetricError):  # who knows nothing of original speech measures nothing
                found["residual"] = resamples.residual(scores, original.scores, wanted, self.chance)
        return found

    # what is to survive

    def kept(self, system: str) -> dict[tuple[str, str], Resampled]:
        """(attribute, metric) → score."""
        found: dict[tuple[str, str], Resampled] = {}
        for attribute in self.evaluation.classifiers:
            if any(attribute not in self.test[system][fold].probability for fold in self.folds):
                continue
            scores = self.pooled(system, lambda v, a=attribute: v.probability[a])  # type: ignore[misc]
            wanted = self.target[attribute]
            found[attribute, "accuracy"] = self.bootstrap.accuracy(scores, wanted)
            found[attribute, "uar"] = self.bootstrap.uar(scores, wanted)
        found |= self.verification(system)
        return found

    def measures(self, system: str) -> dict[str, NDArray[np.float64]]:
        """Measure of the signal → its values ``(N,)``, NaN where an utterance has none."""
        names = self.test[system][self.folds[0]].measure
        return {name: self.pooled(system, lambda v, m=name: v.measure[m]) for name in names}  # type: ignore[misc]

    def verification(self, system: str) -> dict[tuple[str, str], Resampled]:
        """Trials that enrol original speech, and trials among protected speech alone; none where a fold has one speaker."""
        if not self.evaluation.verifier:
            return {}
        before = self.embeddings("original")
        after = self.embeddings(system)
        found: dict[tuple[str, str], Resampled] = {}
        for enrol, suffix in ((before, ""), (after, "_protected")):
            arguments = enrol, after, self.target["speaker"], self.group
            try:
                found["speaker", f"eer{suffix}"] = self.bootstrap.verification_eer(*arguments)
                found["speaker", f"min_dcf{suffix}"] = self.bootstrap.verification_min_dcf(*arguments)
            except metrics.UndefinedMetricError:
                continue
        return found

    def embeddings(self, system: str) -> Scores:
        """Of the verifier, ``(N, E)``."""
        return self.pooled(system, lambda v: v.embedding["verifier"])

    def emotion_embeddings(self, system: str) -> Scores | None:
        """What the first ``ignorant`` attacker makes of emotion, ``(N, E)``; None where it is no network."""
        first, one = next(iter(self.evaluation.architectures.items()))
        if one.estimator is not None:
            return None
        return self.pooled(system, lambda v: v.embedding[f"ignorant/{first}-{one.seeds[0]}"])

    # comparisons

    def differences(self, scored: Mapping[tuple[str, str], Mapping[str, Resampled]]) -> Iterator[Row]:
        """Paired differences of every system to original speech and copy-synthesis, of trained ones to all others too."""
        systems = self.evaluation.systems
        yardsticks = ["original", "copy-synthesis"]
        for system, spec in systems.items():
            if system == "original":
                continue
            others = [name for name in systems if name not in yardsticks] if is_trained(spec) else []
            for other in (*yardsticks, *others):
                if other == system:
                    continue
                for (one, key), found in scored.items():
                    if one != system or (other, key) not in scored or "/" in key or key == SHUFFLED:
                        continue
                    for metric in ("uar", "accuracy", "eer", "eer_protected"):
                        theirs = scored[other, key].get(metric)
                        if metric not in found or theirs is None:
                            continue
                        is_attack = key in self.evaluation.attackers
                        yield self.row(
                            system, "emotion" if is_attack else key, f"{metric}-minus-{other}", found[metric] - theirs,
                            key if is_attack else None,
                        )  # fmt: skip


def _informed(system: str, verdicts: Verdicts) -> dict[str, Scores]:
    """Name → posteriors of every informed attacker of a system."""
    return {name: scores for name, scores in verdicts.probability.items() if name.startswith(f"{system}/")}
