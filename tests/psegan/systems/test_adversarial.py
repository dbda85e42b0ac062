"""The manual GAN step: who moves whom, in every precision, and what is drawn."""

import copy
import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from datamodules import Utterance
from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import distortion, speaker_consistency
from psegan.models.content import ContentEncoder
from psegan.models.level import DECIBEL
from psegan.models.psegan import PSEGANGenerator
from psegan.protection.export import exported
from psegan.protection.protector import Protector
from psegan.speech.audio import UnitScaler
from psegan.speech.batch import SpeechBatch
from psegan.speech.masking import mask_like
from psegan.systems import PSEGAN, CharacterRecogniser, PCMelGAN
from psegan.systems.adversarial import ConvertedBatch
from psegan.systems.classifier import load_classifier
from psegan.training import command as training
from psegan.weights import load_part, load_system
from tests.conftest import SHORT_CROPS

REPOSITORY = Path(__file__).resolve().parents[3]


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.named_parameters()}


def unmoved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.named_parameters())


@pytest.fixture
def fitted(psegan_arguments, from_repository):
    return lambda *options: training.main([*psegan_arguments, *options])


def one_batch(cli) -> SpeechBatch:
    return next(iter(cli.datamodule.train_dataloader()))


def test_each_phase_moves_only_its_own_weights(fitted):
    """Each phase alone, from the same state, by the step that training takes."""
    cli = fitted()
    system, batch = cli.model, one_batch(cli)
    system.log_dict = lambda *a, **k: None  # outside a training loop there is nothing to log to
    system.log = lambda *a, **k: None
    networks = {"generator": system.generator, "discriminator": system.discriminator}
    for phase in system.phases():
        before = {name: weights(network) for name, network in networks.items()}
        matcher = copy.deepcopy(system.speaker_matcher.state_dict())
        system.active_phases = lambda name=phase.name: (name,)
        system.training_step(batch, 0)
        for name, network in networks.items():
            assert unmoved(network, before[name]) == (name not in phase.networks), (phase.name, name)
        for name, value in system.speaker_matcher.state_dict().items():
            assert torch.equal(value, matcher[name]), f"the frozen speaker matcher's {name} moved in {phase.name}"
    assert all(p.requires_grad for network in networks.values() for p in network.parameters()), "left toggled"
    assert not any(p.requires_grad for p in system.speaker_matcher.parameters())


def test_several_speaker_matchers_count_alike(fitted, trained):
    """The loss is the mean of what each alone would find; all of them are frozen and stay as they were."""
    matcher = trained("speaker_matcher")
    two = json.dumps([matcher, trained("speaker")])
    system = fitted(f"--model.init_args.speaker_matcher_checkpoint={two}").model
    real, fake = torch.rand(2, 3, 80, 40, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 30, 20])
    each = [
        float(speaker_consistency(encoder(fake, lengths).relu(), encoder(real, lengths).relu()))
        for encoder in (load_classifier(path, "speaker").encoder for path in (matcher, trained("speaker")))
    ]
    ensemble = system.speaker_matcher.eval()
    found = float(speaker_consistency(ensemble(fake, lengths), ensemble(real, lengths)))
    assert found == pytest.approx(sum(each) / 2, rel=1e-4)
    assert each[0] != pytest.approx(each[1])
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())


