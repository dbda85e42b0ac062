"""What of an evaluation's rows is in W&B's summary; tests/psegan/jobs/test_sweep.py reads whole runs back."""

import math
from dataclasses import replace

from psegan.jobs.dashboard import summary_of
from psegan.report.results import Row

ROW = Row(
    system="psegan", corpus="ravdess", split="paper", attribute="emotion", attacker="strongest", metric="uar", value=0.3,
    low=0.2, high=0.4, n=120,
)  # fmt: skip


def test_the_summary_has_the_scores_of_a_table():
    speaker = replace(ROW, attribute="speaker", attacker=None, metric="eer", low=None, high=None)
    others = [
        replace(ROW, metric="uar-minus-original"), replace(ROW, attacker="informed/cnn-0", seed=0),
        replace(ROW, metric="residual", value=math.nan), replace(ROW, fold=0, value=0.9),
    ]  # fmt: skip
    assert summary_of([ROW, speaker, *others]) == {
        "emotion/strongest/uar": 0.3, "emotion/strongest/uar/low": 0.2, "emotion/strongest/uar/high": 0.4,
        "speaker/eer": 0.3,
    }  # fmt: skip


def test_a_single_fold_counts_as_all():
    found = summary_of([replace(ROW, fold=3)])
    assert found["emotion/strongest/uar"] == 0.3


def test_a_judge_stands_where_an_attacker_would():
    words = replace(ROW, attribute="words", attacker=None, judge="moonshine", metric="wer")
    assert summary_of([words])["words/moonshine/wer"] == 0.3
