"""Rows of an evaluation from predictions that are invented here, so that what they must say is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from datamodules.synthetic import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.evaluation.predictions import SystemPredictions
from psegan.evaluation.scoring import Key, Scoring
from psegan.evaluation.specification import Evaluation
from psegan.metrics import scores as metrics
from psegan.report.results import Results, merge
from psegan.report.tables import SHUFFLED, sections
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


@pytest.fixture(scope="module")
def several() -> Scoring:
    """``both`` is trained twice: once like original speech, once with nothing of emotion in it."""
    evaluation = replace(EVALUATION, repetitions={"both": ["identity", "hidden"]})
    corpora = {fold: SyntheticDataModule(split="speaker-disjoint", fold=fold) for fold in FOLDS}
    test, validation = (
        {s: {f: predicted(data, subset, s, f) for f, data in corpora.items()} for s in evaluation.systems}
        for subset in ("test", "validation")
    )
    for system, mcd in (("identity", 1.0), ("hidden", 4.0)):
        for one in test[system].values():
            one.measure["mcd"] = np.full(len(one.id), mcd)
            one.measure["mcd"][0] = np.nan
    return Scoring(evaluation, corpora[0], test, validation, FOLDS)


def test_a_system_of_several_repetitions_has_their_mean_and_an_interval_that_knows_how_they_differ(several):
    rows = list(several.rows())
    found = {r.system: r for r in rows if (r.attacker, r.metric) == ("informed", "uar")}
    both, one, other = found["both"], found["identity"], found["hidden"]
    assert both.value == pytest.approx((one.value + other.value) / 2)
    # a quarter of the resamples have the one alone, and a quarter the other
    assert both.low <= other.high and both.high >= one.low
    (difference,) = [r for r in rows if (r.system, r.attacker, r.metric) == ("both", "informed", "uar-minus-original")]
    assert difference.value == pytest.approx(both.value - found["original"].value)
    assert not [r for r in rows if r.system == "both" and "/" in (r.attacker or "")]
    (measured,) = [r for r in rows if (r.system, r.metric) == ("both", "mcd")]
    assert (measured.value, measured.n) == (pytest.approx(2.5), len(several.bootstrap) - len(FOLDS))


def test_repetitions_stand_in_paired_differences_by_their_mean_alone(several):
    pairs = {(r.system, r.metric.partition("-minus-")[2]) for r in several.rows() if "-minus-" in r.metric}
    assert {name for pair in pairs for name in pair} == {"both", "original", "copy-synthesis"}


def test_a_score_that_one_repetition_lacks_is_named(several):
    score = several.bootstrap.mean(np.ones(len(several.bootstrap)))
    heard = Key("words", judge="moonshine")
    for first, second in (("identity", "hidden"), ("hidden", "identity")):
        with pytest.raises(
            ValueError, match=f"{second} has no score words moonshine wer, as other repetitions of both"
        ):
            several.averaged("both", ["identity", "hidden"], {(first, heard): {"wer": score}})


def test_tables_show_the_mean_of_several_repetitions_in_their_place(several):
    header = {"roles": several.evaluation.roles, "chance": {"synthetic": {"emotion": 0.2}}}
    rows = list(several.rows())
    overview = sections(merge({"one": Results(header, rows)}))[0].tables[0]
    assert list(overview.frame.index[:3]) == ["original", "copy-synthesis", "both"]
    # where there is no mean, nothing stands for them
    alone = [row for row in rows if row.system != "both" and "both" not in row.metric]
    overview = sections(merge({"one": Results(header, alone)}))[0].tables[0]
    assert {"identity", "hidden"} <= set(overview.frame.index)


@pytest.mark.parametrize(
    ("repetitions", "message"),
    [({"identity": ["hidden", "identity"]}, "a name of its own"), ({"both": ["hidden", "hidden"]}, "named twice")],
)
def test_what_are_no_repetitions(repetitions, message):
    with pytest.raises(PseganError, match=message):
        parsed(repetitions)


def test_repetitions_that_are_not_here_do_no_harm():
    assert parsed({"both": ["hidden", "psegan"]}).repetitions == {}
    known = parsed({"both": ["hidden", "psegan", "identity"]})
    assert known.repetitions == {"both": ["hidden", "identity"]}
    assert known.roles["both"] == "system" and known.roles["hidden"] == "repetition of both"


def parsed(repetitions: dict[str, list[str]]) -> Evaluation:
    content = {
        "name": "x", "out": "runs/x", "corpus": "c.yaml", "architectures": {"svm": SVM}, "repetitions": repetitions,
        "systems": {name: {"class_path": "psegan.protection.controls.Identity"} for name in ("identity", "hidden")},
    }  # fmt: skip
    return Evaluation.parse(content, "e.yaml")
