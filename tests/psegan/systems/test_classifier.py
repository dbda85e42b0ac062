"""Classifiers: augmentation, mixing, another's encoder, the best validation's weights."""

import math

import pytest
import torch
from torch import nn

from psegan.common.errors import PseganError
from psegan.models.classifier import SpeechEncoder
from psegan.models.recurrent import RecurrentEncoder
from psegan.systems.classifier import Classifier, load_classifier
from psegan.training import command as training
from psegan.weights import read_checkpoint

CLASSES = {"emotion": 5, "speaker": 4, "gender": 2, "content": 2}


@pytest.fixture
def fit(tiny, from_repository, tmp_path):
    def run(*options: str, name: str = "run"):
        return training.main(
            ["fit", "--config", "experiments/classifier.yaml", *tiny, "--trainer.max_epochs=1",
             "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false",
             "--run.loggers=[csv]", f"--run.dir={tmp_path / name}", *options]
        )  # fmt: skip

    return run


@pytest.mark.parametrize("encoder", [SpeechEncoder, RecurrentEncoder])
def test_padding_changes_no_prediction(encoder):
    torch.manual_seed(0)
    classifier = Classifier(CLASSES, encoder=encoder).eval()
    mel, lengths = torch.rand(3, 80, 90), torch.tensor([90, 37, 5])
    mel = mel * (torch.arange(90) < lengths[:, None, None])
    together = classifier(mel, lengths)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(classifier(mel[row : row + 1, :, :n], lengths[row : row + 1])[0], together[row])


@pytest.mark.parametrize("name", ["cnn", "gru"])
def test_attackers_learn_and_their_best_epoch_is_kept(name, fit, tmp_path):
    cli = fit(
        "--config", f"experiments/attackers/{name}.yaml", "--trainer.max_epochs=3", "--trainer.limit_val_batches=1.0",
        "--trainer.check_val_every_n_epoch=1",
    )  # fmt: skip
    assert cli.model.mixup > 0
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt"}
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column, epoch = (rows[0].split(",").index(key) for key in ("val/uar", "epoch"))
    scores = {int(row.split(",")[epoch]): float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]}
    best = max(scores, key=lambda e: (scores[e], -e))
    assert read_checkpoint(folder / "best.ckpt")["epoch"] == best
    assert load_classifier(folder / "best.ckpt", "emotion").attribute == "emotion"


def test_mixed_and_augmented_training_repeats_itself(fit, tmp_path):
    states = []
    for name in ("one", "two"):
        fit("--config", "experiments/attackers/cnn.yaml", "--trainer.max_epochs=2", name=name)
        states.append(read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_training_starts_from_another_classifiers_encoder(fit, trained, tmp_path):
    source = trained("speaker")
    cli = fit(
        f"--model.init_args.encoder_checkpoint={source}", "--model.init_args.attribute=emotion",
        "--model.init_args.learning_rate=1e-30",
    )  # fmt: skip
    theirs = read_checkpoint(source)["state_dict"]
    ours = cli.model.state_dict()
    weights = [key for key in theirs if key.startswith("encoder.") and key.endswith("weight")]
    assert weights
    assert all(torch.allclose(ours[key].cpu(), theirs[key], atol=1e-6) for key in weights)
    with pytest.raises(PseganError, match="has another encoder"):
        fit(
            f"--model.init_args.encoder_checkpoint={source}",
            "--model.init_args.encoder=psegan.models.recurrent.RecurrentEncoder", name="other",
        )  # fmt: skip


class Waveforms(nn.Module):
    """An encoder that reads waveforms."""

    embedding_dim = 4

    class FrontEnd(nn.Module):
        def forward(self, waveform, lengths):
            return waveform.unsqueeze(1), lengths

    def __init__(self) -> None:
        super().__init__()
        self.front_end = self.FrontEnd()
        self.layer = nn.Linear(1, 4)

    def forward(self, features, lengths):
        assert features.shape[1] == 1
        return self.layer(features.abs().sum(2) / lengths.unsqueeze(1))


def test_an_encoder_may_bring_a_front_end_of_its_own():
    classifier = Classifier(CLASSES, encoder=Waveforms)
    assert not classifier.reads_spectrograms
    waveform, lengths = torch.rand(2, 1000), torch.tensor([1000, 1000])
    features, frames = classifier.front_end(waveform, lengths)
    assert features.shape == (2, 1, 1000)
    assert math.isfinite(classifier(features, frames).sum().item())
