"""GenGAN and PCMelGAN: their own phases, losses and labels."""

import copy
import csv
import math
import shutil

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.common.random import seeded
from psegan.losses import ambiguity, certainty, three_deviations
from psegan.models.discriminator import ClassifierDiscriminator
from psegan.speech.masking import masked_mean
from psegan.systems import PSEGAN, GenGAN, PCMelGAN
from psegan.systems.classifier import load_classifier
from psegan.training import command as training
from psegan.weights import load_system

CLASSES = {"emotion": 5, "speaker": 4, "gender": 2, "content": 2}
EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful")
PHASES = {
    "gengan": ("generator", "discriminator"),
    "pcmelgan": ("filter", "generator", "filter_discriminator", "discriminator"),
}


@pytest.fixture
def fitted(from_repository, tiny, tmp_path):
    def fit(name: str, *options: str):
        return training.main(
            ["fit", f"--config=experiments/{name}.yaml", *tiny, "--data.init_args.batch_size=8", "--trainer.max_epochs=1",
             "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false",
             "--trainer.enable_model_summary=false", "--model.init_args.discriminator_warmup=0", "--run.loggers=[]",
             "--samples.n_utterances=0", f"--run.dir={tmp_path / name}", *options]
        )  # fmt: skip

    return fit


@pytest.mark.parametrize("name", PHASES)
def test_each_phase_moves_only_its_own_network(name, fitted):
    cli = fitted(name)
    system = cli.model
    assert tuple(phase.name for phase in system.phases()) == PHASES[name]
    assert tuple(optimizer is not None for optimizer in cli.trainer.optimizers) == (True,) * len(PHASES[name])
    system.log_dict = lambda *a, **k: None
    batch = next(iter(cli.datamodule.train_dataloader()))
    for phase in PHASES[name]:
        before = {key: value.clone() for key, value in system.named_parameters()}
        system.active_phases = lambda phase=phase: (phase,)
        system.training_step(batch, 0)
        moved = {
            key.partition(".")[0] for key, value in system.named_parameters() if not torch.equal(value, before[key])
        }
        assert moved == {phase}
    assert all(p.requires_grad for p in system.parameters())


@pytest.mark.parametrize("name", PHASES)
def test_discriminators_begin_with_a_classifier(name, fitted, trained):
    """They classify as it does, "fake" aside, and what it knows of real speech stays."""
    path = trained("emotion")
    names = [part for part in PHASES[name] if part.endswith("discriminator")]
    options = [f"--model.init_args.discriminator_checkpoint={path}"]
    options += [f"--model.init_args.{one}=psegan.models.discriminator.ClassifierDiscriminator" for one in names]
    system = fitted(name, *options).model
    system.begun = False
    moved = {one: copy.deepcopy(system.get_submodule(one)) for one in names}
    system.setup("fit")
    classifier = load_classifier(path, "emotion")
    mel, lengths = torch.rand(2, 80, 40, generator=torch.Generator().manual_seed(0)), torch.tensor([40, 30])
    for one in names:
        logits = system.get_submodule(one).eval()(mel, lengths)
        torch.testing.assert_close(logits[:, :5], classifier(mel, lengths))
        assert not torch.equal(moved[one].output.weight, system.get_submodule(one).output.weight)
        for key, value in moved[one].state_dict().items():
            if "running" in key:
                assert torch.equal(value, system.get_submodule(one).state_dict()[key])


@pytest.mark.parametrize("name", PHASES)
def test_fake_counts_by_its_weight(name, fitted):
    system = fitted(name, "--model.init_args.fake_weight=0.25").model
    mel = torch.rand(2, 2, 80, 40, generator=torch.Generator().manual_seed(0))
    losses = system.emotion_or_fake(system.discriminator, mel[0], mel[1], torch.tensor([40, 30]), torch.tensor([0, 1]))
    assert float(losses["total"].detach()) == pytest.approx(float((losses["real"] + 0.25 * losses["fake"]).detach()))
    with pytest.raises(PseganError, match="fake_weight is -1"):
        type(system)(CLASSES, fake_weight=-1.0)


