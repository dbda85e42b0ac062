"""Every file in experiments/ parses and runs one batch."""

import contextlib
import io
from collections import Counter
from pathlib import Path

import pytest
import yaml

from datamodules import JointDataModule
from psegan.common.errors import PseganError
from psegan.evaluation.specification import Evaluation
from psegan.jobs.job import planned
from psegan.jobs.reproduce import Reproduction
from psegan.protection.controls import load_protector
from psegan.training import command as training

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.yaml"))
ONE_BATCH = [
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2",
    "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--run.loggers=[]", "--data.init_args.batch_size=2",
    "--samples.n_utterances=0",  # a figure takes as long as the batch; test_loggers draws them
]  # fmt: skip


@pytest.fixture
def run(from_repository, tmp_path, trained):
    """Train one batch with these overlays; PSEGAN gets its matcher, and from the first epoch a generator."""

    def run(overlays: list[str], corpus: list[str]):
        configs = [f"--config=experiments/{overlay}" for overlay in overlays]
        options = [*ONE_BATCH, f"--run.dir={tmp_path / 'run'}"]
        if "psegan.yaml" in overlays:
            options += [
                f"--model.init_args.speaker_matcher_checkpoint={trained('speaker_matcher')}",
                "--model.init_args.discriminator_warmup=0",
            ]
        return training.main(["fit", *configs, *corpus, *options])

    return run


SYSTEMS = [
    "psegan.yaml", "gengan.yaml", "pcmelgan.yaml", "classifier.yaml", "speaker_matcher.yaml", "verifier.yaml", "vocos.yaml",
    "melgan.yaml",
]  # fmt: skip


@pytest.mark.parametrize("file", SYSTEMS)
def test_systems(file, run, tiny):
    # the whole MelGAN takes minutes a batch on a processor: its discriminators are for a GPU
    small = ["--model.init_args.vocoder.init_args.width=4", "--model.init_args.discriminator.init_args.width=4"]
    assert run([file], [*tiny, *small] if file == "melgan.yaml" else tiny).trainer.global_step >= 1


def test_a_small_melgan_trains_without_discriminators_at_first(run, tiny):
    small = ["--model.init_args.vocoder.init_args.width=4", "--data.init_args.crop_seconds=0.2"]
    preset = "--config=experiments/presets/small_melgan.yaml"
    cli = run(["melgan.yaml"], [*tiny, preset, *small, "--trainer.max_epochs=2"])
    assert cli.model.discriminator.scales[0].layers[0].out_channels == 4
    assert cli.model.spectral_share == 0.67
    found = cli.trainer.logged_metrics
    assert "train/vocoder/features" in found  # of the second epoch


def test_many_voices_joins_what_is_in_a_folder(corpora_root):
    config = yaml.safe_load((EXPERIMENTS / "corpora" / "many_voices.yaml").read_text())["data"]["init_args"]
    data = JointDataModule(**{**config, "root": str(corpora_root)})
    data.setup("fit")
    counts = Counter(u.id.partition("/")[0] for u in data.split_utterances("train"))
    assert counts == {"ravdess": 1200, "emodb": 100, "nemo": 3581, "speechocean762": 1804, "librispeech": 150}
    repeated = data.train_dataloader().dataset
    assert len(repeated) == 2400 + 800 + 3581 + 1804 + 1200


def test_no_sm(run, tiny):
    cli = run(["psegan.yaml", "ablations/no_sm.yaml"], tiny)
    assert cli.model.speaker_matcher is None
    assert "train/generator/speaker" not in cli.trainer.logged_metrics


@pytest.mark.parametrize("ablations", [[], ["--config=experiments/ablations/no_cm.yaml"]])
def test_no_cm(run, tiny, tmp_path, ablations):
    """The released content matcher teaches, and its ablation does without."""
    words = tmp_path / "words.yaml"
    settings = {"content_weight": 2.0, "content_matcher_checkpoint": "content-matcher"}
    words.write_text(yaml.safe_dump({"model": {"init_args": settings}}))
    cli = run(["psegan.yaml"], [*tiny, f"--config={words}", *ablations])
    assert (cli.model.content_matcher is None) == bool(ablations)
    assert ("train/generator/content" in cli.trainer.logged_metrics) != bool(ablations)


