"""One way from trained weights to a waveform, and metrics that depend on utterances alone."""

import csv
import os
import subprocess
import sys

import pytest
import torch

from datamodules import SyntheticDataModule
from psegan import cli
from psegan.common.random import of_utterance
from psegan.evaluation.corpora import parts_of, protect_corpus
from psegan.protection.protector import Protector
from psegan.speech.audio import read_audio
from psegan.training import command as training


@pytest.fixture
def command(psegan_arguments, from_repository, tmp_path):
    """Trains so fast that targets and noise can be told in what comes out; gives the words of another command."""
    arguments = [*psegan_arguments, "--model.init_args.generator_optimizer.init_args.lr=0.05"]
    training.main(arguments)
    words = [word for word in arguments[1:] if not word.startswith("--trainer.limit_val_batches")]
    return lambda name, *more: [name, *words, "--ckpt_path=last", *more]


def test_predict_protect_evaluation_and_samples_give_the_same_files(command, tmp_path):
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2)
    parts = parts_of(data, ("test",))
    source = tmp_path / "source"
    manifest = protect_corpus(data, parts, "Identity", source)  # a corpus of FLAC files
    (tmp_path / "corpus.yaml").write_text(
        f"data: {{class_path: datamodules.ManifestDataModule, init_args: {{manifest: {manifest}}}}}"
    )
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    ids = [utterance.id for _, utterance in parts]
    corpus = ["--corpus", str(tmp_path / "corpus.yaml"), "--protector", checkpoint, "--split", "test"]
    assert cli.run(["data", "protect", *corpus, "--out", str(tmp_path / "evaluated"), "--seed", "0"]) == 0
    words = [str(source), "-o", str(tmp_path / "protected"), "--model", checkpoint, "--seed", "0"]
    assert cli.run(["protect", *words]) == 0
    for name in ("predict", "test"):
        with_files = [word for word in command(name) if "--data.init_args" not in word]
        with_files[with_files.index("experiments/corpora/synthetic.yaml")] = str(tmp_path / "corpus.yaml")
        training.main([*with_files, "--samples.n_utterances=2"])
    predicted = tmp_path / "run" / "predict" / "protected"
    protector = Protector.load(checkpoint)
    for id in ids:
        evaluated = (tmp_path / "evaluated" / f"{id}.flac").read_bytes()
        assert (predicted / f"{id}.flac").read_bytes() == evaluated
        assert (tmp_path / "protected" / f"{id}.flac").read_bytes() == evaluated
    original, predicted_one = (read_audio(folder / f"{ids[0]}.flac") for folder in (source, predicted))
    torch.testing.assert_close(protector(original, 16_000, seed=0, id=ids[0]), predicted_one, rtol=0, atol=0.6 / 32768)
    assert not torch.allclose(protector(original, 16_000, seed=1, id=ids[0]), predicted_one, rtol=0, atol=2 / 32768)
    samples = sorted((tmp_path / "run" / "test" / "audio" / "test").glob("*-protected-*.wav"))
    assert len(samples) == 2
    for path, id in zip(samples, sorted(ids)[:2], strict=True):
        assert torch.equal(read_audio(path), read_audio(predicted / f"{id}.flac"))


def test_metrics_depend_on_no_batch_size_and_no_number_of_processes(command, trained, tmp_path):
    classifiers = [f"--privacy.{a}_classifier={trained(a)}" for a in ("emotion", "speaker")]
    found = {}
    for size in (4, 32):
        words = command("validate", *classifiers, f"--data.init_args.eval_batch_size={size}")
        found[size] = {name: float(value) for name, value in training.main(words).trainer.callback_metrics.items()}
    assert {"val/distortion", "val/emotion_uar", "val/emotion_eer", "val/speaker_eer"} <= found[4].keys()
    assert found[32] == pytest.approx(found[4], rel=1e-6, abs=1e-6)
    words = command("validate", *classifiers, "--data.init_args.eval_batch_size=4", "--run.loggers=[csv]")
    two = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true"]
    done = subprocess.run(
        [sys.executable, "-m", "psegan.cli", *words, *two],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "run" / "validate" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    together = {name: float(row[name]) for name in found[4]}
    assert together == pytest.approx(found[4], rel=1e-6, abs=1e-6)


def test_released_weights_by_an_old_name():
    """Files of before the modules moved still name what they meant."""
    from psegan.protection.controls import load_protector

    old = {"class_path": "psegan.protectors.TrainedSystem", "init_args": {"checkpoint": "psegan-ravdess"}}
    protector = load_protector(old)
    assert isinstance(protector, Protector) and protector.n_targets == 8
    waveform = torch.rand(4_000, generator=torch.Generator().manual_seed(0)) - 0.5
    again = load_protector("psegan-ravdess").transform(waveform, of_utterance(0, "x"))
    assert torch.equal(protector.transform(waveform, of_utterance(0, "x")).waveform, again.waveform)
    noise = load_protector({"class_path": "psegan.protectors.AdditiveNoise", "init_args": {"snr_db": 5}})
    assert str(noise) == "AdditiveNoise(snr_db=5.0)"
