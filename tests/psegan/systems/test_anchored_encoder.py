"""The training of Anchored's encoder: its losses say what they should, it repeats exactly, and what it trained comes back."""

import csv
import sys

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.models.analysis import Analysis
from psegan.models.anchored import CodeEncoder
from psegan.models.content import FeatureEncoder
from psegan.systems import AnchoredEncoder
from psegan.systems.alignment import alignment
from psegan.systems.anchored_encoder import Codes, nearest_distance
from psegan.training import command as training
from psegan.weights import load_parts

MOONSHINE = "psegan.evaluation.recognisers.Moonshine"
ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def small(data, **kwargs):
    torch.manual_seed(0)
    return AnchoredEncoder(
        data.n_classes, data.emotions, lambda: CodeEncoder(width=16, hidden=32, depth=1, dropout=0.0), {"acted": ALPHABET},
        content_matcher=lambda: FeatureEncoder(8, width=16, hidden=32, depth=1), **kwargs,
    )  # fmt: skip


def batches(data, parallel: bool):
    """Batches in which another recording goes in somewhere, or nowhere."""
    data.parallel = float(parallel)
    found = [batch for batch in data.train_dataloader() if bool((batch.source != batch.target).any()) == parallel]
    assert found
    return found


def test_losses(voice_data):
    system = small(voice_data).eval()
    for parallel in (False, True):
        losses = system.losses(batches(voice_data, parallel)[0])
        assert all(torch.isfinite(value) for value in losses.values())
        assert (losses["consistency"] > 0) == parallel and losses["spelling"] > 0 and losses["emotion"] > 0


def test_adversaries_pull_codes_away_from_what_they_read(voice_data):
    """With gradients turned round, the encoder's step raises the loss that the reader's lowers; validation leaves them out."""
    batch = batches(voice_data, False)[0]
    for name in ("emotion", "pitch"):
        turned, straight = (
            small(voice_data, ramp_steps=0, **{f"{name}_weight": weight}).eval()
            for weight in (0.5, -0.5)  # twice is not at all
        )
        gradients = []
        for system in (turned, straight):
            system.batches_seen = 1
            loss = system.losses(batch)[name]
            gradients.append(torch.autograd.grad(loss, system.encoder.project.weight)[0])
        assert torch.allclose(gradients[0], -gradients[1], atol=1e-6) and gradients[0].abs().max() > 0
        losses = turned.losses(batch)
        assert torch.autograd.grad(losses["loss"], turned.emotion_reader.output.weight, allow_unused=True)[0] is None


def test_what_is_read_in_codes_is_of_the_calm_speech(voice_data):
    """Telling moves the codes of what went in, and so does consistency, which leaves those of the calm speech."""
    system, batch = small(voice_data).eval(), batches(voice_data, True)[0]
    rows, seen, encoded = (batch.source != batch.target).nonzero().squeeze(1), [], system._encoded

    def watched(speech, random):
        seen.append(encoded(speech, random))
        return seen[-1]

    system._encoded = watched
    losses = system.losses(batch)
    own, others = (one.bounded for one in seen)
    assert len(others) == len(rows)

    def moved(name: str, codes: torch.Tensor) -> bool:
        (gradient,) = torch.autograd.grad(losses[name], [codes], allow_unused=True, retain_graph=True)
        return gradient is not None and bool(gradient.abs().max() > 0)

    assert moved("telling", others) and moved("consistency", others) and not moved("consistency", own)


def test_each_recording_is_analysed_once(voice_data, monkeypatch):
    system, batch = small(voice_data).eval(), batches(voice_data, True)[0]
    once = system.losses(batch)
    monkeypatch.setattr(system.analysis, "forward", None)
    again = system.losses(batch)
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    heard, alone = system.heard(batch.speech), Analysis()(batch.speech.waveform[:1], batch.speech.length[:1])
    n = int(alone.frames)
    assert torch.allclose(heard.mel[0, :, :n], alone.mel[0, :, :n], atol=1e-3) and not heard.mel[0, :, n:].any()


