"""The command line as a user meets it: fast help, one-line errors, exit statuses."""

import subprocess
import sys

import pytest

from psegan import cli, training
from psegan.errors import PseganError


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "psegan.cli", *words], capture_output=True, text=True)


def test_help_names_every_command_without_heavy_imports():
    script = (
        "import sys; from psegan import cli; sys.argv = ['psegan', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'lightning', 'sklearn', 'matplotlib', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr
    for command in ("fit", "validate", "test", "predict", "data", "reproduce"):
        assert f"  {command}" in done.stdout


def test_fit_help_and_printed_configuration(from_repository):
    done = run("fit", "--config", "experiments/psegan.yaml", "--config", "experiments/corpora/synthetic.yaml",
               "--config", "experiments/ablations/no_sm.yaml", "--print_config")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "speaker_weight: 0.0" in done.stdout
    assert "class_path: datamodules.SyntheticDataModule" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.init_args.generatr=1"], "generatr"),
        (["--trainer.max_epoch=1"], "max_epoch"),
        (["--model.init_args.discriminator_warmup=1"], "discriminator_warmup is 1.0"),
        (["--model.init_args.distortion_form=l7"], "distortion_form"),
        (["--data.init_args.n_takes=many"], "n_takes"),
        (["--config=experiments/nowhere.yaml"], "nowhere.yaml"),
        (["--data.init_args.split=paperr"], "split"),
        (["--data.init_args.fold=3"], "fold is 3"),
        (["--model.init_args.speaker_matcher_checkpoint=nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--model.init_args.speaker_matcher_checkpoint=null"], "needs a trained speaker matcher"),
        (["--privacy.emotion_classifier=README.md"], "README.md: cannot be read as a checkpoint"),
        (["--data.class_path=datamodules.RAVDESSDataModule", "--data.init_args.root=tests"], "RAVDESS"),
    ],
)
def test_errors_are_one_line_that_names_the_key(
    options, message, psegan_arguments, from_repository, capsys, monkeypatch
):
    arguments = [*psegan_arguments, *options]
    if "RAVDESS" in message:
        arguments = [a for a in arguments if ".n_" not in a]
    monkeypatch.setattr(sys, "argv", ["psegan", *arguments])
    assert cli.main() == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("psegan: error: ")
    assert message in error
    assert len(error) < 500


def test_an_unknown_key_in_a_file_is_named(tmp_path, psegan_arguments, from_repository):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model:\n  init_args:\n    speaker_wieght: 0.0\n")
    with pytest.raises(PseganError, match="speaker_wieght"):
        training.main([*psegan_arguments, f"--config={overlay}"])


def test_classifiers_of_another_corpus_or_attribute_are_refused(trained, psegan_arguments, from_repository):
    watch = [f"--privacy.emotion_classifier={trained('emotion')}", f"--privacy.speaker_classifier={trained('speaker')}"]
    with pytest.raises(PseganError, match=r"knows 4 classes of speaker, the corpus has 6"):
        training.main([*psegan_arguments, *watch, "--data.init_args.n_speakers=6"])
    swapped = [watch[0], f"--privacy.speaker_classifier={trained('emotion')}"]
    with pytest.raises(PseganError, match="classifies emotion, not speaker"):
        training.main([*psegan_arguments, *swapped])


def test_a_checkpoint_of_another_system_or_shape_is_refused(trained, psegan_arguments, from_repository, tmp_path):
    with pytest.raises(PseganError, match=r"holds Classifier, not PSEGAN"):
        training.main([*psegan_arguments, f"--ckpt_path={trained('emotion')}"])
    training.main(psegan_arguments)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    other = [f"--ckpt_path={checkpoint}", f"--run.dir={tmp_path / 'other'}", "--trainer.max_epochs=2"]
    with pytest.raises(PseganError, match="another configuration"):
        training.main([*psegan_arguments, *other, "--model.init_args.generator.init_args.grn_repeats=0"])
    with pytest.raises(PseganError, match="another configuration"):
        training.main([*psegan_arguments, *other, "--model.init_args.speaker_weight=0"])


def test_a_speaker_matcher_of_another_shape_or_attribute_is_refused(trained, psegan_arguments, from_repository):
    shape = "--model.init_args.speaker_matcher.init_args.widths=[8, 16]"
    with pytest.raises(PseganError, match="another encoder than model.init_args.speaker_matcher"):
        training.main([*psegan_arguments, shape])
    with pytest.raises(PseganError, match="does not classify speakers"):
        training.main([*psegan_arguments, f"--model.init_args.speaker_matcher_checkpoint={trained('emotion')}"])


def test_a_damaged_checkpoint_is_one_line(psegan_arguments, from_repository, tmp_path):
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(PseganError, match=r"damaged\.ckpt: cannot be read as a checkpoint"):
        training.main([*psegan_arguments, f"--ckpt_path={damaged}"])


def test_an_unknown_command_and_none():
    assert run("frobnicate").returncode == 2
    assert run().returncode == 2
    assert run("--version").stdout.startswith("psegan ")
