"""Training of vocoders: who moves when, what is averaged, what a checkpoint's vocoder gives."""

import csv
import math
from functools import partial

import pytest
import torch
import yaml

from psegan.common.errors import PseganError
from psegan.losses import (
    be_taken_for_real,
    feature_matching,
    hinge_fake,
    hinge_real,
    multi_resolution_stft,
    spectral_convergence,
)
from psegan.models.spectral_discriminator import SpectralDiscriminator
from psegan.models.vocos import Vocos
from psegan.models.waveform_discriminator import DiscriminatorOutput
from psegan.systems.vocoder import VocoderGAN
from psegan.training import command as training
from psegan.weights import PretrainedModel, build, load_part, read_checkpoint

SMALL = [
    "--model.init_args.vocoder.init_args.width=16", "--model.init_args.vocoder.init_args.hidden=16",
    "--model.init_args.vocoder.init_args.depth=1", "--model.init_args.discriminator.init_args.width=2",
    "--data.init_args.crop_seconds=0.3", "--data.init_args.batch_size=8", "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
]  # fmt: skip


@pytest.fixture
def fitted(from_repository, tiny, tmp_path):
    def fit(*options: str):
        words = ["fit", "--config=experiments/vocos.yaml", *tiny, *SMALL, "--model.init_args.spectral_share=0"]
        return training.main([*words, "--trainer.max_epochs=1", "--run.loggers=[csv]", f"--run.dir={tmp_path / 'run'}",
                              "--trainer.log_every_n_steps=1", *options])  # fmt: skip

    return fit


def test_each_phase_moves_only_its_own_network(fitted):
    cli = fitted()
    system = cli.model
    assert [phase.name for phase in system.phases()] == ["discriminator", "vocoder"]
    system.log_dict = lambda *a, **k: None
    batch = next(iter(cli.datamodule.train_dataloader()))
    for name in ("discriminator", "vocoder"):
        before = {key: value.clone() for key, value in system.named_parameters()}
        system.active_phases = lambda name=name: (name,)
        system.training_step(batch, 0)
        moved = {k.partition(".")[0] for k, v in system.named_parameters() if not torch.equal(v, before[k])}
        assert moved == {name}
    assert not any(p.requires_grad for p in system.averaged.parameters())


def test_discriminators_join_after_the_spectral_part(fitted, tmp_path):
    fitted("--trainer.max_epochs=2", "--model.init_args.spectral_share=0.5")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    discriminated = {int(row["epoch"]) for row in rows if row.get("train/discriminator/total")}
    assert discriminated == {1}
    assert {int(row["epoch"]) for row in rows if row.get("train/vocoder/mel")} == {0, 1}
    assert all(float(row["val/total"]) > 0 for row in rows if row.get("val/total"))


def test_learning_rates_fall_along_a_cosine(fitted):
    cli = fitted("--trainer.max_epochs=2", "--model.init_args.final_learning_rate=0.5")
    rates = [optimizer.param_groups[0]["lr"] for optimizer in cli.trainer.optimizers]
    assert rates == pytest.approx([0.75 * 5e-4, 0.75 * 1e-3])


def test_older_names_of_weights_load():
    system = VocoderGAN(
        {"emotion": 2}, partial(Vocos, width=16, hidden=16, depth=1), partial(SpectralDiscriminator, width=2)
    )
    expected = system.state_dict()
    older = {name.replace(".score.", ".verdict."): value for name, value in expected.items()}
    assert older.keys() != expected.keys()
    about = {"system": "VocoderGAN", "custom": [], "batches_seen": 1}
    checkpoint = {"state_dict": older, "psegan": about}
    system.on_load_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == expected.keys()


def test_a_checkpoint_speaks_with_averaged_weights(fitted, tmp_path):
    cli = fitted("--model.init_args.average=0.5", "--trainer.precision=bf16-mixed")
    vocoder = load_part(tmp_path / "run" / "checkpoints" / "last.ckpt", "vocoder")
    averaged, last = cli.model.averaged.module.state_dict(), cli.model.vocoder.state_dict()
    for name, value in vocoder.state_dict().items():
        assert torch.equal(value, averaged[name])
    assert not torch.equal(averaged["head.weight"], last["head.weight"])
    mel, frames = cli.model.front_end.log_mel(torch.zeros(1, 5_000), torch.tensor([5_000]))
    assert vocoder(mel, frames).isfinite().all(), "silence must not break it"


