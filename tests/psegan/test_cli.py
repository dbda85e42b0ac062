"""The command line as a user meets it: fast help, one-line errors, exit statuses."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from psegan import cli
from psegan.common.errors import PseganError
from psegan.lineage import lineage
from psegan.training import command as training


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


UNUSED_PRECISIONS = ["64-true", "bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"]


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
        (["--trainer.max_time=10m"], "trainer.max_time is '10m'"),
        (["--checkpoint.every_n_train_steps=5"], "checkpoint.every_n_train_steps"),
        *(([f"--trainer.precision={name}"], f"trainer.precision is {name!r}") for name in UNUSED_PRECISIONS),
        (["--trainer.plugins+=lightning.pytorch.plugins.DoublePrecision"], "trainer.precision is '64-true'"),
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


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["report", "two\nlines"], "psegan: error: two\\nlines: no such file; write it anew"),
        (["report", "n" * 300], "cannot be read (File name too long)"),
        (["export", "nowhere.ckpt", "-o", "x"], "nowhere.ckpt: no such checkpoint"),
        (["fit", "--model", "mine_nowhere.MySystem", "--config", "corpus.yaml"],
         "\"model\": Problem with given class_path 'mine_nowhere.MySystem': No module named 'mine_nowhere'; correct its path"),
        (["fit", "--model.class_path=psegan.systems.Classifier", "--model.init_args.encoder=mine_nowhere.Net",
          "--config", "corpus.yaml"], "No module named 'mine_nowhere'. Got value: mine_nowhere.Net; correct its path"),
        (["fit", "--config", "twice.yaml"], "twice.yaml: is not YAML (line 2: data is there twice)"),
    ],
)  # fmt: skip
def test_every_error_is_a_single_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["psegan", *words])
    (tmp_path / "corpus.yaml").write_text("data: {class_path: datamodules.SyntheticDataModule}\n")
    (tmp_path / "twice.yaml").write_text("data: {}\ndata: {}\n")
    assert cli.main() == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("psegan: error: ") and line in error
    assert error.count("correct its path") <= 1 and "not accessible" not in error


def test_errors_of_the_file_system_are_one_line_and_others_keep_their_traceback(monkeypatch, capsys):
    def fail(words):
        raise OSError(number, os.strerror(number), "a\nb")

    monkeypatch.setattr(cli, "_run", fail)
    number = errno.ENOSPC
    assert cli.main() == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("psegan: error: a\\nb: cannot be written (No space left on device); make room")
    number = errno.ENOENT
    with pytest.raises(FileNotFoundError):
        cli.main()


@pytest.mark.parametrize(
    ("command", "added"), [("fit", True), ("evaluate", True), ("protect", False), ("report", False)]
)
def test_classes_are_looked_for_in_the_current_folder_last(command, added, tmp_path, monkeypatch):
    """Not by commands that may be run among other people's files, where nothing should be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["psegan", command])
    monkeypatch.setattr(cli, "run", lambda words: 0)
    assert cli.main() == 0
    assert (sys.path[-1] == str(tmp_path)) == added and str(tmp_path) not in sys.path[:-1]


def test_a_name_that_is_no_text_is_printed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "wav").mkdir(parents=True)
    (folder / "wav" / "03a01Fa.wav").write_bytes(b"")
    (folder / "wav" / os.fsdecode(b"caf\xe9\n.wav")).write_bytes(b"")
    os.mkfifo(folder / "wav" / "03a01Nc.wav")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["psegan", "data", "check", "emodb", "--root", str(folder)])
    assert cli.main() == 1
    printed = capsys.readouterr().out
    assert f"Emo-DB in {tmp_path}/caf\\udce9: " in printed
    assert "wav/caf\\udce9\\n.wav: " in printed and "wav/03a01Fa.wav: " in printed
    assert "wav/03a01Nc.wav: is a pipe or a device, not a file" in printed


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


def test_a_run_says_which_other_run_it_went_on_from(psegan_arguments, from_repository, tmp_path):
    training.main(psegan_arguments)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"

    def continued_from(run: str) -> str | None:
        return yaml.safe_load((tmp_path / run / "config.yaml").read_text())["run"]["continued_from"]

    more = [*psegan_arguments, "--trainer.max_epochs=2", f"--ckpt_path={checkpoint}"]
    training.main([*more, f"--run.dir={tmp_path / 'other'}"])
    assert continued_from("other") == str(checkpoint)
    training.main([*psegan_arguments, "--trainer.max_epochs=3", "--ckpt_path=last", f"--run.dir={tmp_path / 'other'}"])
    assert continued_from("other") == str(checkpoint), "continued once more, it has still heard the same"
    training.main(more)
    assert continued_from("run") is None, "its own checkpoint, given by its path, is no other run's"
    assert [network.role for network in lineage(str(checkpoint), "it")] == ["it", "the speaker matcher of it"]


