"""``psegan reproduce``: every output is there, complete stages are skipped, other settings are refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from psegan.errors import PseganError
from psegan.evaluation.results import Results
from psegan.pipeline import Record, Reproduction, reproduce


@pytest.fixture
def experiment_file(from_repository, tmp_path):
    """The demo on a tiny corpus, into ``tmp_path / "out"``."""
    content = yaml.safe_load((from_repository / "experiments" / "reproduce" / "demo.yaml").read_text())
    content["out"] = str(tmp_path / "out")
    content["set"] = {
        "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
        "trainer.enable_progress_bar": False, "run.loggers": ["csv"],
    }  # fmt: skip
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(path, **options):
    reproduce(Reproduction.read(str(path)), max_epochs=1, **options)


def test_a_reproduction_publishes_and_is_not_done_twice(experiment_file, tmp_path, capsys):
    run(experiment_file)
    out = tmp_path / "out"
    results = Results.from_json(out / "results.json")
    assert {row.system for row in results.rows} == {"original", "copy-synthesis", "psegan"}
    assert {(row.attribute, row.metric) for row in results.rows} >= {
        ("emotion", "accuracy"), ("emotion", "uar"), ("emotion", "auc"), ("emotion", "eer"), ("speaker", "accuracy"),
        ("speaker", "eer"), ("gender", "accuracy"), ("content", "accuracy"),
    }  # fmt: skip
    assert all(row.low <= row.high for row in results.rows if row.low is not None)
    assert results.header["weights"].keys() == {
        "emotion", "speaker", "gender", "content", "speaker_matcher", "psegan"
    }  # fmt: skip
    assert (out / "results.csv").read_text().startswith("system,corpus,split")
    assert "<html" in (out / "report.html").read_text()
    assert len(list((out / "figures").glob("*.png"))) == 2 + 2 * 2 + 3
    assert len(list((out / "audio").glob("*.wav"))) == 3 * 3
    assert (out / "psegan" / "config.yaml").exists()
    printed = capsys.readouterr().out
    assert "[7/7] score" in printed
    assert "report.html" in printed

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    run(experiment_file)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == stamps
    assert capsys.readouterr().out.count("complete, nothing to do") == 7

    content = yaml.safe_load(experiment_file.read_text())
    content["stages"]["gender"]["set"]["model.init_args.learning_rate"] = 1e-4
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=r"gender was made with other settings \(arguments was"):
        run(experiment_file)


def test_an_interrupted_reproduction_goes_on(experiment_file, from_repository, tmp_path):
    """Ctrl-C while a stage trains: the stage is not taken for complete; the same command finishes it."""
    command = [sys.executable, "-m", "psegan.cli", "reproduce", "--config", str(experiment_file)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "out" / "emotion" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in stderr
    state = json.loads((tmp_path / "out" / "emotion" / "stage.json").read_text())
    assert state["complete"] is False
    assert not (tmp_path / "out" / "speaker").exists()


def test_a_record_of_other_settings_is_refused(tmp_path):
    record = Record(tmp_path / "stage.json", {"a": 1})
    assert not record.begun
    record.begin()
    assert not Record(tmp_path / "stage.json", {"a": 1}).complete
    record.finish()
    assert Record(tmp_path / "stage.json", {"a": 1}).complete
    with pytest.raises(PseganError, match="a was 1, now 2"):
        Record(tmp_path / "stage.json", {"a": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(stagse={}), "unknown key 'stagse'"),
        (lambda c: c.pop("corpus"), "lacks the key 'corpus'"),
        (lambda c: c["stages"]["emotion"].update(overlay=1), r"stages\.emotion: unknown key 'overlay'"),
        (lambda c: c["systems"].update(psegan="nowhere"), r"systems\.psegan names stage 'nowhere'"),
        (lambda c: c["classifiers"].pop("gender"), "classifiers must name a stage for each of"),
    ],
)
def test_errors_in_an_experiment_file_are_named(experiment_file, change, message):
    content = yaml.safe_load(experiment_file.read_text())
    change(content)
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=message):
        Reproduction.read(str(experiment_file))


def test_missing_and_broken_files(tmp_path, from_repository):
    with pytest.raises(PseganError, match="cannot be read"):
        Reproduction.read(str(tmp_path / "none.yaml"))
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(PseganError, match="is not YAML"):
        Reproduction.read(str(tmp_path / "broken.yaml"))


def test_a_reference_to_a_later_stage_is_named(experiment_file):
    content = yaml.safe_load(experiment_file.read_text())
    content["stages"] = {"psegan": content["stages"].pop("psegan"), **content["stages"]}
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=r"refers to \{speaker_matcher\}, which is no earlier stage"):
        run(experiment_file)
