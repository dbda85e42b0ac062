"""Anchored's training: its losses say what they should, it repeats exactly, and what it trained comes back."""

import csv
import sys

import pytest
import soundfile
import torch

from datamodules import EnrolmentDataModule, SyntheticDataModule, write_manifest
from psegan.common.errors import PseganError
from psegan.models.analysis import Analysis
from psegan.models.anchored import CodeEncoder, ProfileDecoder
from psegan.models.content import FeatureEncoder
from psegan.systems import Anchored
from psegan.systems.anchored import Codes, alignment, nearest_distance
from psegan.training import command as training
from psegan.weights import PretrainedModel, load_parts

MOONSHINE = "psegan.evaluation.recognisers.Moonshine"
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
SMALL = [f"--model.init_args.encoder.init_args.{setting}" for setting in ("width=16", "hidden=32", "depth=1")] + [
    f"--model.init_args.decoder.init_args.{setting}" for setting in ("width=16", "hidden=32", "heads=2", "depth=1")
]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    """A content matcher of :func:`small`'s encoder's shape, which Moonshine has taught, as weights that ship."""
    folder = tmp_path_factory.mktemp("matcher") / "taught"
    about = {"attribute": "content", "learnt_from": [MOONSHINE]}
    torch.manual_seed(1)
    encoder = FeatureEncoder(8, width=16, hidden=32, depth=1)
    PretrainedModel.assemble({"encoder": encoder}, about).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus ``acted`` of synthetic speech in two emotions, with its texts."""
    root = tmp_path_factory.mktemp("voices")
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=3)
    load, rows = data.loader(), []
    (root / "acted").mkdir()
    for u in data.utterances():
        if data.emotions[u.emotion] not in ("neutral", "angry"):
            continue
        path = root / "acted" / f"{u.id.replace('/', '-')}.wav"
        soundfile.write(path, load(u).numpy(), 16_000)
        rows.append({
            "path": path.name, "speaker": data.speakers[u.speaker], "emotion": data.emotions[u.emotion],
            "content": data.contents[u.content], "text": data.contents[u.content],
            "split": ("train", "validation", "test")[int(u.id[-1]) % 3],
        })  # fmt: skip
    write_manifest(root / "acted" / "manifest.csv", rows)
    return str(root)


def corpus(root):
    return EnrolmentDataModule(
        root, ["acted"], calm=["acted/neutral"], split_of={"acted": "manifest"}, speakers_in_batch=2, targets=1,
        profile_seconds=2.0, batches=3, validation_batches=1,
    )  # fmt: skip


def small(data, **kwargs):
    torch.manual_seed(0)
    return Anchored(
        data.n_classes, data.emotions, lambda: CodeEncoder(width=16, hidden=32, depth=1),
        lambda: ProfileDecoder(width=16, hidden=32, heads=2, depth=1), {"acted": ALPHABET},
        content_matcher=lambda: FeatureEncoder(8, width=16, hidden=16, depth=1), **kwargs,
    )  # fmt: skip


def batches(data, parallel: bool):
    """Batches in which another recording goes in somewhere, or nowhere."""
    data.parallel = float(parallel)
    found = [batch for batch in data.train_dataloader() if bool((batch.source != batch.target).any()) == parallel]
    assert found
    return found


def test_losses(root):
    data = corpus(root)
    system = small(data).eval()
    for parallel in (False, True):
        losses = system._losses(batches(data, parallel)[0], None)
        assert all(torch.isfinite(value) for value in losses.values())
        assert (losses["consistency"] > 0) == parallel and losses["spelling"] > 0 and losses["emotion"] > 0


def test_adversaries_pull_codes_away_from_what_they_read(root):
    """With gradients turned round, the encoder's step raises the loss that the reader's lowers; validation leaves them out."""
    data = corpus(root)
    batch = batches(data, False)[0]
    for name in ("emotion", "pitch"):
        turned, straight = (
            small(data, ramp_steps=0, **{f"{name}_weight": weight}).eval()
            for weight in (0.5, -0.5)  # twice is not at all
        )
        gradients = []
        for system in (turned, straight):
            system.batches_seen = 1
            loss = system._losses(batch, None)[name]
            gradients.append(torch.autograd.grad(loss, system.encoder.project.weight)[0])
        assert torch.allclose(gradients[0], -gradients[1], atol=1e-6) and gradients[0].abs().max() > 0
        losses = turned._losses(batch, None)
        assert torch.autograd.grad(losses["loss"], turned.emotion_reader.output.weight, allow_unused=True)[0] is None


def test_the_discriminator_learns_and_what_is_made_is_to_pass(root):
    """Each network's gradient is of its own losses alone, and neither begins before its time."""
    data = corpus(root)
    batch, random = batches(data, False)[0], torch.Generator()
    early, late = small(data, adversarial_after=5), small(data, adversarial_after=5)
    late.batches_seen = 5
    assert "discriminator" not in early._losses(batch, random.manual_seed(0))
    assert "discriminator" not in late._losses(batch, None)  # nor does it judge a validation
    losses = late._losses(batch, random.manual_seed(0))
    own, made = late.discriminator.layers[0].parametrizations.weight.original1, late.decoder.output.weight
    assert own.requires_grad
    for name, learns in {"discriminator": own, "adversarial": made, "features": made}.items():
        other = made if learns is own else own
        of_own, of_other = torch.autograd.grad(losses[name], [learns, other], allow_unused=True, retain_graph=True)
        assert of_own.abs().max() > 0 and of_other is None


