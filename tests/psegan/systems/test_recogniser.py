"""The content matcher's training: it learns to spell, minds no padding, and says which text it cannot learn from."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch

from datamodules import ManifestDataModule, SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.models.content import STRIDE, ContentEncoder
from psegan.systems import CharacterRecogniser
from psegan.systems.recogniser import unalignable
from psegan.systems.spelling import spelling_loss
from psegan.training import command as training
from psegan.weights import load_parts
from tests.support.corpora import write_corpus

SMALL = [
    "--model.init_args.encoder.init_args.width=48", "--model.init_args.encoder.init_args.hidden=96",
    "--model.init_args.encoder.init_args.depth=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Synthetic speech with what it says as texts."""
    folder = tmp_path_factory.mktemp("texts")
    data = SyntheticDataModule(n_speakers=6, n_contents=2, n_takes=2, crop_seconds=None)
    write_corpus(
        folder, data, lambda u: {"speaker": data.speakers[u.speaker], "text": f"{data.contents[u.content].title()}!"}
    )
    return folder


@pytest.fixture
def fit(from_repository, corpus, tmp_path):
    def run(*options: str, manifest=corpus / "manifest.csv"):
        return training.main([
            "fit", "--config", "experiments/content_matcher.yaml", "--config", "experiments/corpora/speechocean762.yaml",
            f"--data.init_args.manifest={manifest}", "--data.init_args.n_folds=3", *SMALL, "--run.loggers=[csv]",
            "--trainer.enable_progress_bar=false", f"--run.dir={tmp_path / 'run'}", *options,
        ])  # fmt: skip

    return run