def test_a_continued_training_needs_no_classifier_and_keeps_its_weights(fitted, trained, tmp_path):
    """What a discriminator began with is looked for when a training begins, and only then."""
    critic = tmp_path / "critic.ckpt"
    shutil.copy(trained("emotion"), critic)
    options = [f"--model.init_args.discriminator_checkpoint={critic}", "--trainer.limit_train_batches=3",
               "--model.init_args.discriminator=psegan.models.discriminator.ClassifierDiscriminator"]  # fmt: skip
    whole = fitted("gengan", *options, "--trainer.max_epochs=2", f"--run.dir={tmp_path / 'whole'}").model.state_dict()
    parts = f"--run.dir={tmp_path / 'parts'}"
    fitted("gengan", *options, "--trainer.max_epochs=1", parts)
    critic.unlink()
    resumed = fitted("gengan", *options, "--trainer.max_epochs=2", "--ckpt_path=last", parts).model
    for name, value in whole.items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert resumed.begun


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.init_args.discriminator_checkpoint={speaker}"], "classifies speaker, not emotion"),
        (["--model.init_args.discriminator_checkpoint={emotion}"], "StridedDiscriminator, which cannot begin with"),
        (
            ["--model.init_args.discriminator_checkpoint={emotion}", "--model.init_args.discriminator_warmup=0.3"],
            "set discriminator_warmup to 0",
        ),
        (
            ["--model.init_args.discriminator_checkpoint={emotion}",
             "--model.init_args.discriminator=psegan.models.discriminator.ClassifierDiscriminator",
             "--model.init_args.discriminator.init_args.encoder=psegan.models.recurrent.RecurrentEncoder"],
            "has another encoder",
        ),
    ],
)  # fmt: skip
def test_classifiers_that_no_discriminator_can_begin_with(options, message, fitted, trained):
    paths = {name: trained(name) for name in ("speaker", "emotion")}
    with pytest.raises((PseganError, SystemExit)) as error:
        fitted("gengan", *(option.format(**paths) for option in options))
    assert message in str(error.value)


