"""What the header of the results says of the test set, and what the frontier shows."""

import numpy as np
import pytest

from datamodules.base import Utterance
from datamodules.synthetic import SyntheticDataModule
from psegan.evaluation.publish import frontier_panels, largest_share
from psegan.metrics.bootstrap import Bootstrap
from psegan.metrics.leakage import most_predicted
from psegan.report.results import Results, Row


class Uneven(SyntheticDataModule):
    """Of all emotions but the one of the fold's number only one sentence is left."""

    def split_utterances(self, subset: str) -> list[Utterance]:
        return [u for u in super().split_utterances(subset) if self.fold == u.emotion or u.content == 0]


@pytest.mark.parametrize("kind", [SyntheticDataModule, Uneven])
def test_the_largest_share_is_what_an_attacker_names_most_who_is_always_right(kind: type[SyntheticDataModule]) -> None:
    corpora = [kind(split="speaker-disjoint", fold=fold) for fold in (0, 1)]
    tested = [(u.emotion, corpus.fold) for corpus in corpora for u in corpus.split_utterances("test")]
    emotion, fold = np.array(tested).T
    assert (largest_share(corpora) > 0.3) is (kind is Uneven)
    expected = most_predicted(Bootstrap(np.arange(len(fold)), 2), np.eye(5)[emotion], emotion, fold).value
    assert largest_share(corpora) == pytest.approx(expected)


def test_a_frontier_has_units_and_neither_repetitions_nor_what_a_judge_did_not_hear() -> None:
    def row(system: str, attribute: str, metric: str, value: float, **who: str) -> Row:
        of_corpus = {"corpus": "ravdess", "split": "paper", "n": 9}
        return Row(system=system, attribute=attribute, metric=metric, value=value, **of_corpus, **who)  # type: ignore[arg-type]

    systems = ("original", "psegan", "psegan-0", "psegan-1")
    rows = [row(system, "emotion", "uar", 0.5, attacker="strongest") for system in systems]
    rows += [row(system, "words", "wer", 0.25, judge="moonshine") for system in systems]
    rows += [row(system, "speech", "overall", 2.5, judge="dnsmos") for system in systems[1:]]
    roles = {"original": "control", "psegan": "system"} | dict.fromkeys(systems[2:], "repetition of psegan")
    panels = frontier_panels(Results({"roles": roles, "judges": ["moonshine", "dnsmos"]}, rows), "strongest", None)
    assert {name: list(points) for name, points in panels.items()} == {
        "WER (%) ↓ by moonshine": ["original", "psegan"], "overall ↑ by dnsmos": ["psegan"],
    }  # fmt: skip
    assert [score[0] for score in panels["overall ↑ by dnsmos"]["psegan"]] == [50, 2.5]
