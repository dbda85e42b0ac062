"""A content matcher learns from a recogniser, says so, and is there for those who don't have the recogniser."""

import csv

import pytest

from datamodules import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.models.content import FeatureEncoder
from psegan.models.moonshine import MoonshineEncoder
from psegan.systems import ContentDistillation
from psegan.training import command as training
from psegan.weights import load_parts
from tests.support.corpora import write_corpus

pytest.importorskip("moonshine_voice")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("spoken")
    data = SyntheticDataModule(n_speakers=2, n_contents=2, n_takes=1)
    splits = dict(zip((u.id for u in data.utterances()), ("validation", "validation", "test"), strict=False))
    write_corpus(
        root / "some", data, lambda u: {"speaker": data.speakers[u.speaker], "split": splits.get(u.id, "train")}
    )
    return str(root)


def test_it_learns_what_the_recogniser_hears(from_repository, root, tmp_path, monkeypatch):
    training.main([
        "fit", "--config", "experiments/content_distillation.yaml", "--config", "experiments/corpora/spoken_content.yaml",
        f"--data.init_args.root={root}", "--data.init_args.corpora=[some]", "--data.init_args.split=paper",
        "--data.init_args.split_of={some: manifest}", "--data.init_args.speakers=all", "--data.init_args.speakers_of={}",
        "--data.init_args.repeats={}", "--data.init_args.batch_size=8", "--trainer.max_epochs=8",
        "--trainer.check_val_every_n_epoch=4", "--trainer.log_every_n_steps=1", "--model.init_args.encoder.init_args.depth=2",
        "--model.init_args.encoder.init_args.width=48", "--model.init_args.encoder.init_args.hidden=96",
        "--run.loggers=[csv]", "--trainer.enable_progress_bar=false", f"--run.dir={tmp_path / 'run'}",
    ])  # fmt: skip
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [float(row["train/error"]) for row in rows if row["train/error"]]
    assert errors[-1] < 0.7 * errors[0] and len([row for row in rows if row["val/distance"]]) == 2

    def missing(self):
        raise AssertionError("the recogniser is not needed any more")

    monkeypatch.setattr(MoonshineEncoder, "__init__", missing)
    parts, about = load_parts(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert isinstance(parts["encoder"], FeatureEncoder) and about["attribute"] == "content"
    assert about["learnt_from"] == ["psegan.evaluation.recognisers.Moonshine"]


def test_a_missing_recogniser_is_named_before_the_first_batch():
    def missing():
        raise PseganError("moonshine-voice is not installed: pip install 'psegan[judges]'")

    with pytest.raises(PseganError, match="moonshine-voice is not installed"):
        ContentDistillation({}, lambda: FeatureEncoder(width=8, hidden=8, depth=1), missing).check_ready()
