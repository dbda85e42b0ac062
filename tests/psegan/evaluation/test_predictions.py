"""Predictions on disk, and measures of the signal for any number of processes."""

from dataclasses import fields

import numpy as np
import pytest

from datamodules import SyntheticDataModule
from datamodules.manifest import ManifestDataModule
from psegan.common.errors import PseganError
from psegan.common.processes import WORTH_A_PROCESS
from psegan.evaluation.corpora import parts_of, protect_corpus
from psegan.evaluation.predictions import GROUPS, SystemPredictions, predict
from psegan.metrics.level import levels
from psegan.metrics.quality import measures

NOISE = {"class_path": "AdditiveNoise", "init_args": {"snr_db": 10}}


def test_processes_change_no_measure(tmp_path):
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=3)
    parts = parts_of(data, ("train",))[: WORTH_A_PROCESS + 5]
    opened = []
    for name, protector in (("before", "Identity"), ("after", NOISE)):
        protect_corpus(data, [("test", utterance) for _, utterance in parts], protector, tmp_path / name)
        opened.append(ManifestDataModule(str(tmp_path / name / "manifest.csv")))
    before, after = opened
    one, two = (predict(after, "test", {}, original=before, workers=workers) for workers in (1, 2))
    for group in ("measure", "level"):
        assert getattr(one, group).keys() == getattr(two, group).keys()
        for name, values in getattr(one, group).items():
            np.testing.assert_array_equal(values, getattr(two, group)[name])
    last = len(parts) - 1
    pair = [corpus.loader()(corpus.split_utterances("test")[last]) for corpus in opened]
    assert measures(*pair)["stoi"] == one.measure["stoi"][last]
    assert {name: values[last] for name, values in one.level.items()} == levels(*pair)
    alone = predict(before, "test", {}, original=before)
    assert alone.measure == {} and alone.level.keys() == one.level.keys()


def test_predictions_are_read_as_they_were_written(tmp_path):
    generator = np.random.default_rng(0)
    written = SystemPredictions(
        id=np.array(["Actor_01/a", "b"]),
        target={"emotion": np.array([0, 3])},
        probability={"ignorant/cnn-0": generator.random((2, 4)), "psegan/gru:wide-1": generator.random((2, 4))},
        embedding={"verifier": generator.normal(size=(2, 5))},
        measure={"stoi": np.array([0.5, np.nan])},
        level={"clipped": np.array([0.0, 0.1])},
    )
    written.save(tmp_path / "test.npz")
    read = SystemPredictions.load(tmp_path / "test.npz")
    np.testing.assert_array_equal(read.id, written.id)
    assert GROUPS == tuple(one.name for one in fields(written))[1:]
    for kind in GROUPS:
        assert getattr(read, kind).keys() == getattr(written, kind).keys()
        for name, array in getattr(written, kind).items():
            np.testing.assert_array_equal(getattr(read, kind)[name], array)
    for content in (b"", (tmp_path / "test.npz").read_bytes()[:-100]):
        (tmp_path / "test.npz").write_bytes(content)
        with pytest.raises(PseganError, match=r"test\.npz: is damaged; remove it"):
            SystemPredictions.load(tmp_path / "test.npz")
