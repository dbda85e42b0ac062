"""Signal measures of a corpus: each utterance against its own original, whatever the number of processes."""

import numpy as np

from datamodules import SyntheticDataModule
from datamodules.manifest import ManifestDataModule
from psegan.common.processes import WORTH_A_PROCESS
from psegan.evaluation.corpora import parts_of, protect_corpus
from psegan.evaluation.predictions import listen
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
    one, two = (listen(after, "test", {}, original=before, workers=workers).measure for workers in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    last = len(parts) - 1
    pair = [corpus.loader()(corpus.split_utterances("test")[last]) for corpus in opened]
    assert measures(*pair)["stoi"] == one["stoi"][last]