@pytest.mark.parametrize("corpus", ["ravdess", "emodb", "nemo"])
def test_the_overlay_alone_makes_the_reproduced_ablation_without_a_content_matcher(corpus, from_repository):
    """A checkpoint that it doesn't read would be recorded as one that it learnt from."""
    trainings = Reproduction.read(f"experiments/reproduce/{corpus}.yaml").trainings
    content = {name: [key for key in one.set if "content" in key] for name, one in trainings.items()}
    assert content["psegan"] and content["psegan-no-sm"] and content["psegan-no-cm"] == []
    without = trainings["psegan-no-cm"]
    assert planned(without.config, without.set, "model.init_args.content_weight") == 0
    assert without.set == {key: value for key, value in trainings["psegan"].set.items() if "content" not in key}


def test_no_grn(run, tiny):
    cli = run(["psegan.yaml", "ablations/no_grn.yaml"], tiny)
    assert cli.model.generator.unet.bottleneck is None


def test_other_ablations(run, tiny):
    cli = run(["psegan.yaml", "ablations/no_sm_no_grn.yaml"], tiny)
    assert cli.model.speaker_matcher is None and cli.model.generator.unet.bottleneck is None
    cli = build(["psegan.yaml", "ablations/no_noise.yaml"], tiny)
    assert cli["generator"]["init_args"]["noise_dim"] == 0 and cli["speaker_weight"] > 0
    assert build(["psegan.yaml", "ablations/fixed_target.yaml"], tiny)["target"] == "neutral"
    neutral = build(["psegan.yaml", "neutral.yaml"], tiny)
    assert (neutral["target"], neutral["speaker_weight"], neutral["generator"]["init_args"]["noise_dim"]) == (
        "neutral",
        0,
        0,
    )


def build(overlays: list[str], corpus: list[str]) -> dict:
    """The system's settings."""
    configs = [f"--config=experiments/{overlay}" for overlay in overlays]
    return yaml.safe_load(print_config(["fit", *configs, *corpus]))["model"]["init_args"]


@pytest.mark.parametrize("file", ["gengan.yaml", "pcmelgan.yaml"])
def test_a_system_over_another_is_itself(file, from_repository, tiny):
    """Sweeps lay every system over psegan.yaml: nothing of that may be left."""
    over = build(["psegan.yaml", "sweeps/ravdess.yaml", file], tiny)
    assert over == build([file], tiny)


def test_ablations_are_two_lines_and_stack(run, tiny):
    for path in (EXPERIMENTS / "ablations").glob("*.yaml"):
        assert len(path.read_text().splitlines()) == 2
    cli = run(["psegan.yaml", "ablations/no_sm.yaml", "ablations/no_grn.yaml"], tiny)
    assert cli.model.speaker_matcher is None
    assert cli.model.generator.unet.bottleneck is None


def test_paper_preset(run, tiny):
    cli = run(["psegan.yaml"], [*tiny, "--config=experiments/presets/paper.yaml"])
    assert type(cli.model.discriminator).__name__ == "AlexNetDiscriminator"
    assert cli.datamodule.pad_seconds == 16.7
    (batch,) = [next(iter(cli.datamodule.train_dataloader()))]
    assert batch.waveform.shape == (2, round(16.7 * 16000))
    settings = [optimizer.param_groups[0] for optimizer in cli.trainer.optimizers]
    assert [(group["lr"], tuple(group["betas"])) for group in settings] == [(2e-4, (0.5, 0.9)), (1e-4, (0.5, 0.9))]


@pytest.mark.parametrize(
    ("system", "presets"),
    [
        ("psegan.yaml", ["trained_discriminator"]),
        ("gengan.yaml", ["trained_discriminator"]),
        ("pcmelgan.yaml", ["trained_discriminator", "trained_discriminators"]),
    ],
)
def test_presets_of_trained_discriminators(system, presets, run, tiny, trained):
    overlays = [system, *(f"presets/{preset}.yaml" for preset in presets)]
    with pytest.raises(PseganError, match="a ClassifierDiscriminator begins with an emotion classifier"):
        run(overlays, tiny)
    model = run(overlays, [*tiny, f"--model.init_args.discriminator_checkpoint={trained('emotion')}"]).model
    names = ["discriminator", "filter_discriminator"][: len(presets)]
    assert {type(model.get_submodule(name)).__name__ for name in names} == {"ClassifierDiscriminator"}
    networks = [model.generator, *([model.filter] if len(presets) > 1 else [])]
    assert all(network.smooth for network in networks)