def test_a_training_logs_how_it_spells_voices_that_it_never_heard(fit, tmp_path):
    fit("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=2", "--trainer.log_every_n_steps=1")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {float(row["train/unalignable"]) for row in rows if row["train/loss"]} == {0.0}
    assert [row["val/cer"] for row in rows if row["val/cer"]] and [
        row["train/loss"] for row in rows if row["train/loss"]
    ]
    parts, about = load_parts(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert about["attribute"] == "characters" and isinstance(parts["encoder"], ContentEncoder)


def test_it_learns_to_spell(corpus):
    """Two words by heart, as texts of the corpus and as what the network then hears in its speech."""
    torch.manual_seed(0)
    system = CharacterRecogniser({}, partial(ContentEncoder, width=48, hidden=96, depth=2, dropout=0.0))
    data = ManifestDataModule(
        str(corpus / "manifest.csv"), "speaker-disjoint", n_folds=3, batch_size=8, crop_seconds=None
    )
    batch = next(iter(data.train_dataloader()))
    assert set(batch.text) == {"Kitu!", "Sapo!"}
    mel, frames = system.features(batch)
    optimizer = torch.optim.Adam(system.parameters(), 3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        logits, lengths = system(mel, frames)
        spelling_loss(logits, lengths, system._spelt(batch)).backward()
        optimizer.step()
    with torch.no_grad():
        assert system.encoder.spell(*system(mel, frames)) == [text.strip("!").lower() for text in batch.text]


def test_padding_changes_no_feature():
    torch.manual_seed(0)
    encoder = ContentEncoder(width=32, hidden=48, depth=3).eval()
    mel, lengths = torch.rand(2, 80, 91), torch.tensor([91, 40])
    mel[1, :, 40:] = 0
    together, frames = encoder(mel, lengths)
    assert together.shape == (2, 32, 46) and frames.tolist() == [46, 40 // STRIDE]
    alone, _ = encoder(mel[1:, :, :40], lengths[1:])
    torch.testing.assert_close(together[1:, :, : 40 // STRIDE], alone, atol=1e-5, rtol=1e-5)
    assert not together[1, :, 40 // STRIDE :].any()


def test_repetitions_and_blanks_are_left_out_of_a_spelling():
    encoder = ContentEncoder("abc")
    classes = torch.tensor([[3, 0, 0, 3, 0, 1, 1, 2], [2, 3, 3, 3, 1, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(classes, 4).float()
    assert encoder.spell(logits, torch.tensor([8, 4])) == ["aabc", "c"]


def test_neither_level_nor_room_counts():
    torch.manual_seed(0)
    encoder = ContentEncoder(width=32, hidden=48, depth=2).eval()
    mel, lengths = 0.2 + 0.5 * torch.rand(1, 80, 60), torch.tensor([60])
    filtered = mel + 0.1 * torch.rand(1, 80, 1)
    torch.testing.assert_close(encoder(filtered, lengths)[0], encoder(mel, lengths)[0], atol=1e-4, rtol=1e-4)


def test_features_depend_on_as_many_frames_as_it_says(monkeypatch):
    """Beside the statistics of the whole utterance."""
    monkeypatch.setattr(
        "psegan.models.content.masked_statistics", lambda x, _: (torch.zeros(*x.shape[:2]), torch.ones(*x.shape[:2]))
    )
    torch.manual_seed(0)
    encoder = ContentEncoder(width=16, hidden=16, depth=2, kernel_size=5).eval()
    mel = torch.rand(1, 80, 201, requires_grad=True)
    features, _ = encoder(mel, torch.tensor([201]))
    features[0, 0, 50].backward()
    (touched,) = (mel.grad[0].abs().sum(0) > 0).nonzero().T
    reach = STRIDE * 2 * (5 // 2) + 2  # and of the first convolution
    assert touched.min() == 100 - reach and touched.max() == 100 + reach


@pytest.mark.parametrize(
    ("text", "message"),
    [("", r"its text isn't known"), ("Zażółć", r"its text has 'ó', 'ć', 'ł', 'ż'; add that to .*alphabet")],
)
@pytest.mark.parametrize("subset", ["train", "validation"])
def test_what_cannot_be_learnt_from(fit, corpus, text, message, subset, monkeypatch):
    """One text of all, which is refused before anything is trained, whichever batch would have it."""
    data = ManifestDataModule(str(corpus / "manifest.csv"), "speaker-disjoint", n_folds=3, crop_seconds=None)
    wrong = data.subsets()[subset][-1].path.name
    lines = (corpus / "manifest.csv").read_text().splitlines()
    header, *rows = lines
    place = header.split(",").index("text")
    cells = [row.split(",") for row in rows]
    (row,) = [row for row in cells if wrong in row]
    row[place] = text
    broken = corpus / "broken.csv"
    broken.write_text("\n".join([header, *map(",".join, cells)]))
    monkeypatch.setattr(CharacterRecogniser, "training_step", None)
    monkeypatch.setattr(CharacterRecogniser, "validation_step", None)
    with pytest.raises(PseganError, match=f"^{Path(wrong).stem}: {message}"):
        fit("--trainer.max_epochs=1", manifest=broken)


@pytest.mark.parametrize(("text", "spelt"), [("Well, – yes!", "well yes"), ("– It’s  fine.", "it's fine")])
def test_texts_are_spelt_without_punctuation(text, spelt):
    system = CharacterRecogniser({}, partial(ContentEncoder, width=8, hidden=8, depth=1))
    assert system._plain(text, "a") == spelt


def test_crops_are_refused(fit):
    with pytest.raises(PseganError, match="crop_seconds is 3, but a text goes with a whole utterance"):
        fit("--trainer.max_epochs=1", "--data.init_args.crop_seconds=3")


def test_a_text_that_is_longer_than_the_speech_costs_nothing():
    system = CharacterRecogniser({"emotion": 1, "speaker": 1, "gender": 1, "content": 1})
    encoder = system.encoder
    logits = torch.randn(1, 3, len(encoder.alphabet) + 1, requires_grad=True)
    batch = type("Batch", (), {"text": ("far too long for this",), "id": ("a",)})()
    loss = spelling_loss(logits, torch.tensor([3]), system._spelt(batch))
    loss.backward()
    assert float(loss) == 0 and torch.isfinite(logits.grad).all()


def test_the_share_of_utterances_that_have_no_loss_is_known():
    """By the loss itself: one frame fewer than a text takes, equal characters in a row a blank more."""
    system = CharacterRecogniser({"emotion": 1, "speaker": 1, "gender": 1, "content": 1})
    spelt = [[3, 4, 5], [3, 3, 4], [3, 3, 3], []]
    needed = torch.tensor([3, 4, 5, 0])
    for fewer, share in ((0, 0.0), (1, 0.75)):
        lengths = (needed - fewer).clamp(min=0)
        assert float(unalignable(lengths, spelt)) == share
        logits = torch.randn(4, 5, len(system.encoder.alphabet) + 1, generator=seeded("logits"))
        losses = [float(spelling_loss(logits[i : i + 1], lengths[i : i + 1], spelt[i : i + 1])) for i in range(3)]
        assert [loss == 0 for loss in losses] == [bool(fewer)] * 3