def test_the_wanted_speaker_is_the_mean_over_all_emotions_alike(fitted, trained):
    """Also where a speaker has more utterances of one emotion than of another."""
    cli = fitted()
    system, data = cli.model, cli.datamodule
    encoder = load_classifier(trained("speaker_matcher"), "speaker").encoder

    def expected(utterances: list[Utterance], speaker: int, by: Callable[[Utterance], object]) -> torch.Tensor:
        """The mean of the means over what ``by`` finds equal."""
        embeddings: dict[object, list[torch.Tensor]] = {}
        for utterance in utterances:
            if utterance.speaker == speaker:
                waveform = data.loader()(utterance)[None]
                mel, frames = system.front_end(waveform, torch.tensor([waveform.shape[1]]))
                with torch.no_grad():
                    found = torch.nn.functional.normalize(encoder(mel, frames)[0].relu(), dim=0)
                embeddings.setdefault(by(utterance), []).append(found)
        means = [torch.stack(each).mean(0) for each in embeddings.values()]
        return torch.nn.functional.normalize(torch.stack(means).sum(0), dim=0)

    whole = data.split_utterances("train")
    first = {(utterance.speaker, utterance.emotion): utterance for utterance in reversed(whole)}
    # of every other emotion one utterance, of the others all
    uneven = [u for u in whole if u.emotion % 2 or u is first[u.speaker, u.emotion]]
    assert len(uneven) < len(whole)
    for utterances in (whole, uneven):
        if utterances is uneven:
            system._find_speakers(data.eval_dataloader(uneven))
        for speaker, found in enumerate(system.speaker_means):
            alike = expected(utterances, speaker, lambda utterance: utterance.emotion)
            torch.testing.assert_close(found, alike, atol=1e-5, rtol=1e-3)
    plain = torch.stack([expected(uneven, speaker, lambda utterance: utterance.id) for speaker in range(4)])
    assert (system.speaker_means - plain).abs().max() > 1e-3, "emotions that a mean of all utterances would count alike"
    assert "speaker_means" not in system.state_dict(), "a training that goes on elsewhere has other speakers"
    # another utterance of the speaker is wanted as much
    batch = system.prepare(one_batch(cli), seeded(0))
    other = replace(batch, real=batch.real.flip(2))
    torch.testing.assert_close(system.generator_loss(batch)["speaker"], system.generator_loss(other)["speaker"])


def test_the_articles_speaker_term_wants_the_utterance_itself(fitted):
    cli = fitted("--config", "experiments/ablations/speaker_of_utterance.yaml")
    system = cli.model
    assert system.speaker_means is None
    batch = system.prepare(one_batch(cli), seeded(0))
    same = replace(batch, fake=batch.real)
    system.speaker_matcher.eval()
    assert float(system.generator_loss(same)["speaker"]) == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def content_matcher(tmp_path_factory):
    """A recogniser of characters that has learnt nothing."""
    system = CharacterRecogniser({"emotion": 1, "speaker": 1, "gender": 1, "content": 1}, ContentEncoder)
    path = tmp_path_factory.mktemp("content") / "last.ckpt"
    trainer = L.Trainer(logger=False, barebones=True)
    trainer.strategy.connect(system)
    system.trainer = trainer
    trainer.save_checkpoint(path)
    return str(path)


def test_words_count_by_what_the_frozen_content_matcher_finds(fitted, content_matcher):
    cli = fitted(
        "--model.init_args.content_weight=2", f"--model.init_args.content_matcher_checkpoint={content_matcher}"
    )
    system = cli.model
    matcher = load_part(content_matcher, "encoder")
    for name, value in system.content_matcher.state_dict().items():
        torch.testing.assert_close(value, matcher.state_dict()[name], rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in system.content_matcher.parameters())
    system.content_matcher.eval()
    system.speaker_matcher.eval()
    batch = system.prepare(one_batch(cli), seeded(0))
    batch = replace(batch, fake=batch.real.flip(1))
    losses = system.generator_loss(batch)
    (said, lengths), (heard, _) = (matcher(mel, batch.lengths) for mel in (batch.real, batch.fake))
    each = []
    for a, b, n in zip(said, heard, lengths, strict=True):
        centre = a[:, :n].mean(1, keepdim=True)
        each.append(1 - torch.cosine_similarity(a[:, :n] - centre, b[:, :n] - centre, dim=0))
    torch.testing.assert_close(losses["content"], torch.cat(each).mean(), atol=1e-5, rtol=1e-4)
    terms = {"distortion": 5.0, "adversarial": 1.0, "speaker": 3.0, "content": 2.0}
    torch.testing.assert_close(losses["total"], sum(weight * losses[name] for name, weight in terms.items()))


def test_a_content_weight_without_a_matcher(fitted):
    with pytest.raises(PseganError, match="needs a trained content matcher"):
        fitted("--model.init_args.content_weight=2")


def test_what_is_no_content_matcher(fitted, trained):
    with pytest.raises(PseganError, match="does not recognise characters"):
        fitted(
            "--model.init_args.content_weight=2", f"--model.init_args.content_matcher_checkpoint={trained('emotion')}"
        )


