"""Rows of an evaluation from predictions that are invented here, so that what they must say is known."""

import numpy as np
import pytest
from scipy.special import softmax

from datamodules.synthetic import SyntheticDataModule
from psegan.evaluation.predictions import SystemPredictions
from psegan.evaluation.scoring import Scoring
from psegan.evaluation.specification import Evaluation
from psegan.metrics import scores as metrics
from psegan.report.tables import SHUFFLED
from psegan.speech.batch import ATTRIBUTES

SKILL = {"original": 1.5, "copy-synthesis": 1.4, "identity": 1.5, "hidden": 0.0}
"""System → how much of emotion its informed attackers hear."""
FOLDS = [0, 1]
SVM = {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}
EVALUATION = Evaluation.parse(
    {
        "name": "test", "out": "runs/test", "corpus": "corpus.yaml", "resamples": 300, "permutations": 30, "folds": FOLDS,
        "architectures": {"svm": {**SVM, "seeds": [0, 1]}, "other": SVM},
        "systems": {name: {"class_path": "psegan.protection.controls.Identity"} for name in ("identity", "hidden")},
    },
    "evaluation.yaml",
)  # fmt: skip
MEMBERS = ("svm-0", "svm-1", "other-0")


def predicted(data: SyntheticDataModule, subset: str, system: str, fold: int) -> SystemPredictions:
    """Overconfident attackers of one system; those of permuted labels hear everything and have the names wrong."""
    utterances = data.split_utterances(subset)
    target = {a: np.array([u.label(a) for u in utterances]) for a in ATTRIBUTES}
    emotion, k = target["emotion"], 5
    in_order = np.arange(k)
    heard = system if system != "identity" else "original"

    def said(skill: float, *seed: int, names: np.ndarray = in_order) -> np.ndarray:
        generator = np.random.default_rng([fold, len(subset), list(SKILL).index(heard), *seed])
        return softmax(3 * (generator.normal(size=(len(emotion), k)) + skill * np.eye(k)[names[emotion]]), 1)

    found = {}
    for number, member in enumerate(MEMBERS):
        found |= {f"ignorant/{member}": said(SKILL[heard], number), f"{system}/{member}": said(SKILL[heard], 9, number)}
        found[f"vocoder-aware/{member}"] = said(SKILL[heard], 8, number)
    if system == "original":
        for number in range(30):
            names = np.random.default_rng([fold, number]).permutation(k)
            found[f"{SHUFFLED}/svm-{number}"] = said(2, 7, number, names=names)
    return SystemPredictions(np.array([u.id for u in utterances]), target, found)


@pytest.fixture(scope="module")
def scoring() -> Scoring:
    corpora = {fold: SyntheticDataModule(split="speaker-disjoint", fold=fold) for fold in FOLDS}
    test, validation = (
        {s: {f: predicted(data, subset, s, f) for f, data in corpora.items()} for s in EVALUATION.systems}
        for subset in ("test", "validation")
    )
    return Scoring(EVALUATION, corpora[0], test, validation, FOLDS)


@pytest.fixture(scope="module")
def found(scoring: Scoring) -> dict:
    return {(r.system, r.attacker, r.metric, r.seed): (r.value, r.low, r.high) for r in scoring.rows()}


LEAKAGE = (
    "bits",
    "worst_class",
    "worst_speaker",
    "most_predicted",
    "tpr_at_1",
    "tpr_at_5",
    "uar_of_2",
    "uar_of_4",
    "uar_of_8",
)


def test_every_attacker_of_the_table_has_every_metric(found):
    for system in SKILL:
        for attacker in ("ignorant", "vocoder-aware", "informed", "strongest"):
            for metric in LEAKAGE:
                _, low, high = found[system, attacker, metric, None]
                assert low <= high
    single = {metric for _, attacker, metric, _ in found if attacker == "informed/svm-0"}
    assert single == {"accuracy", "uar", "bits"}
    assert {metric for _, attacker, metric, _ in found if attacker == SHUFFLED} == {"accuracy", "uar", "bits"}
    assert not any("ensemble" in (attacker or "") for _, attacker, _, _ in found)


def test_the_identity_scores_exactly_what_the_original_does(found):
    same = {key: row for key, row in found.items() if key[0] == "identity" and "minus" not in key[2]}
    assert len(same) > 60
    for (_, *key), row in same.items():
        assert row == found["original", *key]
    for metric in ("uar", "bits"):
        assert found["identity", "strongest", f"{metric}-minus-original", None] == (0, 0, 0)


def test_shuffled_labels_and_hidden_speech_are_worth_no_bits(found):
    for system, attacker in (("original", SHUFFLED), ("hidden", "informed")):
        _, low, high = found[system, attacker, "bits", None]
        assert low <= 0 <= high and high - low < 0.02
    assert abs(found["hidden", "strongest", "bits", None][0]) < 0.02
    for metric in ("uar", "uar_of_2", "uar_of_4", "uar_of_8"):
        _, low, high = found["hidden", "informed", metric, None]
        assert low <= 1 / 5 <= high
    assert found["hidden", "strongest", "most_predicted", None][0] < 0.5  # who is at chance has not collapsed


def test_the_mean_of_calibrated_posteriors_reads_more_than_a_member(found):
    alone = [found["original", f"informed/{m}", "bits", int(m[-1])][0] for m in MEMBERS]
    assert found["original", "informed", "bits", None][0] == pytest.approx(np.mean(alone[:2]))
    assert found["original", "strongest", "bits", None][0] > max(alone) + 0.2
    assert found["original", "strongest", "uar", None][0] > found["original", "informed", "uar", None][0]
    series = [found["original", "informed", metric, None][0] for metric in ("uar", "uar_of_2", "uar_of_4", "uar_of_8")]
    assert (np.diff(series) > 0).all()


def test_a_single_attacker_names_what_its_own_posteriors_name(scoring, found):
    raw, wanted = scoring.pooled("original", "probability", "original/svm-1"), scoring.target["emotion"]
    assert found["original", "informed/svm-1", "uar", 1][0] == pytest.approx(metrics.uar(raw, wanted))
    assert found["original", "informed/svm-1", "accuracy", 1][0] == pytest.approx(metrics.accuracy(raw, wanted))


def test_attackers_are_calibrated_on_what_they_learnt_from(scoring):
    assert scoring.betas.keys() == {"fold 0", "fold 1"}
    betas = scoring.betas["fold 0"]
    assert {"ignorant/svm-0", "vocoder-aware/svm-1", "hidden/other-0", "hidden/mean"} <= betas.keys()
    assert 0.2 < betas["original/svm-0"] < 0.6 and betas["hidden/svm-0"] < 0.05
    assert [name for name in betas if name.startswith(SHUFFLED)] == [f"{SHUFFLED}/svm"]  # one for all of them


def test_without_speech_that_anybody_learnt_from_nothing_else_is_needed(scoring):
    """Of ignorant attackers, the validation speech of the original is enough."""
    evaluation = Evaluation.parse(
        {"name": "test", "out": "x", "corpus": "x", "attackers": ["ignorant"], "architectures": {"svm": SVM},
         "permutations": 1, "resamples": 20}, "evaluation.yaml",
    )  # fmt: skip
    alone = Scoring(evaluation, scoring.data, scoring.test, {"original": scoring.validation["original"]}, FOLDS)
    assert {attacker for found in alone.attacks.values() for attacker in found} == {"ignorant", SHUFFLED}
