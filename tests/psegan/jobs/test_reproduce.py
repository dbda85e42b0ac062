"""``psegan reproduce``: every output is there, complete stages are skipped, other settings are refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import yaml

from psegan.common.errors import PseganError
from psegan.common.files import commit
from psegan.common.record import Record
from psegan.evaluation.specification import Evaluation
from psegan.jobs.job import planned
from psegan.jobs.reproduce import Part, Reproduction, _settings, announce, evaluate_systems, remaining, reproduce
from psegan.report.results import Results


@pytest.fixture
def experiment_file(from_repository, tmp_path):
    """The demo, watched by two classifiers, on a tiny corpus with just the ``ignorant`` attacker, into ``tmp_path / "out"``."""
    content = yaml.safe_load((from_repository / "experiments" / "reproduce" / "demo.yaml").read_text())
    evaluation = yaml.safe_load((from_repository / content["evaluation"]).read_text())
    evaluation |= {"ladder": ["ignorant"], "systems": {}, "resamples": 100}
    watchers = {
        name: {"config": ["experiments/classifier.yaml"], "set": {"model.init_args.attribute": name}}
        for name in ("emotion", "speaker")
    }
    content["stages"] = watchers | content["stages"]
    content["stages"]["psegan"]["set"] |= {f"privacy.{name}_classifier": f"{{{name}}}" for name in watchers}
    content["evaluation"] = str(tmp_path / "evaluation.yaml")
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False))
    content["out"] = str(tmp_path / "out")
    content["set"] = {
        "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
        "trainer.enable_progress_bar": False, "run.loggers": ["csv"],
    }  # fmt: skip
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(path, **options):
    reproduce(Reproduction.read(str(path)), max_epochs=1, workers=1, **options)


def test_a_reproduction_publishes_and_is_not_done_twice(experiment_file, tmp_path, capsys):
    run(experiment_file)
    out = tmp_path / "out"
    results = Results.from_json(out / "results.json")
    assert {row.system for row in results.rows} == {"original", "copy-synthesis", "psegan"}
    assert {(row.attribute, row.metric) for row in results.rows} >= {
        ("emotion", "accuracy"), ("emotion", "uar"), ("emotion", "auc"), ("emotion", "eer"), ("speaker", "accuracy"),
        ("speaker", "eer"), ("gender", "accuracy"), ("content", "accuracy"),
    }  # fmt: skip
    assert {row.n for row in results.rows} == {10}, "the experiment's settings must reach the evaluation's corpus"
    assert (out / "results.csv").read_text().startswith("system,corpus,split")
    assert "<html" in (out / "report.html").read_text()
    assert (out / "psegan" / "config.yaml").exists()
    printed = capsys.readouterr().out
    assert "\nevaluation\n" in printed
    assert "report.html" in printed

    stages = [path for path in out.rglob("*") if path.is_file() and "manifests" not in path.parts]
    stamps = {path: path.stat().st_mtime_ns for path in stages}
    run(experiment_file)
    assert {path: path.stat().st_mtime_ns for path in stages} == stamps
    assert capsys.readouterr().out.count("complete, nothing to do") == 4

    (out / "results.json").unlink()
    run(experiment_file, out=f"{out}/../out")  # the same folder, spelt otherwise
    assert (out / "results.json").exists()
    assert capsys.readouterr().out.count("complete, nothing to do") == 4

    content = yaml.safe_load(experiment_file.read_text())
    content["stages"]["speaker"]["set"]["model.init_args.learning_rate"] = 1e-4
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(
        PseganError,
        match=r"speaker was made with other settings \(set\.model\.init_args\.learning_rate was None, now 0\.0001\)",
    ):
        run(experiment_file)


def test_splits_and_folds_are_reproduced_side_by_side(experiment_file, tmp_path, capsys, monkeypatch):
    content = yaml.safe_load(experiment_file.read_text())
    content["splits"] = {"paper": [], "speaker-disjoint": [0, 1]}
    content["set"]["data.init_args.n_speakers"] = 8
    content["stages"] = {name: stage | {"minutes": 1} for name, stage in content["stages"].items()}
    for name in ("emotion", "speaker"):  # who only watch a training
        content["stages"].pop(name)
        content["stages"]["psegan"]["set"].pop(f"privacy.{name}_classifier")
    evaluation = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    evaluation |= {"judges": {}, "verifier": {}, "shuffles": 1}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False))
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment = Reproduction.read(str(experiment_file))
    announce(experiment, tmp_path / "out", workers=2)
    assert re.search(r"about .* with 2 process\(es\) at a time, and what has no estimate", capsys.readouterr().out)
    # two stages in three parts, one after the other; three systems and controls scored in each
    assert remaining(experiment, tmp_path / "out") == ([1, 1, None, None, None] * 3, 2)
    scored = replace(experiment, evaluation_minutes=3.0, epochs={"speaker-disjoint": 2.0})
    assert remaining(scored, tmp_path / "out") == ([1, 1, 3, 3, 3] * 3, 2)
    faster = replace(scored, minutes={"speaker-disjoint": 0.5})
    assert remaining(faster, tmp_path / "out") == ([1, 1, 3, 3, 3] + [0.5, 0.5, 3, 3, 3] * 2, 2)
    assert remaining(scored, tmp_path / "out", ["ignorant"])[0] == [1, 1, None, None, None] * 3
    stage = experiment.stages[-1]
    for part, factor in zip(experiment.parts(), (1, 2, 2), strict=True):
        epochs = planned(stage.config, stage.set, "trainer.max_epochs", None)
        assert _settings(scored, stage, part, None, None).get("trainer.max_epochs", epochs) == factor * epochs
    asked: list[Evaluation] = []
    with monkeypatch.context() as patch:
        patch.setattr("psegan.jobs.evaluate.evaluate", lambda evaluation, *_: asked.append(evaluation))
        for part in scored.parts():
            evaluate_systems(scored, {}, tmp_path, parts=[part])
    assert [(one.epochs, one.folds) for one in asked] == [(1, [0]), (2, [0]), (2, [1])]
    reproduce(experiment.narrowed(["speaker-disjoint"], None), max_epochs=1, workers=2)
    assert not (tmp_path / "out" / "paper").exists()
    disjoint = tmp_path / "out" / "speaker-disjoint"
    results = Results.from_json(disjoint / "results.json")
    assert {row.fold for row in results.rows} == {None, 0, 1}
    assert results.header["folds"] == {"synthetic": 4}
    assert "2 of 4 folds" in (disjoint / "report.html").read_text()
    made_by = [commit() or "unknown"]
    assert results.header["commits of trainings"] == {"systems": made_by, "attackers and judges": made_by}
    heard = results.header["heard by the systems"]["psegan"]
    assert "speaker-disjoint" in heard
    for fold in (0, 1):
        config = yaml.safe_load((disjoint / f"systems-{fold}" / "psegan" / "config.yaml").read_text())
        assert config["data"]["init_args"]["speakers"] == "protector"
        assert config["data"]["init_args"]["fold"] == fold
    with pytest.raises(PseganError, match="--splits random: the experiment has paper, speaker-disjoint"):
        experiment.narrowed(["random"], None)
    with pytest.raises(PseganError, match="none of the experiment's splits has folds"):
        experiment.narrowed(["paper"], [2])
    with pytest.raises(PseganError, match=r"--folds holds \[1, 1\]"):
        experiment.narrowed(None, [1, 1])
    other = experiment.narrowed(None, [2])
    assert other.splits == {"paper": [], "speaker-disjoint": [2]}
    # what is published stays so
    assert other.beside(experiment, tmp_path / "out").splits == {"paper": [], "speaker-disjoint": [0, 1, 2]}
    assert replace(other, systems={}, stages=()).beside(experiment, tmp_path / "out") == replace(
        experiment, splits={"paper": [], "speaker-disjoint": [0, 1, 2]}
    )
    assert remaining(experiment.narrowed(["speaker-disjoint"]), tmp_path / "out") == ([], 0)


def test_a_corpus_that_is_not_there_is_said_at_once(tmp_path):
    experiment = Reproduction.read("experiments/reproduce/ravdess.yaml")
    with pytest.raises(PseganError, match="nowhere"):
        reproduce(experiment, out=str(tmp_path / "out"), data_root=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists(), "nothing has begun"


def test_a_part_of_the_systems_needs_a_part_of_the_stages():
    experiment = Reproduction.read("experiments/reproduce/ravdess.yaml")
    assert experiment.narrowed().stages == experiment.stages
    part = experiment.narrowed(systems=["psegan-no-sm"])
    assert set(part.systems) == {"psegan-no-sm"}
    assert [stage.name for stage in part.stages] == ["emotion", "speaker", "critic", "psegan-no-sm"]
    with pytest.raises(PseganError, match="--systems gan: the experiment has psegan, gengan"):
        experiment.narrowed(systems=["gan"])


def test_an_interrupted_reproduction_goes_on(experiment_file, from_repository, tmp_path):
    """Ctrl-C while a stage trains: the stage is not taken for complete; the same command finishes it."""
    content = yaml.safe_load(experiment_file.read_text())
    for name, stage in content["stages"].items():
        stage.setdefault("set", {})["trainer.max_epochs"] = 40 if name == "emotion" else 1
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "psegan.cli", "reproduce", "--config", str(experiment_file), "--workers=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # a shell that runs pytest in the background lets its children ignore Ctrl-C
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
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

    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "emotion: continuing: psegan fit" in again.stdout
    assert (tmp_path / "out" / "report.html").exists()


def test_a_record_knows_other_settings(tmp_path):
    record = Record(tmp_path / "stage.json", {"a": 1, "b": {"c": (1, 2)}})
    assert not record.begun
    record.begin()
    again = Record(tmp_path / "stage.json", {"a": 1, "b": {"c": (1, 2)}})
    assert again.begun
    assert not again.complete
    assert not again.difference
    record.finish()
    assert Record(tmp_path / "stage.json", {"a": 1, "b": {"c": (1, 2)}}).complete
    assert Record(tmp_path / "stage.json", {"a": 1, "b": {"c": 3}}).difference == "b.c was [1, 2], now 3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(stagse={}), "unknown key 'stagse'"),
        (lambda c: c.pop("corpus"), "lacks the key 'corpus'"),
        (lambda c: c["stages"]["emotion"].update(overlay=1), r"stages\.emotion: unknown key 'overlay'"),
        (lambda c: c["systems"].update(psegan="nowhere"), r"systems\.psegan names stage 'nowhere'"),
        (lambda c: c.pop("evaluation"), "lacks the key 'evaluation'"),
        (lambda c: c.update(evaluation={}), r"evaluation is \{\}, but must be text"),
        (lambda c: c.update(stages=["emotion"]), r"stages is \['emotion'\], but must be a mapping"),
        (lambda c: c["stages"].update(emotion=None), r"stages\.emotion is None, but must be a mapping"),
        (lambda c: c["stages"]["emotion"].update(config="a.yaml"), r"config is 'a\.yaml', but must be a list"),
        (lambda c: c["stages"]["emotion"].update(set=["a"]), r"set is \['a'\], but must be a mapping"),
        (lambda c: c.update(seed="one"), "seed is 'one', but must be a whole number"),
        (lambda c: c.update(splits={"paper": ["a"]}), r"splits\.paper holds \['a'\], but must hold different whole"),
        (lambda c: c.update(splits={"paper": [0]}), "no other split has any"),
        (lambda c: c.update(splits={"speaker-disjoint": []}), "split speaker-disjoint needs folds"),
        (lambda c: c.update(splits={"paper": []}, epochs={"paper": "two"}), r"epochs\.paper is 'two', but"),
        (lambda c: c.update(splits={"paper": []}, minutes={"ppaer": 0.5}), r"minutes\.ppaer is of a split"),
        (lambda c: c.update(splits={"paper": []}, epochs={"paper": 0}), "must be a factor above 0"),
        (lambda c: c.update(set={"privacy.emotion_classifier": "{emotion}"}), "refers to a stage"),
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


def test_several_devices_and_broken_overlays_are_refused(experiment_file, tmp_path):
    content = yaml.safe_load(experiment_file.read_text())
    content["set"]["trainer.devices"] = 2
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match="trains on one device"):
        run(experiment_file)
    content["set"].pop("trainer.devices")
    (tmp_path / "broken.yaml").write_text("a: [")
    content["stages"]["emotion"]["config"].append(str(tmp_path / "broken.yaml"))
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=r"broken\.yaml: is not YAML"):
        run(experiment_file)


def test_a_seed_reaches_every_stage(experiment_file):
    content = yaml.safe_load(experiment_file.read_text())
    content["seed"] = 3
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment = Reproduction.read(str(experiment_file))
    seeds = {
        stage.name: _settings(experiment, stage, Part(), None, None)["seed_everything"] for stage in experiment.stages
    }
    assert seeds == {"emotion": 3, "speaker": 3, "speaker_matcher": 1003, "psegan": 3}