def test_a_continued_training_is_an_uninterrupted_one(fitted, tmp_path):
    whole = fitted("--trainer.max_epochs=2", f"--run.dir={tmp_path / 'whole'}").model.state_dict()
    parts = f"--run.dir={tmp_path / 'parts'}"
    fitted("--trainer.max_epochs=2", "--trainer.max_steps=6", parts)  # three batches, each a step of both
    assert read_checkpoint(tmp_path / "parts" / "checkpoints" / "last.ckpt")["epoch"] == 0
    resumed = fitted("--trainer.max_epochs=2", "--ckpt_path=last", parts).model.state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize("path", ["psegan.models.vocos.Vocos", "psegan.models.melgan.MelGAN"])
def test_training_begins_with_shipped_weights(path, tmp_path):
    def make(width: int = 32):
        return build({"class_path": path, "init_args": {"width": width}})

    torch.manual_seed(0)
    shipped = make()
    PretrainedModel.assemble({"vocoder": shipped}, {}).save_pretrained(tmp_path / "shipped")
    system = VocoderGAN({"emotion": 2}, vocoder=make, vocoder_checkpoint=str(tmp_path / "shipped"))
    system.setup("fit")
    mel, frames = torch.randn(1, 80, 9) - 5, torch.tensor([9])
    for network in (system.vocoder, system.averaged):
        torch.testing.assert_close(network.eval()(mel, frames), shipped.eval()(mel, frames), rtol=1e-4, atol=1e-5)
    assert all(parameter.requires_grad for parameter in system.vocoder.parameters())
    with pytest.raises(PseganError, match=r"init_args\.vocoder_checkpoint"):
        VocoderGAN({"emotion": 2}, vocoder=lambda: make(16), vocoder_checkpoint=str(tmp_path / "shipped")).setup("fit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": 1.0}, "average is 1.0"), ({"final_learning_rate": 0.0}, "final_learning_rate is 0.0"),
        ({"gain": (3.0, -3.0)}, "gain is"), ({"spectral_share": 1.0}, "spectral_share is 1.0"),
    ],
)  # fmt: skip
def test_numbers_out_of_their_range(settings, message):
    with pytest.raises(PseganError, match=message):
        VocoderGAN({"emotion": 2}, **settings)


def test_nothing_is_clipped_by_the_random_gain():
    system = VocoderGAN({"emotion": 2}, gain=(20.0, 20.0))
    from psegan.speech.batch import SpeechBatch

    waveform = torch.rand(2, 4_000) - 0.5
    labels = {name: torch.zeros(2, dtype=torch.long) for name in ("emotion", "speaker", "gender", "content")}
    batch = SpeechBatch(waveform, torch.tensor([4_000, 4_000]), **labels, id=("a", "b"), text=(None, None))
    prepared = system.prepare(batch, torch.Generator())
    assert prepared.real.abs().amax(1) == pytest.approx([1, 1], abs=1e-5)
    assert prepared.fake.shape == prepared.real.shape


def test_distances_of_equal_and_of_louder_speech():
    waveform = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert [float(d) for d in multi_resolution_stft(waveform, waveform)] == [0, 0]
    convergence, log_distance = multi_resolution_stft(2 * waveform, waveform)
    assert float(convergence) == pytest.approx(1, abs=1e-3)
    assert float(log_distance) == pytest.approx(math.log(2), abs=0.01)
    assert float(spectral_convergence(torch.zeros(1, 3, 3), torch.ones(1, 3, 3))) == pytest.approx(1)
    silent = torch.zeros(1, 8_000, requires_grad=True)
    torch.stack(multi_resolution_stft(silent, waveform[:1])).sum().backward()
    assert silent.grad.isfinite().all()


def test_hinge_losses_and_feature_matching():
    sure = [
        DiscriminatorOutput(torch.tensor([2.0, 2.0]), [torch.ones(2)]),
        DiscriminatorOutput(torch.tensor([0.0]), [torch.zeros(1)]),
    ]
    assert float(hinge_real(sure)) == pytest.approx(0.5)
    assert float(hinge_fake(sure)) == pytest.approx((3 + 1) / 2)
    assert float(be_taken_for_real(sure)) == pytest.approx(-1)
    other = [
        DiscriminatorOutput(torch.zeros(2), [torch.zeros(2)]),
        DiscriminatorOutput(torch.zeros(1), [torch.zeros(1)]),
    ]
    assert float(feature_matching(sure, other)) == pytest.approx(0.5)


def test_the_configuration_names_every_loss(from_repository):
    settings = yaml.safe_load((from_repository / "experiments" / "vocos.yaml").read_text())["model"]["init_args"]
    assert {"mel_weight", "stft_weight", "adversarial_weight", "feature_weight", "spectral_share"} <= set(settings)