def test_original_speech_has_the_fixed_level_too_before_the_discriminator(fitted):
    cli = fitted("--model.init_args.level=-26")
    system, level = cli.model, cli.model.conversion.levelling
    torch.nn.init.constant_(system.generator.unet.output.bias, 0.1)
    batch = system.prepare(one_batch(cli), seeded(0))
    made = system.conversion.convert(batch.real, batch.lengths, system.draws(batch.real, seeded(0)))
    real, fake, raw = (level.of_frames(mel, batch.lengths).logsumexp(1) for mel in (batch.real, batch.fake, made))
    torch.testing.assert_close(real - batch.lengths.log(), (real - batch.lengths.log()).mean().expand(len(real)))
    assert (raw - real).abs().min() > 1, "the network's own level"
    torch.testing.assert_close(fake, real, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["psegan", "pcmelgan"])
def test_with_a_fixed_level_nothing_goes_by_the_originals(name, fitted):
    """Neither what is trained, nor what is protected, nor what validation compares, nor the wanted speakers."""
    cli = fitted("--model.init_args.level=-26")
    system = cli.model
    if name == "pcmelgan":
        system = PCMelGAN(system.n_classes, level=-26.0)
        system._planned_warmup = 0
    system.eval()
    for network in (system.generator, system.get_submodule("filter" if name == "pcmelgan" else "generator")):
        torch.nn.init.normal_(network.unet.output.weight, std=0.1, generator=seeded("another level"))
    batch = one_batch(cli)
    mel, lengths = system.features(batch)
    system.features = lambda _: (mel, lengths)
    prepared, converted = system.prepare(batch, seeded(0)), system.convert(batch)
    protected, _ = system.protect(mel, lengths, seeded(0))
    torch.testing.assert_close(converted.original, prepared.real, atol=1e-5, rtol=0)
    if name == "psegan":
        assert torch.equal(prepared.fake, protected), "the generator trains on what it meets in use"
        system._find_speakers([batch])
        means = system.speaker_means.clone()
    quieter = (mel - 15 * DECIBEL / (UnitScaler.high - UnitScaler.low)) * mask_like(lengths, mel)
    system.features = lambda _: (quieter, lengths)
    again, converted_again = system.prepare(batch, seeded(0)), system.convert(batch)
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=0)
    close(again.real, prepared.real)
    close(again.fake, prepared.fake)
    close(converted_again.original, converted.original)
    close(converted_again.protected, converted.protected)
    if name == "psegan":
        system._find_speakers([batch])
        close(system.speaker_means, means)


def test_utterances_that_leave_weights_untrained_are_refused(fitted):
    with pytest.raises(
        PseganError, match="of 97 frames or more, but the longest training utterance has 63.*train on 1.6 s or more"
    ):
        fitted("--data.init_args.crop_seconds=1")
    with pytest.raises(PseganError, match="of 1537 frames or more, but the longest training utterance has 117"):
        fitted("--model.init_args.generator.init_args.grn_dilations=[1,2,4,8,16,32]")


def test_the_length_of_training_utterances_goes_with_the_weights(fitted, tmp_path):
    cli = fitted()
    assert cli.model.training_frames == 117
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    protector = Protector.load(path)
    assert protector.about["training_frames"] == 117
    protector.save_pretrained(tmp_path / "weights")
    Protector.from_pretrained(tmp_path / "weights")
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    config["about"]["training_frames"] = 90
    (tmp_path / "weights" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        PseganError, match="weights: cannot be loaded .some weights of the generator act only on recordings"
    ):
        Protector.from_pretrained(tmp_path / "weights")


def test_a_question_whether_speech_suits_changes_nothing(fitted):
    cli = fitted()
    cli.model.training_frames = None
    cli.model.check_speech(cli.datamodule)
    assert cli.model.training_frames is None
    cli.model.on_fit_start()
    assert cli.model.training_frames == 117


def test_without_a_corpus_nobody_knows_what_is_trained(fitted):
    cli = fitted()
    cli.trainer.datamodule = None
    with pytest.raises(PseganError, match="of 97 frames or more, and it is not known.*give Trainer.fit a corpus"):
        cli.model.on_fit_start()