def test_it_begins_with_what_others_have_learnt(voice_data, matcher):
    system = small(voice_data, encoder_checkpoint=matcher)
    system.setup("fit")
    ours, theirs = system.encoder.state_dict(), load_parts(matcher)[0]["encoder"].state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items() if not name.startswith("head."))
    assert system.learnt_from == (MOONSHINE,)
    with pytest.raises(PseganError, match="content-matcher has other features than model.init_args.encoder"):
        small(voice_data, encoder_checkpoint="content-matcher").setup("fit")
    with pytest.raises(PseganError, match="speaker-matcher-ravdess is neither of Anchored nor a content matcher"):
        small(voice_data, encoder_checkpoint="speaker-matcher-ravdess").setup("fit")
    with pytest.raises(
        PseganError, match="content-matcher does not recognise content; give a checkpoint of the content"
    ):
        small(voice_data, content_matcher_checkpoint="content-matcher").setup("fit")
    with pytest.raises(
        PseganError, match="needs a content matcher that a recogniser taught: train experiments/content_"
    ):
        small(voice_data).check_ready()


def test_codes_of_other_recordings_take_their_rows():
    own = Codes(torch.ones(3, 2, 5), torch.ones(3, 2, 5), torch.tensor([5, 3, 4]))
    others = Codes(torch.full((1, 2, 7), 2.0), torch.full((1, 2, 7), 2.0), torch.tensor([7]))
    both = own.replaced(torch.tensor([1]), others)
    assert both.lengths.tolist() == [5, 7, 4] and both.codes.shape == (3, 2, 7)
    assert both.codes[1].eq(2).all() and both.codes[0, :, :5].eq(1).all() and not both.codes[0, :, 5:].any()
    short = others.at(torch.tensor([[0, 2, 2]]), torch.tensor([2]))
    assert short.codes.tolist() == [[[2.0, 2.0, 0.0]] * 2]
    none = torch.zeros(0, dtype=torch.long)
    assert torch.equal(own.replaced(none, others.take(none)).codes, own.codes)


def test_telling_corpora_apart_is_no_answer_of_the_adversary():
    system = AnchoredEncoder({"emotion": 4}, ["a/neutral", "a/angry", "b/neutral", "b/angry"])
    assert system.other_corpus.tolist() == [[False, False, True, True]] * 2 + [[True, True, False, False]] * 2


def test_nearest_distances():
    wanted = torch.randn(1, 3, 9, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7])
    assert nearest_distance(wanted, wanted, lengths)[0, :7].max() < 1e-2
    for moved in (wanted.roll(1, 2), wanted.roll(-1, 2)):
        assert nearest_distance(moved, wanted, lengths)[0, 1:6].max() < 1e-2
    # the ends have two neighbours, and padding is none
    padded = wanted.clone()
    padded[..., 7:] = 0
    off = nearest_distance(torch.zeros_like(wanted), padded, lengths)[0]
    assert (
        off[6] > 0.5 * padded[0, :, 5:7].square().mean(0).min()
        and off[0] > 0.5 * wanted[0, :, :2].square().mean(0).min()
    )


def test_alignment_follows_a_recording_that_is_slower():
    random = torch.Generator().manual_seed(0)
    fast = torch.rand(80, 60, generator=random)
    slow = fast.repeat_interleave(2, 1)
    path = alignment(fast, slow)
    assert len(path) == 120 and (path - torch.arange(120) / 2).abs().max() <= 1.5


def test_alignment_without_librosa_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(
        PseganError, match=r"needs librosa; pip install 'psegan\[judges\]', or set data.init_args.parallel to 0"
    ):
        alignment(torch.rand(80, 9), torch.rand(80, 9))


def test_it_trains_and_trains_the_same_again(from_repository, on_voices, matcher, tmp_path):
    def fit(name: str) -> None:
        training.main([
            "fit", "--config", "experiments/anchored_encoder.yaml", *on_voices, f"--run.dir={tmp_path / name}",
            f"--model.init_args.encoder_checkpoint={matcher}", f"--model.init_args.alphabets={{acted: '{ALPHABET}'}}",
        ])  # fmt: skip

    for name in ("once", "again"):
        fit(name)
    parts, about = load_parts(tmp_path / "once" / "checkpoints" / "last.ckpt")
    again, _ = load_parts(tmp_path / "again" / "checkpoints" / "last.ckpt")
    assert parts.keys() == {"encoder"} and about["system"] == "AnchoredEncoder"
    assert about["learnt_from"] == [MOONSHINE]  # through the content matcher, which is no part of it
    for key, value in parts["encoder"].state_dict().items():
        assert torch.equal(value, again["encoder"].state_dict()[key]), key
    with (tmp_path / "once" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["train/loss"]]) == 6 and [row for row in rows if row["val/telling"]]
