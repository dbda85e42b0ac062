"""The training of Anchored's decoder: its losses say what they should, it repeats exactly, and what it trained comes back."""

import csv

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.models.anchored import CodeEncoder, ProfileDecoder
from psegan.models.content import FeatureEncoder
from psegan.systems import Anchored
from psegan.training import command as training
from psegan.weights import PretrainedModel, load_parts

MOONSHINE = "psegan.evaluation.recognisers.Moonshine"
DECODER = [f"--model.init_args.decoder.init_args.{size}" for size in ("width=16", "hidden=32", "heads=2", "depth=1")]


def small(data, **kwargs):
    torch.manual_seed(0)
    return Anchored(
        data.n_classes, lambda: CodeEncoder(width=16, hidden=32, depth=1, dropout=0.0),
        lambda: ProfileDecoder(width=16, hidden=32, heads=2, depth=1),
        content_matcher=lambda: FeatureEncoder(8, width=16, hidden=32, depth=1), **kwargs,
    )  # fmt: skip


@pytest.fixture
def batch(voice_data):
    return next(iter(voice_data.train_dataloader()))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An encoder of :func:`small`'s shape, as weights that ship."""
    folder = tmp_path_factory.mktemp("encoder") / "codes"
    torch.manual_seed(2)
    made = CodeEncoder(width=16, hidden=32, depth=1)
    PretrainedModel.assemble({"encoder": made}, {"learnt_from": [MOONSHINE]}).save_pretrained(folder)
    return str(folder)


def test_losses(voice_data, batch):
    losses = small(voice_data).eval().losses(batch)
    assert losses.keys() == {"reconstruction", "delta", "intonation", "content", "loss"}
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())


def test_the_encoder_learns_nothing(voice_data, batch):
    """So what is let through stays what it was, however the decoder would like it."""
    system = small(voice_data).train()
    assert not system.encoder.training and not system.content_matcher.training and system.decoder.training
    frozen = [p for part in (system.encoder, system.content_matcher) for p in part.parameters()]
    assert not any(p.requires_grad for p in frozen)


def test_codes_are_moved_by_a_level_in_training(voice_data):
    system = small(voice_data, code_noise=0.3)
    codes = torch.zeros(2, 12, 500)
    moved = system._moved(codes, torch.Generator().manual_seed(0))
    assert moved.unique().tolist() == [-0.5, 0.0, 0.5] and moved.ne(0).float().mean().item() == pytest.approx(
        0.3, abs=0.02
    )
    assert system._moved(torch.ones(1, 12, 500), torch.Generator().manual_seed(0)).max() == 1


def test_the_discriminator_learns_and_what_is_made_is_to_pass(voice_data, batch):
    """Each network's gradient is of its own losses alone."""
    system, random = small(voice_data), torch.Generator().manual_seed(0)
    heard = system.heard(batch.speech).take(batch.target)
    made = (heard.relative + 0.1 * torch.randn(heard.relative.shape, generator=random)).requires_grad_()
    judged = system._judged(made, heard, random)
    own = system.discriminator.layers[0].parametrizations.weight.original1
    for name, learns in {"discriminator": own, "adversarial": made, "features": made}.items():
        other = made if learns is own else own
        of_own, of_other = torch.autograd.grad(judged[name], [learns, other], allow_unused=True, retain_graph=True)
        assert of_own.abs().max() > 0 and of_other is None


def test_a_profile_has_the_codes_of_its_recordings(voice_data, batch):
    """Each as if it went in by itself, whatever else is enrolled."""
    system = small(voice_data).eval()
    heard = system.heard(batch.speech)
    profile = system.enrol(heard, batch)
    for speaker in range(2):
        rows = (batch.enrolled == speaker).nonzero().squeeze(1)
        start = 0
        for row in rows.tolist():
            own = heard.take(torch.tensor([row]))
            codes = system._codes(batch, torch.tensor([row]))
            n = int(own.frames) // 2
            frames = own.relative[0, :, : 2 * n].unflatten(1, (n, 2)).transpose(1, 2).flatten(0, 1)
            assert torch.allclose(profile.frames[speaker, :, start : start + n], frames)
            if len(rows) == 1:
                said = system.decoder.embed(codes[..., :n], torch.tensor([n]))[0]
                assert torch.allclose(profile.keys[speaker, :, :n], said, atol=1e-5)
            start += n
        assert int(profile.mask[speaker].sum()) == start


def test_the_intonations_loss_stays_in_its_predictor(voice_data, batch):
    system = small(voice_data).eval()
    loss = system.losses(batch)["intonation"]
    assert torch.autograd.grad(loss, system.decoder.query.weight, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(loss, system.decoder.intonation.output.weight)[0].abs().max() > 0


def test_it_begins_with_what_others_have_learnt(voice_data, matcher, encoder):
    system = small(voice_data, encoder_checkpoint=encoder, content_matcher_checkpoint=matcher)
    system.setup("fit")
    theirs = load_parts(encoder)[0]["encoder"].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in system.encoder.state_dict().items())
    assert system.learnt_from == (MOONSHINE,)
    system.check_ready()
    with pytest.raises(
        PseganError, match="makes no codes; give an encoder_checkpoint of experiments/anchored_encoder.yaml"
    ):
        small(voice_data, encoder_checkpoint=matcher).setup("fit")
    with pytest.raises(
        PseganError, match="needs a content matcher that a recogniser taught: train experiments/content_"
    ):
        small(voice_data).check_ready()
    with pytest.raises(PseganError, match=r"Anchored needs a trained encoder: train experiments/anchored_encoder.yaml"):
        small(voice_data, content_matcher_checkpoint=matcher).check_ready()


def test_it_trains_and_trains_the_same_again(from_repository, on_voices, encoder, tmp_path):
    def fit(name: str, start: str) -> None:
        training.main([
            "fit", "--config", "experiments/anchored.yaml", *on_voices, *DECODER, f"--run.dir={tmp_path / name}",
            f"--model.init_args.encoder_checkpoint={start}", "--model.init_args.adversarial_after=3",
        ])  # fmt: skip

    for name in ("once", "again"):
        fit(name, encoder)
    last = tmp_path / "once" / "checkpoints" / "last.ckpt"
    parts, about = load_parts(last)
    again, _ = load_parts(tmp_path / "again" / "checkpoints" / "last.ckpt")
    assert parts.keys() == {"encoder", "decoder"} and about["system"] == "Anchored"
    assert about["learnt_from"] == [MOONSHINE]
    for name, module in parts.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again[name].state_dict()[key]), f"{name}.{key}"
    unchanged = load_parts(encoder)[0]["encoder"].state_dict()
    assert all(torch.equal(value, unchanged[key]) for key, value in parts["encoder"].state_dict().items())
    with (tmp_path / "once" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [bool(row["train/discriminator"]) for row in rows] == [False] * 3 + [
        True
    ] * 3  # it begins when it is told to
    fit("on", str(last))  # from a decoder that has learnt something
    assert load_parts(tmp_path / "on" / "checkpoints" / "last.ckpt")[1]["learnt_from"] == [MOONSHINE]


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(
        PseganError, match="codes have 12 values, but the decoder takes 4; give encoder and decoder the same"
    ):
        Anchored({"emotion": 2}, decoder=lambda: ProfileDecoder(dims=4))
