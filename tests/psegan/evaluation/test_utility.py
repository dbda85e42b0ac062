"""Scores of what judges say, against direct calculations."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from psegan.evaluation.naturalness import QualityJudge
from psegan.evaluation.recognisers import Recogniser
from psegan.evaluation.utility import Listening, Utility, level_scores
from psegan.evaluation.verifiers import Verifier
from psegan.metrics import scores as metrics
from psegan.metrics.bootstrap import Bootstrap

N = 24
SPEAKER = np.arange(N) % 4
CONTENT = np.arange(N) // 4 % 3
NEUTRAL = np.arange(N) < 12


def judge(kind: type) -> Any:
    """A judge of a kind, for what it says is given."""
    silent = {name: lambda self, *_: None for name in ("transcribe", "embed", "rate", "describe")}
    return type("Silent", (kind,), silent)()


def scores(kind: type, before: Iterable[Any], after: Iterable[Any], **known: Any) -> dict[tuple[str, str], Utility]:
    says = {"original": {"one": list(before)}, "psegan": {"one": list(after)}}
    known = {"text": [None] * N, "speaker": SPEAKER, "content": CONTENT, "neutral": NEUTRAL} | known
    listening = Listening(judges={"one": judge(kind), "absent": judge(kind)}, says=says, **known)
    found = list(listening.scores("psegan", "original", Bootstrap(SPEAKER, 50)))
    assert {one.judge for one in found} <= {"one"}
    return {(one.attribute, one.metric): one for one in found}


def test_words_are_those_of_the_text_where_it_is_known() -> None:
    heard = ["dogs are sitting by the door"] * 12 + ["dogs sit by the door"] * 6 + [""] * 6
    found = scores(Recogniser, ["whatever"] * N, heard, text=["Dogs are sitting by the door"] * N)
    assert found.keys() == {("words", "wer")}
    assert found["words", "wer"].n == N
    assert found["words", "wer"].score.value == pytest.approx((6 * 2 + 6 * 6) / (N * 6))


def test_without_a_text_words_are_those_that_the_judge_hears_in_the_original() -> None:
    before = ["dogs are sitting"] * 20 + [""] * 4  # nothing is known of what it did not hear
    found = scores(Recogniser, before, ["dogs sitting"] * N)
    assert found.keys() == {("words", "wer_to_original")}
    assert found["words", "wer_to_original"].n == 20
    assert found["words", "wer_to_original"].score.value == pytest.approx(1 / 3)


def test_where_some_texts_are_known_both_rates_are_given_apart() -> None:
    text = ["Dogs are sitting"] * 6 + [None] * (N - 6)
    found = scores(Recogniser, ["dogs sitting down"] * N, ["dogs sitting"] * N, text=text)
    assert {metric: (one.n, one.score.value) for (_, metric), one in found.items()} == {
        "wer": (6, pytest.approx(1 / 3)), "wer_to_original": (N - 6, pytest.approx(1 / 3)),
    }  # fmt: skip


def test_a_recogniser_that_hears_nothing_in_any_original_has_no_score() -> None:
    assert scores(Recogniser, [""] * N, ["words"] * N) == {}


def test_silence_instead_of_words_is_an_error_rate_of_one() -> None:
    assert scores(Recogniser, ["words"] * N, [""] * N)["words", "wer_to_original"].score.value == 1


def test_voices_are_compared_over_other_sentences() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(size=(4, 5))[SPEAKER] + generator.normal(size=(N, 5))
    after = before + generator.normal(size=(N, 5))
    found = scores(Verifier, before, after)
    assert found.keys() == {("speaker", "eer"), ("speaker", "eer_protected"), ("speaker", "eer_neutral")}

    def directly(enrol: np.ndarray, enrolling: np.ndarray) -> float:
        pairs = [(i, j) for i in range(N) for j in range(N) if CONTENT[i] != CONTENT[j] and enrolling[i]]
        cosine = [enrol[i] @ after[j] / np.linalg.norm(enrol[i]) / np.linalg.norm(after[j]) for i, j in pairs]
        return metrics.eer(cosine, [bool(SPEAKER[i] == SPEAKER[j]) for i, j in pairs])

    everyone = np.ones(N, dtype=bool)
    assert found["speaker", "eer"].score.value == pytest.approx(directly(before, everyone))
    assert found["speaker", "eer_protected"].score.value == pytest.approx(directly(after, everyone))
    assert found["speaker", "eer_neutral"].score.value == pytest.approx(directly(before, NEUTRAL))


def test_without_labels_all_sentences_are_compared_and_nothing_is_neutral() -> None:
    before = np.random.default_rng(0).normal(size=(N, 5))
    found = scores(Verifier, before, before, content=None, neutral=None)
    assert found.keys() == {("speaker", "eer"), ("speaker", "eer_protected")}
    with_one_sentence = scores(Verifier, before, before, content=np.zeros(N, dtype=int))
    assert with_one_sentence == {}


def test_ratings_are_averaged() -> None:
    after = [{"overall": 1 + i / N, "signal": 3.0} for i in range(N)]
    found = scores(QualityJudge, after, after)
    assert found["speech", "overall"].score.value == pytest.approx(1 + (N - 1) / 2 / N)
    assert found["speech", "signal"].score.interval() == (3, 3, 3)


def test_levels() -> None:
    loudest = np.arange(N) - 2.0
    level = {"loudest": loudest, "mean_level": loudest / 2, "clipped": np.full(N, 0.01)}
    found = {one.metric: one for one in level_scores(level, Bootstrap(SPEAKER, 50))}
    assert {one.judge for one in found.values()} == {"level"}
    assert found["loudest_median"].score.value == 9
    assert found["loudest_p95"].score.value == 20
    assert found["mean_level"].score.value == pytest.approx(loudest.mean() / 2)
    assert found["clipped"].score.value == pytest.approx(0.01)
