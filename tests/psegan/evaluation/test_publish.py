"""What the header of the results says of the test set."""

import numpy as np
import pytest

from datamodules.base import Utterance
from datamodules.synthetic import SyntheticDataModule
from psegan.evaluation.publish import largest_share
from psegan.metrics.bootstrap import Bootstrap
from psegan.metrics.leakage import most_predicted


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