def test_the_configuration_says_how_long_crops_were_where_a_checkpoint_does_not(fitted, tmp_path, capsys):
    """A checkpoint of before training_frames, with its run's config.yaml and without, and what was exported of it."""
    fitted()
    run = tmp_path / "run"
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["psegan"]["training_frames"]
    torch.save(checkpoint, path)
    config = (run / "config.yaml").read_text()

    def load(seconds: str) -> Protector:
        changed, times = re.subn(r"crop_seconds: \S+", f"crop_seconds: {seconds}", config)
        assert times == 1
        (run / "config.yaml").write_text(changed)
        return Protector.load(path)

    capsys.readouterr()
    assert load("3.0").about["training_frames"] == 188
    with pytest.raises(PseganError, match="of 97 frames or more, but the longest training utterance has 63"):
        load("1.0")
    with pytest.raises(PseganError, match="of 97 frames or more, but the longest training utterance has 63"):
        exported(str(path))
    assert not capsys.readouterr().err
    assert "training_frames" not in load("null").about, "whole utterances may be of any length"
    load("null")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"psegan: warning: {path}: nobody says how long") and "more than 1.5 s" in line


def test_a_checkpoint_of_one_matcher_is_still_read(fitted, tmp_path):
    """Before there could be several, its weights had other names."""
    system = fitted().model
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"] = {
        name.replace("speaker_matcher.encoders.0.", "speaker_matcher."): value
        for name, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, path)
    read = load_system(path).speaker_matcher.state_dict()
    assert all(torch.equal(value, read[name]) for name, value in system.speaker_matcher.state_dict().items())


def test_only_the_discriminator_learns_in_its_warmup(fitted, tmp_path):
    fitted(
        "--model.init_args.discriminator_warmup=0.5", "--trainer.max_epochs=2", "--run.loggers=[csv]",
        "--trainer.log_every_n_steps=1",
    )  # fmt: skip
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/discriminator/total"]]
    assert {(row["epoch"], bool(row["train/generator/total"])) for row in rows} == {("0", False), ("1", True)}


def test_batch_norm_of_a_warmed_up_discriminator_is_frozen(fitted, tmp_path):
    """One epoch of warm-up, then one or two of both: the statistics are those of the first in either case."""
    short, long = (
        fitted(f"--run.dir={tmp_path / str(epochs)}", "--model.init_args.discriminator_warmup=0.3",
               f"--trainer.max_epochs={epochs}").model.discriminator.state_dict()
        for epochs in (2, 3)
    )  # fmt: skip
    assert not torch.equal(short["output.weight"], long["output.weight"])
    for name, value in short.items():
        if "running" in name:
            assert torch.equal(value, long[name])


ONE_EPOCH = ["--model.init_args.gradient_clip=1.0", *SHORT_CROPS]  # CPUs are slow at float16


@pytest.fixture(scope="module")
def reference(psegan_options, tmp_path_factory):
    """One epoch in float32."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        return training.main([*psegan_options, *ONE_EPOCH, f"--run.dir={folder / 'run'}"])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_precisions_agree(fitted, reference, tmp_path, precision):
    """One epoch in each precision: finite, moving, and near float32. Float16 runs with its real loss scaler."""
    options = [f"--run.dir={tmp_path / 'other'}", *ONE_EPOCH]
    if precision == "16-mixed":
        cli = half_precision(fitted, options)
    else:
        cli = fitted(*options, f"--trainer.precision={precision}")
    for name, value in reference.trainer.logged_metrics.items():
        if name.startswith("train/") and "gradient" not in name:
            torch.testing.assert_close(cli.trainer.logged_metrics[name], value, rtol=0.05, atol=0.05)
    for name, value in cli.model.named_parameters():
        assert torch.isfinite(value).all(), name
    # the generator's last layer begins at zero, so its weights are the update: two steps of Adam in like directions
    ours, theirs = (x.model.generator.unet.output.weight.flatten() for x in (cli, reference))
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.9
    torch.testing.assert_close(ours.norm(), theirs.norm(), rtol=0.2, atol=0)


def half_precision(fitted, options):
    """Lightning swaps 16-mixed for bf16-mixed on the CPU; its plugin with a CPU scaler doesn't."""

    class CPUHalf(training.TrainingCLI):
        def instantiate_trainer(self, **kwargs):
            plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
            self.config_init[self.subcommand].trainer.plugins = [plugin]
            return super().instantiate_trainer(**kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "TrainingCLI", CPUHalf)
        cli = fitted(*options)
    assert cli.trainer.precision_plugin.scaler is not None
    assert cli.trainer.precision_plugin.precision == "16-mixed"
    return cli


def test_clipping_bounds_the_step(fitted):
    cli = fitted("--model.init_args.gradient_clip=1e-3", "--trainer.limit_val_batches=0")  # which would clear gradients
    for network in (cli.model.generator, cli.model.discriminator):
        norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
        assert norm <= 1.001e-3