@pytest.mark.parametrize("name", PHASES)
def test_only_discriminators_warm_up(name, fitted, tmp_path):
    cli = fitted(name, "--trainer.max_epochs=2", "--model.init_args.discriminator_warmup=0.5",
                 "--run.loggers=[csv]", "--trainer.log_every_n_steps=1")  # fmt: skip
    assert cli.model.warmup_epochs == 1
    with (tmp_path / name / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for epoch, phases in (("0", {p for p in PHASES[name] if "discriminator" in p}), ("1", set(PHASES[name]))):
        totals = {key for row in rows if row["epoch"] == epoch for key in row if key.endswith("/total") and row[key]}
        assert totals == {f"train/{phase}/total" for phase in phases}
    frozen = cli.model.discriminator.norms
    assert not any(norm.training for norm in frozen), "statistics of real speech are kept"


@pytest.mark.parametrize(("name", "targets"), [("gengan", False), ("pcmelgan", True)])
def test_a_checkpoint_protects_alike_again(name, targets, fitted, tmp_path):
    fitted(name)
    system = load_system(tmp_path / name / "checkpoints" / "last.ckpt")
    assert system.emotions == EMOTIONS
    mel, lengths = torch.rand(3, 80, 70), torch.tensor([70, 50, 33])
    one, target = system.protect(mel, lengths, seeded(1))
    again, _ = system.protect(mel, lengths, seeded(1))
    other, _ = system.protect(mel, lengths, seeded(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other), "noise is drawn"
    assert (target is not None) == targets
    assert torch.isfinite(one).all() and (one - mel * (torch.arange(70) < lengths[:, None])[:, None]).abs().max() > 0


def test_ambiguity_is_least_where_all_emotions_are_as_likely():
    logits = torch.zeros(2, 6)
    logits[:, 5] = -50  # not fake
    assert math.isclose(float(ambiguity(logits, 5)), math.log(5), rel_tol=1e-5)
    logits[0, 2] = 3
    assert float(ambiguity(logits, 5)) > math.log(5)
    assert float(ambiguity(torch.zeros(2, 6), 5)) > math.log(5), "probability given to fake is lost"


def test_certainty_is_zero_where_nothing_is_known():
    assert abs(float(certainty(torch.full((3, 7), 2.0)))) < 1e-6
    sure = torch.zeros(3, 7)
    sure[:, 1] = 100
    assert math.isclose(float(certainty(sure)), math.log(7), rel_tol=1e-5)


def test_distortion_is_in_units_of_three_deviations():
    torch.manual_seed(0)
    mel, lengths = torch.randn(2, 80, 50), torch.tensor([50, 30])
    mel[1, :, 30:] = 0
    unit = three_deviations(mel, lengths)
    assert unit.shape == (2, 1, 1)
    torch.testing.assert_close(unit[1, 0, 0], 3 * mel[1, :, :30].std(unbiased=False))
    scaled = three_deviations(10 * mel, lengths)
    one = masked_mean((1.1 * mel / unit - mel / unit).square(), lengths)
    torch.testing.assert_close(one, masked_mean((11 * mel / scaled - 10 * mel / scaled).square(), lengths))


@pytest.mark.parametrize("goal", ["entropy", "other"])
def test_goals_of_the_filter(goal):
    system = PCMelGAN(CLASSES, filter_goal=goal)
    logits = torch.zeros(4, 5)
    logits[:, 0] = 10.0  # sure of the first emotion
    system.filter_discriminator.forward = lambda mel, lengths: logits
    system._planned_warmup = 0
    emotion = torch.zeros(4, dtype=torch.long)
    batch = type("Prepared", (), {
        "filtered": torch.rand(4, 80, 20), "real": torch.rand(4, 80, 20), "lengths": torch.full((4,), 20),
        "emotion": emotion, "other": emotion + 1,
    })()  # fmt: skip
    sure = float(system.filter_loss(batch)["adversarial"])
    logits.zero_()
    assert float(system.filter_loss(batch)["adversarial"]) < sure


def test_the_neutral_conversion_has_one_target_and_draws_nothing(fitted, tmp_path):
    fitted("psegan", "--config=experiments/neutral.yaml")
    system = load_system(tmp_path / "psegan" / "checkpoints" / "last.ckpt")
    mel, lengths = torch.rand(6, 80, 40), torch.full((6,), 40)
    one, target = system.protect(mel, lengths, seeded(1))
    other, _ = system.protect(mel, lengths, seeded(2))
    assert target.tolist() == [EMOTIONS.index("neutral")] * 6
    assert torch.equal(one, other)


def test_unknown_choices_are_refused():
    with pytest.raises(
        PseganError, match="target is 'bored', but must be uniform or an emotion of the corpus .neutral, happy"
    ):
        PSEGAN(CLASSES, target="bored", emotions=EMOTIONS)
    with pytest.raises(PseganError, match="discriminator_warmup is 1"):
        GenGAN(CLASSES, discriminator_warmup=1)


def test_a_discriminator_augments_with_the_batchs_generator_alone():
    discriminator = ClassifierDiscriminator(6).train()
    discriminator.encoder.eval()
    mel, lengths = torch.rand(4, 80, 60, generator=seeded("mel")), torch.tensor([60, 60, 50, 40])
    before = torch.get_rng_state()

    def logits(random: torch.Generator | None) -> torch.Tensor:
        discriminator.random = random
        return discriminator(mel, lengths)

    assert torch.equal(logits(seeded(1)), logits(seeded(1)))
    assert not torch.equal(logits(seeded(1)), logits(seeded(2)))
    assert torch.equal(logits(None), logits(None))
    assert torch.equal(torch.get_rng_state(), before)