def test_each_recording_is_analysed_once(root, monkeypatch):
    data = corpus(root)
    system, batch = small(data).eval(), batches(data, True)[0]
    once = system._losses(batch, None)
    monkeypatch.setattr(system.analysis, "forward", None)
    again = system._losses(batch, None)
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    heard, alone = system._heard(batch.speech), Analysis()(batch.speech.waveform[:1], batch.speech.length[:1])
    n = int(alone.frames)
    assert torch.allclose(heard.mel[0, :, :n], alone.mel[0, :, :n], atol=1e-3) and not heard.mel[0, :, n:].any()


def test_it_begins_with_what_others_have_learnt(root, matcher):
    data = corpus(root)
    system = small(data, encoder_checkpoint=matcher)
    system.setup("fit")
    ours, theirs = system.encoder.state_dict(), load_parts(matcher)[0]["encoder"].state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items() if not name.startswith("head."))
    assert system.learnt_from == (MOONSHINE,)
    with pytest.raises(PseganError, match="content-matcher has other features than model.init_args.encoder"):
        small(data, encoder_checkpoint="content-matcher").setup("fit")
    with pytest.raises(PseganError, match="speaker-matcher-ravdess is neither of Anchored nor a content matcher"):
        small(data, encoder_checkpoint="speaker-matcher-ravdess").setup("fit")
    with pytest.raises(
        PseganError, match="content-matcher does not recognise content; give a checkpoint of the content"
    ):
        small(data, content_matcher_checkpoint="content-matcher").setup("fit")
    with pytest.raises(
        PseganError, match="needs a content matcher that a recogniser taught: train experiments/content_"
    ):
        small(data).check_ready()


def test_what_is_read_in_codes_is_of_the_calm_speech(root):
    """Telling moves the codes of what went in, consistency those alone, and the decoder hears the calm speech's."""
    data = corpus(root)
    system, batch = small(data, aligned_share=0.0).eval(), batches(data, True)[0]
    rows = (batch.source != batch.target).nonzero().squeeze(1)
    seen = {}
    system._encoded, encoded = (
        lambda speech, random: seen.setdefault(len(seen), encoded(speech, random)),
        system._encoded,
    )
    losses = system._losses(batch, torch.Generator().manual_seed(0))
    own, others = seen[0].bounded, seen[1].bounded
    assert len(others) == len(rows)

    def moved(name: str, codes: torch.Tensor) -> bool:
        (gradient,) = torch.autograd.grad(losses[name], [codes], allow_unused=True, retain_graph=True)
        return gradient is not None and bool(gradient.abs().max() > 0)

    assert moved("telling", others) and moved("reconstruction", own) and not moved("reconstruction", others)
    assert moved("consistency", others) and not moved("consistency", own)


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
    system = Anchored({"emotion": 4}, ["a/neutral", "a/angry", "b/neutral", "b/angry"])
    assert system.other_corpus.tolist() == [[False, False, True, True]] * 2 + [[True, True, False, False]] * 2