def test_validation_protects_with_the_same_draws_every_time(fitted):
    cli = fitted()
    cli.model.eval()
    batch = one_batch(cli)
    first, second = cli.model.convert(batch), cli.model.convert(batch)
    assert isinstance(first, ConvertedBatch)
    assert torch.equal(first.protected, second.protected)
    assert torch.equal(first.target, second.target)
    other = cli.model.convert(replace(batch, id=tuple(f"other/{id}" for id in batch.id)))
    assert not torch.equal(first.target, other.target), "draws go by the utterance's name"


def test_targets_are_uniform_over_all_emotions(fitted):
    system = fitted().model
    mel, lengths = torch.rand(2000, 80, 1), torch.ones(2000, dtype=torch.long)
    system.generator.forward = lambda mel, lengths, target, noise: mel
    _, target = system.protect(mel, lengths, seeded("test"))
    assert torch.bincount(target, minlength=5).min() > 2000 / 5 * 0.8


def test_a_loaded_system_protects_alike(fitted, tmp_path):
    cli = fitted()
    loaded = load_system(tmp_path / "run" / "checkpoints" / "last.ckpt")
    batch = one_batch(cli)
    torch.testing.assert_close(loaded.convert(batch).protected, cli.model.eval().convert(batch).protected)


def test_a_padded_utterance_is_protected_as_alone(fitted):
    system = fitted().model.eval()
    short, long = 30, 90
    mel, lengths = system.features(one_batch_of(short, long))
    assert lengths.tolist() == [short, long]
    noise, target = torch.randn(2, system.generator.noise_dim), torch.tensor([1, 2])
    with torch.no_grad():
        together = system.generator(mel, lengths, target, noise)
        alone = system.generator(mel[:1, :, :short], lengths[:1], target[:1], noise[:1])
        assert (together[0, :, :short] - mel[0, :, :short]).abs().max() > 1e-5, "nothing was done"
        torch.testing.assert_close(together[:1, :, :short], alone, atol=1e-6, rtol=1e-5)
        for network in (system.discriminator, system.speaker_matcher):
            torch.testing.assert_close(
                network(together, lengths)[:1], network(alone, lengths[:1]), atol=1e-4, rtol=1e-4
            )
        loss = distortion(together, mel, lengths)
        parts = [(together[i, :, :n] - mel[i, :, :n]).abs().flatten() for i, n in enumerate((short, long))]
        torch.testing.assert_close(loss, torch.cat(parts).mean())


def one_batch_of(*frames: int) -> SpeechBatch:
    lengths = torch.tensor([(n - 1) * 256 for n in frames])
    labels = dict.fromkeys(("emotion", "speaker", "gender", "content"), torch.zeros(len(frames), dtype=torch.long))
    waveform = torch.rand(len(frames), int(lengths.max()), generator=seeded("waveform")) - 0.5
    waveform *= torch.arange(waveform.shape[1]) < lengths.unsqueeze(1)
    return SpeechBatch(waveform, lengths, **labels, id=tuple(map(str, frames)), text=(None,) * len(frames))


def test_losses_of_the_first_batch_are_logged_whole(fitted, tmp_path):
    fitted("--run.loggers=[csv]", "--trainer.log_every_n_steps=1")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first["step"] == "0"
    for phase in ("discriminator", "generator"):
        for name in ("total", "gradient_norm", "learning_rate"):
            assert first[f"train/{phase}/{name}"], f"{phase}/{name}"


def test_a_longer_continuation_keeps_the_warmup(fitted):
    warm = "--model.init_args.discriminator_warmup=0.5"
    fitted(warm, "--trainer.max_epochs=2")
    longer = fitted(warm, "--trainer.max_epochs=6", "--ckpt_path=last")
    assert longer.model.warmup_epochs == 1


def test_a_system_made_in_python_is_not_loaded_with_other_networks(tmp_path, trained, from_repository):
    system = PSEGAN({"emotion": 5, "speaker": 4}, lambda n: PSEGANGenerator(n, residual=False), speaker_weight=0)
    trainer = L.Trainer(logger=False, barebones=True)
    trainer.strategy.connect(system)
    system.trainer = trainer
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(PseganError, match="generator was passed in as a Python object"):
        PSEGAN.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    with pytest.raises(PseganError, match="holds Classifier; give a checkpoint of a protecting"):
        Protector.load(trained("emotion"))