def test_a_speaker_matcher_of_another_shape_or_attribute_is_refused(trained, psegan_arguments, from_repository):
    shape = "--model.init_args.speaker_matcher.init_args.widths=[8, 16]"
    with pytest.raises(PseganError, match="another encoder than model.init_args.speaker_matcher"):
        training.main([*psegan_arguments, shape])
    with pytest.raises(PseganError, match="does not recognise speaker"):
        training.main([*psegan_arguments, f"--model.init_args.speaker_matcher_checkpoint={trained('emotion')}"])


def test_a_damaged_checkpoint_is_one_line(psegan_arguments, from_repository, tmp_path):
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"PK\x03\x04 half")
    with pytest.raises(PseganError, match=r"damaged\.ckpt: cannot be read as a checkpoint"):
        training.main([*psegan_arguments, f"--ckpt_path={damaged}"])


def test_what_is_no_checkpoint_of_ours_is_one_line(psegan_arguments, from_repository, tmp_path):
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    for name, message in {
        "empty": "cannot be read as a checkpoint",
        "foreign": "holds no checkpoint of psegan",
    }.items():
        with pytest.raises(PseganError, match=rf"{name}\.ckpt: {message}"):
            training.main([*psegan_arguments, f"--ckpt_path={tmp_path / name}.ckpt"])


def test_a_broken_overlay_is_named(tmp_path, psegan_arguments, from_repository):
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(PseganError, match=r"broken\.yaml: is not YAML"):
        training.main([*psegan_arguments, "--config", str(tmp_path / "broken.yaml")])


def test_continuing_what_is_not_there_is_refused(psegan_arguments, from_repository):
    with pytest.raises(PseganError, match=r"holds no last\.ckpt: correct --run\.dir"):
        training.main([*psegan_arguments, "--ckpt_path=last"])


def test_a_run_folder_that_is_a_file_is_one_line(psegan_arguments, from_repository, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PseganError, match="is a file where a folder is needed"):
        training.main([*psegan_arguments, f"--run.dir={tmp_path / 'file' / 'run'}"])


def test_a_disk_that_fills_up_stops_a_run_in_one_line_and_the_run_goes_on(tiny, from_repository, tmp_path, full_disk):
    command = [
        "fit", "--config", "experiments/classifier.yaml", *tiny, "--model.init_args.attribute=gender",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", f"--run.dir={tmp_path}",
        "--run.loggers=[csv,tensorboard]", "--ckpt_path=auto",
    ]  # fmt: skip
    for size, name in {1_000: "config.yaml", 100_000: "checkpoints/last.ckpt"}.items():
        with full_disk(size), pytest.raises(PseganError) as caught:
            training.main(command)
        assert str(caught.value) == (
            f"{tmp_path / name}: cannot be written (File too large); make room, and run the same command again"
        )
        assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
        assert not (tmp_path / name).exists()
    training.main(command)
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 2, "one validation, since the epoch was repeated"


def test_a_monitor_that_nobody_logs_is_one_line(tiny, from_repository, tmp_path):
    with pytest.raises(PseganError, match="monitor='val/uaar'.* could not find the monitored key.*'val/uar'"):
        training.main([
            "fit", "--config", "experiments/classifier.yaml", *tiny, "--model.init_args.attribute=gender",
            "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2",
            "--trainer.enable_progress_bar=false", "--run.loggers=[]", f"--run.dir={tmp_path}",
            "--best.monitor=val/uaar",
        ])  # fmt: skip


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (3_000, ["report", "docs/results/ravdess/paper", "-o", "OUT/page.html"]),
        (3_000, ["export", "CHECKPOINT", "-o", "OUT/weights"]),
        (20, ["export", "CHECKPOINT", "-o", "OUT/weights"]),
        (20, ["reproduce", "--config", "experiments/reproduce/demo.yaml", "--out", "OUT"]),
        (20, ["evaluate", "--config", "experiments/evaluate/demo.yaml", "--out", "OUT"]),
    ],
)
def test_a_full_disk_is_one_line(size, words, from_repository, trained, tmp_path, full_disk, monkeypatch, capsys):
    named = {"OUT": str(tmp_path / "out"), "CHECKPOINT": trained("emotion")}
    for name, value in named.items():
        words = [word.replace(name, value) for word in words]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["psegan", *words])
    with full_disk(size):
        assert cli.main() == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"psegan: error: {tmp_path / 'out'}")
    assert "cannot be written" in line and "File too large" in line
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []


def test_output_that_cannot_be_printed_is_one_line(from_repository, tmp_path):
    command = [sys.executable, "-m", "psegan.cli", "report", "docs/results/ravdess/paper", "-o", tmp_path / "page.html"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("psegan: error: a file or the output: cannot be written (No space left on device)")


def test_judging_needs_trained_weights_and_leaves_the_training_alone(
    psegan_arguments, from_repository, tmp_path, trained
):
    training.main([*psegan_arguments, "--run.loggers=[csv]", "--trainer.log_every_n_steps=1"])
    run = tmp_path / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    judge = ["--config", str(run / "config.yaml"), f"--privacy.emotion_classifier={trained('emotion')}",
             f"--privacy.speaker_classifier={trained('speaker')}"]  # fmt: skip
    for command in ("validate", "test", "predict"):
        with pytest.raises(PseganError, match=f"psegan {command} needs a trained system: give --ckpt_path"):
            training.main([command, *judge])
        training.main([command, *judge, "--ckpt_path=last"])
    assert {path: path.read_bytes() for path in before} == before
    assert "test/emotion_accuracy" in (run / "test" / "metrics.csv").read_text()
    assert "val/speaker_eer" in (run / "validate" / "metrics.csv").read_text()
    assert list((run / "test" / "figures" / "test").glob("roc_emotion-*.png"))
    assert len(list((run / "predict" / "protected").rglob("*.flac"))) == 10


def test_a_classifiers_predictions_are_a_table(trained, tiny, from_repository, tmp_path):
    training.main([
        "predict", "--config", "experiments/classifier.yaml", *tiny, "--model.init_args.attribute=emotion",
        "--run.loggers=[]", f"--run.dir={tmp_path}", "--trainer.enable_progress_bar=false",
        f"--ckpt_path={trained('emotion')}",
    ])  # fmt: skip
    lines = (tmp_path / "predict" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "id,neutral,happy,sad,angry,fearful"
    assert len(lines) == 11
    assert sum(map(float, lines[1].split(",")[1:])) == pytest.approx(1, abs=1e-5)


def test_a_classifier_is_not_continued_at_another_length(trained, tiny, from_repository, tmp_path):
    command = [
        "fit", "--config", "experiments/classifier.yaml", *tiny, "--run.loggers=[]", f"--run.dir={tmp_path}",
        f"--ckpt_path={trained('emotion')}", "--trainer.max_epochs=3",
    ]  # fmt: skip
    with pytest.raises(PseganError, match="planned for 1 epoch"):
        training.main(command)
    with pytest.raises(PseganError, match=r"planned for 10 steps .* now it would take 24"):
        training.main(
            [*command, "--trainer.max_epochs=1", "--trainer.limit_train_batches=24", "--data.init_args.batch_size=2"]
        )
    assert not any(tmp_path.iterdir()), "a refused run leaves nothing"


def test_synchronised_batch_norm_is_refused(psegan_arguments, from_repository):
    with pytest.raises(PseganError, match="sync_batchnorm"):
        training.main([*psegan_arguments, "--trainer.sync_batchnorm=true"])


def test_an_unknown_command_and_none():
    assert run("frobnicate").returncode == 2
    assert run().returncode == 2
    assert run("--version").stdout.startswith("psegan ")


@pytest.mark.parametrize("batches", [2, 3, 5, 6])
def test_a_classifier_learns_in_a_handful_of_steps(batches, tiny, from_repository, tmp_path):
    training.main([
        "fit", "--config", "experiments/classifier.yaml", *tiny, "--run.loggers=[]", f"--run.dir={tmp_path}",
        "--trainer.max_epochs=1", f"--trainer.limit_train_batches={batches}", "--data.init_args.batch_size=8",
        "--trainer.enable_progress_bar=false",
    ])  # fmt: skip


def test_a_failed_start_leaves_no_run(psegan_arguments, from_repository, tmp_path):
    arguments = [*psegan_arguments, "--run.loggers=[csv,tensorboard,wandb]"]
    for missing in ("model.init_args.speaker_matcher_checkpoint", "privacy.emotion_classifier"):
        with pytest.raises(PseganError, match="no such checkpoint"):
            training.main([*arguments, f"--{missing}=nowhere.ckpt"])
    assert not list(tmp_path.rglob("offline-run-*"))