def test_a_profile_has_the_codes_of_its_recordings(root):
    """Each as if it went in by itself, whatever else is enrolled."""
    data = corpus(root)
    system, batch = small(data).eval(), batches(data, False)[0]
    heard = system._heard(batch.speech)
    profile, _ = system.enrol(heard, batch)
    for speaker in range(2):
        rows = (batch.enrolled == speaker).nonzero().squeeze(1)
        start = 0
        for row in rows.tolist():
            own = heard.take(torch.tensor([row]))
            codes, _ = system.encoder(own.mel, own.frames)
            n = int(own.frames) // 2
            frames = own.relative[0, :, : 2 * n].unflatten(1, (n, 2)).transpose(1, 2).flatten(0, 1)
            assert torch.allclose(profile.frames[speaker, :, start : start + n], frames)
            if len(rows) == 1:
                said = system.decoder.embed(codes[..., :n], torch.tensor([n]))[0]
                assert torch.allclose(profile.keys[speaker, :, :n], said, atol=1e-5)
            start += n
        assert int(profile.mask[speaker].sum()) == start


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


def test_the_intonations_loss_stays_out_of_the_codes(root):
    data = corpus(root)
    system = small(data).eval()
    loss = system._losses(batches(data, False)[0], None)["intonation"]
    assert torch.autograd.grad(loss, system.encoder.project.weight, allow_unused=True)[0] is None


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


def test_it_trains_and_trains_the_same_again(from_repository, root, matcher, tmp_path):
    def fit(name: str) -> None:
        training.main([
            "fit", "--config", "experiments/anchored.yaml", "--config", "experiments/corpora/calm_voices.yaml",
            f"--data.init_args.root={root}", "--data.init_args.corpora=[acted]", "--data.init_args.calm=[acted/neutral]",
            "--data.init_args.split_of={acted: manifest}", "--data.init_args.split=paper",
            "--data.init_args.speakers=all", "--data.init_args.speakers_of={}",
            "--data.init_args.weights={}", "--data.init_args.batches=3",
            "--data.init_args.speakers_in_batch=2", "--data.init_args.targets=1", "--data.init_args.profile_seconds=2",
            "--data.init_args.validation_batches=1", f"--model.init_args.alphabets={{acted: '{ALPHABET}'}}", *SMALL,
            f"--model.init_args.encoder_checkpoint={matcher}", f"--model.init_args.content_matcher_checkpoint={matcher}",
            "--model.init_args.content_matcher.init_args.outputs=8", "--model.init_args.adversarial_after=3",
            "--model.init_args.content_matcher.init_args.width=16", "--model.init_args.content_matcher.init_args.hidden=32",
            "--model.init_args.content_matcher.init_args.depth=1",
            "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--run.loggers=[csv]",
            "--trainer.enable_progress_bar=false", f"--run.dir={tmp_path / name}",
        ])  # fmt: skip

    for name in ("once", "again"):
        fit(name)
    parts, about = load_parts(tmp_path / "once" / "checkpoints" / "last.ckpt")
    again, _ = load_parts(tmp_path / "again" / "checkpoints" / "last.ckpt")
    assert parts.keys() == {"encoder", "decoder"} and about["system"] == "Anchored"
    assert about["learnt_from"] == [MOONSHINE]  # through the content matcher, which is no part of it
    for name, module in parts.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again[name].state_dict()[key]), f"{name}.{key}"
    with (tmp_path / "once" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["train/loss"]]) == 6 and [row for row in rows if row["val/reconstruction"]]


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(
        PseganError, match="codes have 12 values, but the decoder takes 4; give encoder and decoder the same"
    ):
        Anchored({"emotion": 2}, decoder=lambda: ProfileDecoder(dims=4))
