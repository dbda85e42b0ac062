"""What a run leaves in CSV, TensorBoard, W&B and as PNG files, read back with each one's own reader."""

import csv
import json
import threading

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.training import command as training
from psegan.training.identity import variant_of
from psegan.training.loggers import ContinuedCSVLogger, RunSettings, quiet_writers
from tests.support.offline import configuration, history, kinds, read_offline_run

SCALARS = {
    "val/emotion_accuracy", "val/emotion_uar", "val/emotion_eer", "val/emotion_auc", "val/speaker_accuracy",
    "val/speaker_eer", "val/emotion_accuracy_original", "val/speaker_eer_original", "val/distortion",
    "train/generator/total", "train/discriminator/total", "train/generator/gradient_norm",
    "train/discriminator/gradient_norm", "train/generator/learning_rate", "train/discriminator/learning_rate",
}  # fmt: skip
FIGURES = {"val/roc_emotion", "val/roc_speaker", "val/tsne_emotion"}


@pytest.fixture(scope="module")
def wandb_environment():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", "/nonexistent")
        yield


@pytest.fixture
def logged(psegan_arguments, trained, from_repository, wandb_environment, tmp_path, capsys):
    """The run's folder after one measured epoch with all loggers, and a second in continuation, with a key and no network."""
    arguments = [
        *(a for a in psegan_arguments if not a.startswith(("--run.loggers", "--trainer.limit_val"))),
        f"--privacy.emotion_classifier={trained('emotion')}", f"--privacy.speaker_classifier={trained('speaker')}",
        "--trainer.log_every_n_steps=1", "--trainer.check_val_every_n_epoch=1", "--run.group=tests",
        "--run.tags=[tiny]", "--samples.n_utterances=1",
    ]  # fmt: skip
    training.main(arguments)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", 40 * "0")
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        training.main([*arguments, "--ckpt_path=last", "--trainer.max_epochs=2"])
    lines = [line for line in capsys.readouterr().err.splitlines() if "127.0.0.1" in line or "wandb" in line]
    assert lines == [
        "psegan: warning: http://127.0.0.1:9 does not answer (Connection refused), so this run is offline; upload it later, "
        f"with wandb sync --append {tmp_path}/run/wandb/offline-run-*"
    ]
    return tmp_path / "run"


