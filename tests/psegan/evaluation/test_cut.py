"""Features of what a protector lets through, and who reads them."""

import numpy as np
import pytest
import torch

from datamodules import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.evaluation.attackers import feature_table
from psegan.evaluation.corpora import parts_of, passed_path, protect_corpus
from psegan.evaluation.cut import cut_statistics
from psegan.evaluation.specification import Enrolment
from psegan.speech.audio import HOP
from tests.support.protectors import small_anchored, small_voice, speech


def test_features_are_as_many_and_finite_whatever_the_length() -> None:
    random = np.random.default_rng(0)
    found = [cut_statistics(random.uniform(-1, 1, (5, size))) for size in (0, 1, 3, 9, 200)]
    assert len({one.shape for one in found}) == 1 and np.isfinite(found).all()


def test_order_and_company_count() -> None:
    """Two codes with the same values each, in another order or together at other times, are told apart."""
    random = np.random.default_rng(0)
    passed = random.uniform(-1, 1, (2, 100))
    for other in (passed[:, random.permutation(100)], np.stack([passed[0], np.roll(passed[1], 1)])):
        assert np.abs(cut_statistics(other) - cut_statistics(passed)).max() > 0.05


def test_the_table_is_of_what_was_let_through(tmp_path) -> None:
    data = SyntheticDataModule(n_speakers=2, n_contents=2, n_takes=3)
    small_anchored().save_pretrained(tmp_path / "anchored")
    folder = tmp_path / "made"
    protect_corpus(
        data, parts_of(data, ["test"]), str(tmp_path / "anchored"), folder, enrolment=Enrolment(sentences="any")
    )
    table = feature_table(folder, "cut", 1)
    assert table.keys() == {u.id for u in data.split_utterances("test")}
    for id, features in table.items():
        with np.load(passed_path(folder, id)) as kept:
            assert kept["passed"].shape[0] == 12 and np.array_equal(features, cut_statistics(kept["passed"]))
    id = next(iter(table))
    passed_path(folder, id).unlink()
    (folder / "cut.json").unlink()
    with pytest.raises(PseganError, match="is missing; .* was made before that was kept: remove it, and run again"):
        feature_table(folder, "cut", 1)


def test_a_protector_that_cuts_shows_all_that_it_speaks_from() -> None:
    """From the codes and their number of frames alone, the same comes out."""
    ada = small_anchored().speaking_as(small_voice())
    made = ada.transform(speech(14), torch.Generator().manual_seed(0))
    again = ada.transform(speech(14), torch.Generator().manual_seed(0))
    assert made.passed is not None and made.passed.shape[1] > 100 and torch.equal(made.passed, again.passed)
    assert made.passed.unique().numel() <= 5
    short = ada.transform(speech(2), torch.Generator().manual_seed(0))  # of one segment
    frames = torch.tensor([len(short.waveform) // HOP])
    assert torch.equal(torch.cat(list(ada.spoken([ada._say(short.passed[None], frames)]))), short.waveform)