@pytest.mark.parametrize("corpus", ["ravdess", "emodb", "nemo"])
def test_corpora(corpus, run, corpora_root):
    root = [f"--config=experiments/corpora/{corpus}.yaml", f"--data.init_args.root={corpora_root / corpus}"]
    cli = run(["classifier.yaml"], root)
    assert cli.model.n_classes["emotion"] == {"ravdess": 8, "emodb": 7, "nemo": 6}[corpus]


def test_both_corpora_as_one(run, corpora_root):
    root = ["--config=experiments/corpora/ravdess_emodb.yaml", f"--data.init_args.root={corpora_root}"]
    cli = run(["vocos.yaml"], [*root, "--model.init_args.vocoder.init_args.depth=1"])
    assert len(cli.datamodule.split_utterances("train")) == 1300


def print_config(arguments: list[str]) -> str:
    """What ``--print_config`` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        training.TrainingCLI([*arguments, "--print_config"])
    return printed.getvalue()


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("reproduce/")])
def test_reproductions(file, from_repository, trained, tmp_path):
    """Every training's overlays and settings parse; test_reproduce runs trainings."""
    experiment = Reproduction.read(f"experiments/{file}")
    for one in experiment.trainings.values():
        own = experiment.set | one.set
        values = {key: value for key, value in own.items() if "{" not in str(value)}  # earlier trainings' checkpoints
        options = [f"--{key}={value}" for key, value in values.items()]
        configs = [f"--config={config}" for config in (*one.config, experiment.corpus)]
        parsed = yaml.safe_load(print_config(["fit", *configs, *options]))
        for key, value in values.items():
            assert _value(parsed, key) == value, key


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("evaluate/")])
def test_evaluations(file, from_repository, tmp_path):
    """Every training of an evaluation parses, and every system of it is one; test_evaluate runs an evaluation."""
    evaluation = Evaluation.read(f"experiments/{file}")
    for spec in evaluation.systems.values():
        load_protector(spec)
    trainings = [one for one in (*evaluation.architectures.values(), evaluation.verifier) if one.config]
    for how in (*trainings, *evaluation.classifiers.values()):
        configs = [f"--config={config}" for config in (*how.config, evaluation.corpus)]
        values = evaluation.set | how.set | getattr(how, "continued", {})
        parsed = yaml.safe_load(print_config(["fit", *configs, *(f"--{key}={value}" for key, value in values.items())]))
        for key, value in values.items():
            assert _value(parsed, key) == value, key


def _value(parsed: dict, key: str) -> object:
    """What a dotted key holds in a printed configuration."""
    for part in key.split("."):
        parsed = parsed[part]
    return parsed


def test_no_file_is_forgotten():
    exercised = {
        "attackers/cnn.yaml", "attackers/gru.yaml",  # by tests/psegan/systems/test_classifier.py
        *SYSTEMS, "neutral.yaml", *(f"ablations/{name}.yaml" for name in
          ("no_sm", "no_grn", "no_sm_no_grn", "no_noise", "fixed_target", "no_cm", "speaker_of_utterance")),
        "content_matcher.yaml", "corpora/speechocean762.yaml",  # by tests/psegan/systems/test_recogniser.py
        "content_distillation.yaml", "corpora/spoken_content.yaml",  # by tests/psegan/systems/test_distillation.py
        "anchored.yaml", "anchored_encoder.yaml", "corpora/calm_voices.yaml",  # by tests/psegan/systems/test_anchored*.py
        "corpora/librispeech.yaml",  # by tests/psegan/jobs/test_evaluate.py
        "corpora/many_voices.yaml", "presets/small_melgan.yaml",
        "sweeps/systems.yaml", "sweeps/ablations.yaml", "sweeps/ravdess.yaml",  # here and by tests/psegan/test_sweep_file.py
        "presets/trained_discriminator.yaml", "presets/trained_discriminators.yaml",
        "presets/paper.yaml", "corpora/ravdess.yaml", "corpora/emodb.yaml", "corpora/nemo.yaml", "corpora/synthetic.yaml",
        "corpora/ravdess_emodb.yaml", "corpora/manifest.yaml",  # by tests/datamodules/test_manifest.py
        *(file for file in FILES if file.startswith(("reproduce/", "evaluate/"))),
    }  # fmt: skip
    assert set(FILES) == exercised