def test_every_logger_has_everything(logged):
    with (logged / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert set(table[0]) >= SCALARS
    assert {row["epoch"] for row in table} == {"0", "1"}, "the continued run keeps the rows of the first"

    events = EventAccumulator(str(logged / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["scalars"]) >= SCALARS
    assert set(events.Tags()["images"]) >= FIGURES
    speech = [tag for tag in events.Tags()["images"] if tag.startswith("val/speech_")]
    assert len(speech) == 1

    for name in [*FIGURES, *speech]:
        for epoch in (0, 1):
            png = (logged / "figures" / f"{name}-{epoch:04d}.png").read_bytes()
            assert png.startswith(b"\x89PNG")
            assert len(png) > 5000

    runs = sorted((logged / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    records = [read_offline_run(run) for run in runs]
    for part in records:
        found = history(part)
        assert set(found) >= SCALARS
        for name in [*FIGURES, *speech]:
            (image,) = found[name]
            assert image["_type"] == "images/separated"
        for attribute in ("emotion", "speaker"):
            (table_file,) = found[f"val/roc_{attribute}_curve_table"]
            assert table_file["_type"] == "table-file"
        config = configuration(part)
        assert config["model"]["class_path"] == "psegan.systems.PSEGAN"
        assert config["model"]["init_args"]["generator_optimizer"]["init_args"]["betas"] == [0.5, 0.9]
        assert config["data"]["class_path"] == "datamodules.SyntheticDataModule"
    for run in runs:
        assert list((run / "files" / "media" / "images").rglob("*.png"))
        tables = sorted((run / "files" / "media" / "table").rglob("*roc_emotion*.json"))
        content = json.loads(tables[0].read_text())
        assert content["columns"] == ["class", "fpr", "tpr"]
        assert {row[0] for row in content["data"]} == {"original", "protected"}
        assert [row[1:] for row in content["data"] if row[0] == "protected"][-1] == [1.0, 1.0]

    for part in records:
        defined = {
            r.metric.name or r.metric.glob_name: r.metric for r in part if r.WhichOneof("record_type") == "metric"
        }
        assert defined["val/*"].step_metric == "epoch"
        assert defined["val/emotion_uar"].summary.min and defined["val/speaker_accuracy"].summary.max
        assert defined["val/emotion_uar"].summary.last

    first, second = (next(r.run for r in part if r.WhichOneof("record_type") == "run") for part in records)
    assert first.run_id == second.run_id == (logged / "wandb" / "run-id").read_text().strip()
    assert first.project == "psegan"
    assert first.run_group == "tests"
    assert list(first.tags) == ["tiny"]
    assert first.job_type == "training"
    assert first.display_name == "psegan · synthetic · paper · seed 0"
    for part in records:
        expected = {
            "system": "psegan",
            "variant": "psegan",
            "corpus": "synthetic",
            "split": "paper",
            "fold": None,
            "seed": 0,
        }
        assert configuration(part).items() >= expected.items()
        assert history(part)["train/generator/learning_rate"][-1] == pytest.approx(1e-4)
        (artifact,) = (one for one in kinds(part, "artifact") if one.type == "model")
        assert artifact.name == f"model-{first.run_id}"
        (entry,) = artifact.manifest.contents
        assert (entry.path, entry.ref) == ("last.ckpt", (logged / "checkpoints" / "last.ckpt").as_uri())
    first_steps, second_steps = (history(part)["trainer/global_step"] for part in records)
    assert max(first_steps) < max(second_steps)


def test_judging_a_training_is_a_run_of_its_own(logged, tmp_path):
    """It neither renames the training's run in W&B nor writes into it."""
    before = sorted((logged / "wandb").iterdir())
    training.main(["test", "--config", str(logged / "config.yaml"), "--ckpt_path=last"])
    assert sorted((logged / "wandb").iterdir()) == before
    (folder,) = (logged / "test" / "wandb").glob("offline-run-*")
    records = read_offline_run(folder)
    (run,) = kinds(records, "run")
    trained = (logged / "wandb" / "run-id").read_text().strip()
    assert run.run_id == (logged / "test" / "wandb" / "run-id").read_text().strip() != trained
    assert (run.job_type, run.display_name) == ("test", "psegan · synthetic · paper · seed 0 · test")
    config = configuration(records)
    assert config["training"] == trained and config["variant"] == "psegan"
    assert "test/emotion_uar" in history(records)

    other, checkpoint = tmp_path / "other", logged / "checkpoints" / "last.ckpt"
    training.main(["test", f"--config={logged}/config.yaml", f"--ckpt_path={checkpoint}", f"--run.dir={other}"])
    (folder,) = (other / "test" / "wandb").glob("offline-run-*")
    assert configuration(read_offline_run(folder))["training"] == trained, "of the checkpoint, whatever the folder"


@pytest.mark.parametrize(
    ("overlays", "attribute", "expected"),
    [
        (["experiments/psegan.yaml", "experiments/corpora/ravdess.yaml"], None, "psegan"),
        (["experiments/psegan.yaml", "a.yaml", "experiments/ablations/no_sm_no_grn.yaml"], None, "psegan-no-sm-no-grn"),
        (["experiments/psegan.yaml", "experiments/neutral.yaml"], None, "neutral"),
        (["experiments/classifier.yaml"], "emotion", "classifier-emotion"),
        (["experiments/speaker_matcher.yaml"], "speaker", "speaker-matcher"),
        (["mine.yaml"], None, None),
    ],
)
def test_a_training_is_called_after_its_overlays(overlays, attribute, expected):
    assert variant_of(overlays, attribute) == expected


@pytest.mark.parametrize(
    ("said", "classified", "overlays", "attribute", "expected"),
    [
        ("psegan", None, [], None, "psegan"),
        ("mine", "emotion", [], "emotion", "mine"),
        ("classifier-emotion", "emotion", [], "speaker", "classifier-speaker"),
        ("psegan", None, ["experiments/ablations/no_sm.yaml"], None, "psegan-no-sm"),
        ("psegan-no-sm", None, ["experiments/ablations/no_sm.yaml"], None, "psegan-no-sm"),
        ("psegan-no-sm", None, ["experiments/gengan.yaml"], None, "gengan"),
    ],
)
def test_a_saved_configuration_says_its_name(said, classified, overlays, attribute, expected, tmp_path):
    saved = tmp_path / "config.yaml"
    saved.write_text(f"run: {{variant: {said}}}\nmodel: {{init_args: {{attribute: {classified or 'null'}}}}}\n")
    assert variant_of([str(saved), *overlays], attribute) == expected


def test_a_training_from_a_saved_configuration_is_called_anew(psegan_arguments, from_repository, tmp_path):
    training.main(psegan_arguments)
    words = ["fit", f"--config={tmp_path}/run/config.yaml", "--config=experiments/ablations/no_sm.yaml"]
    for name, more, expected in (("a", [], "psegan-no-sm"), ("b", ["--run.variant=psegan"], "psegan")):
        training.main([*words, f"--run.dir={tmp_path / name}", *more])
        assert read_yaml(tmp_path / name / "config.yaml")["run"]["variant"] == expected


def test_the_wandb_id_is_drawn_once(tmp_path):
    assert RunSettings(dir=str(tmp_path / "a")).identify() == RunSettings(dir=str(tmp_path / "a")).identify()
    assert RunSettings(dir=str(tmp_path / "a")).identify() != RunSettings(dir=str(tmp_path / "b")).identify()


@pytest.mark.parametrize("rest", ["0", "0,2", "0,2,0."])
def test_a_row_that_was_cut_short_is_dropped(tmp_path, rest):
    """As by a kill: without its epoch it would stay for good."""
    (tmp_path / "metrics.csv").write_bytes(f"epoch,step,loss\r\n0,1,0.5\r\n{rest}".encode())
    logger = ContinuedCSVLogger(str(tmp_path), name="", version="")
    logger.rewind(0)
    logger.log_metrics({"epoch": 1, "loss": 0.25}, 3)
    logger.log_metrics({"epoch": 1, "loss": 0.2, "accuracy": 1.0}, 4)
    logger.save()
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows == ["accuracy,epoch,loss,step", ",0,0.5,1", ",1,0.25,3", "1.0,1,0.2,4"]


def test_a_full_disk_leaves_whole_rows(tmp_path, full_disk):
    logger = ContinuedCSVLogger(str(tmp_path), name="", version="")
    logger.log_metrics({"epoch": 0, "loss": 0.5}, 1)
    logger.save()
    before = (tmp_path / "metrics.csv").read_bytes()
    with full_disk(len(before) + 10):
        for more in ({}, {"accuracy": 1.0}):  # a row, and a column
            logger.log_metrics({"epoch": 1, "loss": 0.123456789, **more}, 2)
            with pytest.raises(OSError, match=r"File too large: .*metrics\.csv"):
                logger.save()
            assert (tmp_path / "metrics.csv").read_bytes() == before


def test_tensorboard_on_a_full_disk_fails_in_our_thread_alone(tmp_path, full_disk, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    logger = TensorBoardLogger(tmp_path)
    with quiet_writers(), full_disk(300), pytest.raises(OSError, match="File too large"):
        for step in range(20):
            logger.log_metrics({"loss": 1.0}, step)
            logger.experiment.flush()
    assert reported == []


def test_a_run_that_wandb_refuses_is_one_line(wandb_environment, tmp_path):
    (logger,) = RunSettings(str(tmp_path), ("wandb",), project="a/b", wandb_mode="offline").make_loggers()
    with pytest.raises(PseganError, match="W&B cannot begin the run .Invalid project name 'a/b'"):
        _ = logger.experiment
