"""``psegan sweep`` on the tiny synthetic corpus: killed, continued, one report; failures stay alone."""

import contextlib
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from psegan import cli
from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.jobs.job import Job
from psegan.jobs.options import Options
from psegan.jobs.sweep import check, check_metric, find_experiment, trial_jobs
from psegan.jobs.sweep_file import Sweep
from psegan.report.results import Results
from psegan.training import command as training
from tests.support.offline import configuration, history, kinds, read_offline_run, summary
from tests.support.wandb_server import serving

QUICK = {
    "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
    "trainer.limit_train_batches": 2, "trainer.limit_val_batches": 2, "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False, "trainer.log_every_n_steps": 1, "samples.n_utterances": 0,
}  # fmt: skip


@pytest.fixture
def files(from_repository, trained, tmp_path) -> dict[str, Path]:
    """A sweep of three systems and the experiment that evaluates them."""
    made = {name: tmp_path / f"{name}.yaml" for name in ("sweep", "experiment", "evaluation", "trained")}
    matcher = {"speaker_matcher_checkpoint": trained("speaker_matcher")}
    watch = {"emotion_classifier": trained("emotion"), "speaker_classifier": trained("speaker")}
    contents = {
        "trained": {"model": {"init_args": matcher}, "privacy": watch},
        "evaluation": yaml.safe_load(Path("experiments/evaluate/demo.yaml").read_text())
        | {"attackers": ["ignorant", "strongest"], "systems": {}, "resamples": 100, "n_clips": 1, "permutations": 1}
        | {"architectures": {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}}},  # in seconds
        "experiment": {
            "name": "tiny", "out": str(tmp_path / "before"), "corpus": "experiments/corpora/synthetic.yaml",
            "trainings": {}, "evaluation": str(made["evaluation"]), "systems": {},
            "set": {key: value for key, value in QUICK.items() if key.startswith("data")},
        },
        "sweep": {
            "name": "tiny", "method": "grid", "metric": {"name": "val/emotion_uar", "goal": "minimize"},
            "command": [
                "psegan", "fit", "--config=experiments/psegan.yaml", "--config=experiments/corpora/synthetic.yaml",
                f"--config={made['trained']}", "${args}", "--run.loggers=[csv,wandb]",
                *(f"--{key}={value}" for key, value in QUICK.items()),
            ],
            "parameters": {
                "config": {
                    "values": [
                        "experiments/gengan.yaml", "experiments/ablations/no_sm.yaml", "experiments/pcmelgan.yaml",
                    ]
                },
                "seed_everything": {"value": 0},
            },
        },
    }  # fmt: skip
    for name, content in contents.items():
        made[name].write_text(yaml.safe_dump(content, sort_keys=False))
    return made


def words(files: dict[str, Path], out: Path, *more: str) -> list[str]:
    options = ["--out", str(out), "--experiment", str(files["experiment"]), "--workers", "1", "--max-epochs", "1"]
    return ["sweep", str(files["sweep"]), *options, *more]


def children(process: int, *options: str) -> list[int]:
    command = ["pgrep", "-P", str(process), *options]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def change(path: Path, **parameters) -> None:
    content = yaml.safe_load(path.read_text())
    content["parameters"] |= parameters
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_a_killed_sweep_completes_and_redoes_nothing(files, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "psegan.cli", *words(files, out)]
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        first = out / "trials" / "gengan" / "checkpoints" / "last.ckpt"
        second = out / "trials" / "psegan-no-sm" / "job.json"
        until = time.monotonic() + 240
        while not second.exists() and killed.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert second.exists(), (tmp_path / "log").read_text()[-3000:]
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    made = first.stat().st_mtime_ns
    assert cli.run(words(files, out)) == 0
    assert first.stat().st_mtime_ns == made
    systems = {"original", "copy-synthesis", "gengan", "psegan-no-sm", "pcmelgan"}
    assert {row.system for row in Results.from_json(out / "evaluation-seed-0" / "results.json").rows} == systems
    assert "<html" in (out / "report.html").read_text()
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert all(0 <= float(row["metric"]) <= 1 for row in rows)
    group = yaml.safe_load((out / "trials" / "gengan" / "config.yaml").read_text())["run"]["group"]
    assert group == "tiny"
    assert list((out / "trials" / "gengan" / "wandb").glob("offline-run-*")), "grouped in W&B, offline"
    check_dashboard(out, systems)
    check_upload(out)
    logged = sorted(out.glob("*/wandb/offline-run-*"))
    capsys.readouterr()
    assert cli.run(words(files, out)) == 0
    assert sorted(out.glob("*/wandb/offline-run-*")) == logged, "what W&B has is not logged again"
    assert "all 3 trials are complete, nothing to train" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == made

    files["sweep"].write_text(files["sweep"].read_text().replace("val/emotion_uar", "val/emotion_uaar"))
    with pytest.raises(PseganError, match=r"metric is val/emotion_uaar, but trial gengan logs .*val/emotion_uar, "):
        cli.run(words(files, out))

    other = tmp_path / "other.yaml"
    other.write_text(files["sweep"].read_text().replace("name: tiny", "name: other"))
    with pytest.raises(PseganError, match="holds another sweep .name was 'tiny', now 'other'"):
        cli.run([*words({**files, "sweep": other}, out)])


def check_dashboard(out: Path, systems: set[str]) -> None:
    """What the sweep and its evaluation have left in W&B, offline: a run a trial, and a run a system."""
    trials = {}
    for folder in (out / "trials").iterdir():
        (path,) = (folder / "wandb").glob("offline-run-*")
        records = read_offline_run(path)
        (run,) = kinds(records, "run")
        assert (run.job_type, run.run_group) == ("training", "tiny")
        assert run.display_name == f"{folder.name} · synthetic · paper · seed 0"
        assert configuration(records)["variant"] == folder.name
        assert {"train/discriminator/learning_rate", "train/discriminator/gradient_norm"} <= history(records).keys()
        (kept,) = (one for one in kinds(records, "artifact") if one.type == "model")
        assert kept.manifest.contents[0].ref == (folder / "checkpoints" / "last.ckpt").as_uri()
        trials[folder.name] = (run.run_id, f"psegan/{kept.name}")
    evaluation = out / "evaluation-seed-0"
    ids = json.loads((evaluation / "wandb" / "evaluation.json").read_text())
    assert ids.keys() == systems
    rows = json.loads((evaluation / "results.json").read_text())["rows"]
    for system in systems:
        (path,) = (evaluation / "wandb").glob(f"offline-run-*-{ids[system]['id']}")
        records = read_offline_run(path)
        (run,) = kinds(records, "run")
        assert (run.project, run.job_type, run.run_group) == ("psegan", "evaluation", "tiny")
        assert run.display_name == f"{system} · synthetic · paper · seed 0 · evaluation"
        assert set(run.tags) >= {"synthetic", "paper", "shortened"}
        own = [row for row in rows if row["system"] == system]
        scores = summary(records)
        numbers = {name: value for name, value in scores.items() if isinstance(value, float | int) and name[0] != "_"}
        assert numbers == front(own)
        assert scores.keys() >= {"emotion/strongest/bits", "emotion/strongest/uar/low", "speaker/resemblyzer/eer"}
        assert system == "original" or scores.keys() >= {"speech/level/loudest_p95", "speech/stoi"}
        logged = history(records)
        for chart in ("roc/emotion", "roc/speaker", "confusion/strongest"):
            assert logged[f"{chart}_table"][0]["_type"] == "table-file"
        assert logged["scores"][0]["nrows"] == len(own)
        assert logged["recordings"][0]["nrows"] == 1
        contents = {one.name: one.manifest.contents for one in kinds(records, "artifact")}
        heard = [e.path for e in contents[f"run-{run.run_id}-recordings"] if e.path.endswith(".wav")]
        assert len(heard) == len({"original", "copy-synthesis", system})
        staged = [Path(e.local_path) for entries in contents.values() for e in entries]
        assert all(one.is_file() and one.is_relative_to(evaluation) for one in staged), (
            "all that W&B will upload is here"
        )
        artifacts = {one.type: [e.path for e in one.manifest.contents] for one in kinds(records, "artifact")}
        assert artifacts["results"] == ["results.csv", "results.json"]
        assert artifacts["dataset"] == [f"{system}.csv"]
        config = configuration(records)
        assert (config["variant"], config["corpus"], config["seed"]) == (system, "synthetic", 0)
        if system not in trials:
            assert (config["role"], config["system"], config["trained networks"]) == ("control", system, [])
            continue
        assert logged["speech"][0]["_type"] == "image-file"
        assert artifacts["model"] == ["README.md", "config.json", "model.safetensors"]
        (network,) = config["trained networks"]
        assert (config["training"], network["artifact"]) == trials[system]
        assert network["hash"] == file_hash(out / "trials" / system / "checkpoints" / "last.ckpt")


def front(rows: list[dict]) -> dict[str, float]:
    """What the front tables show of a system, which has no folds here: no differences, and no single attackers."""
    found = {}
    for row in rows:
        assert row["fold"] is None and not (row["attacker"] and row["judge"])
        if "-minus-" not in row["metric"] and "/" not in (row["attacker"] or ""):
            who = "".join(f"{row[by]}/" for by in ("attacker", "judge") if row[by])
            name = f"{row['attribute']}/{who}{row['metric']}"
            found |= {name: row["value"], f"{name}/low": row["low"], f"{name}/high": row["high"]}
    return {name: value for name, value in found.items() if value is not None}


def check_upload(out: Path) -> None:
    """That ``wandb sync`` takes a trial's run and an evaluated system's, to a stand-in for W&B's server."""
    evaluation = out / "evaluation-seed-0" / "wandb"
    id = json.loads((evaluation / "evaluation.json").read_text())["gengan"]["id"]
    folders = [*(out / "trials" / "gengan" / "wandb").glob("offline-run-*"), *evaluation.glob(f"offline-run-*-{id}")]
    with serving() as server:
        for folder in folders:
            command = [sys.executable, "-m", "wandb", "sync", "--append", str(folder)]
            done = subprocess.run(command, env=server.environment, capture_output=True, text=True)
            assert done.returncode == 0 and "ERROR" not in done.stderr, done.stderr
    assert {asked["jobType"] for asked in server.asked["UpsertBucket"]} >= {
        "training",
        "evaluation",
    }  # updates name none
    created = {name for asked in server.asked["CreateArtifact"] for name in asked["artifactCollectionNames"]}
    assert created >= {f"{kind}-{id}" for kind in ("results", "manifest", "weights")}
    assert any(name.startswith("model-") for name in created), "the trial's checkpoint"
    assert len(server.asked["CommitArtifact"]) == len(server.asked["CreateArtifact"])


def test_trials_of_other_settings_are_not_taken_for_complete(files, tmp_path):
    change(files["sweep"], config={"values": ["experiments/gengan.yaml"]})
    out = tmp_path / "out"
    assert cli.run(words(files, out, "--no-evaluation")) == 0
    with pytest.raises(PseganError, match="holds another training .*max_epochs was 1, now 2"):
        cli.run([*words(files, out, "--no-evaluation"), "--max-epochs", "2"])


def test_a_terminated_trial_is_not_complete(files, tmp_path):
    """Lightning ends a terminated training as if all were well."""
    change(files["sweep"], config={"values": ["experiments/gengan.yaml"]})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "psegan.cli", *words(files, out, "--no-evaluation"), "--max-epochs", "500"]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        first = out / "trials" / "gengan" / "checkpoints" / "last.ckpt"
        until = time.monotonic() + 120
        while not first.exists() and running.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        (server,) = children(running.pid, "-f", "forkserver")
        (child,) = children(server)
        os.kill(child, signal.SIGTERM)
        assert running.wait(60) == 1, (tmp_path / "log").read_text()[-3000:]
    assert '"complete": false' in (out / "trials" / "gengan" / "job.json").read_text()


def test_trainings_cut_short_have_a_folder_of_their_own(files, tmp_path):
    content = yaml.safe_load(files["experiment"].read_text())
    content["trainings"] = {name: {"config": ["experiments/speaker_matcher.yaml"]} for name in ("matcher", "unneeded")}
    content["set"] |= QUICK | {"run.loggers": ["csv"]}
    files["experiment"].write_text(yaml.safe_dump(content))
    matcher = {"speaker_matcher_checkpoint": f"{tmp_path}/before/matcher/checkpoints/last.ckpt"}
    files["trained"].write_text(yaml.safe_dump({"model": {"init_args": matcher}}))
    files["sweep"].write_text(files["sweep"].read_text().replace("val/emotion_uar", "val/distortion"))  # nobody watches
    change(files["sweep"], config={"values": ["experiments/psegan.yaml"]})
    out = tmp_path / "out"
    assert cli.run(words(files, out, "--no-evaluation")) == 0
    assert not (tmp_path / "before").exists()
    read = yaml.safe_load((out / "trials" / "psegan" / "config.yaml").read_text())["model"]["init_args"]
    assert read["speaker_matcher_checkpoint"] == str(out / "trainings" / "matcher" / "checkpoints" / "last.ckpt")
    assert not (out / "trainings" / "unneeded").exists()
    record = out / "trainings" / "matcher" / "job.json"
    record.write_text(
        record.read_text().replace('"complete": true', '"complete": false')
    )  # as an interrupted one leaves it
    assert cli.run(words(files, out, "--no-evaluation")) == 0
    assert '"complete": true' in record.read_text(), "what an interrupted job left is no checkpoint to train with"


def test_a_trial_that_fails_stays_alone(files, tmp_path, capsys):
    """An overlay that parses but cannot run: the other trial is trained and listed."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: {init_args: {speaker_matcher_checkpoint: null}}")
    change(files["sweep"], config={"values": [str(broken), "experiments/gengan.yaml"]})
    with pytest.raises(
        PseganError, match="1 of 2 trainings failed, broken first: PSEGAN needs a trained speaker matcher"
    ):
        cli.run(words(files, tmp_path / "out", "--no-evaluation"))
    printed = capsys.readouterr().out
    assert "gengan  complete  val/emotion_uar" in printed
    assert "broken  failed" in printed


@pytest.mark.parametrize(
    ("metric", "logged", "complete", "missing"),
    [
        ("val/uar", "epoch,step,val/loss,val/uar", False, False),
        ("val/uar", None, False, False),
        ("val/uar", "epoch,step,train/loss", False, False),
        ("val/uar", "epoch,step,train/loss,val/loss", False, True),
        ("uar", "epoch,step,train/loss,val/uar", False, True),
        ("uar", "epoch,step,train/loss,val/loss", False, False),
        ("train/generator/total", "epoch,step,train/discriminator/total,val/distortion", False, False),
        ("train/generator/total", "epoch,step,train/discriminator/total,val/distortion", True, True),
        ("val/uar", "epoch,step,train/loss", True, True),
    ],
)
def test_a_metric_is_missed_as_soon_as_it_is_certain(tmp_path, metric, logged, complete, missing):
    """A loss of training may be logged after a warm-up only, but all scores are after the first validation."""
    job = Job("a", tmp_path, (), {})
    if logged is not None:
        (tmp_path / "metrics.csv").write_text(f"{logged}\n0,1\n")
    if complete:
        job.checkpoint.parent.mkdir()
        job.checkpoint.touch()
        job.record.finish()
    if not missing:
        check_metric(metric, job)
        return
    with pytest.raises(PseganError, match=f"metric is {metric}, but trial a logs train/"):
        check_metric(metric, job)


def test_where_a_trade_off_has_no_meaning_the_line_says_so(tmp_path):
    """The classifiers are given, so that nobody is told to give some."""
    names = "epoch,step,val/emotion_uar,val/emotion_uar_original,val/speaker_accuracy,val/speaker_accuracy_original"
    (tmp_path / "metrics.csv").write_text(f"{names}\n0,1,,,,\n0,2,0.125,0.12,0.5,0.75\n")
    message = (
        r"metric is val/trade_off, which has no meaning in trial a: .* find no emotion or no speaker in original speech "
        r"\(val/emotion_uar_original 0.12, val/speaker_accuracy_original 0.75\); give .* trained for longer"
    )
    with pytest.raises(PseganError, match=message):
        check_metric("val/trade_off", Job("a", tmp_path, (), {}))


def test_a_metric_that_nobody_logs_ends_a_sweep_in_its_first_trial(from_repository, tiny, tmp_path):
    command = [
        "psegan", "fit", "--config=experiments/classifier.yaml", f"--config={tiny[1]}", "${args}",
        "--model.init_args.attribute=gender", "--trainer.check_val_every_n_epoch=1", "--run.loggers=[csv]",
        *(f"--{key}={value}" for key, value in QUICK.items()),
    ]  # fmt: skip
    content = {
        "name": "tiny", "method": "grid", "metric": {"name": "val/emotion_uar"}, "command": command,
        "parameters": {"seed_everything": {"values": [0, 1]}},
    }  # fmt: skip
    path, out = tmp_path / "sweep.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(content))
    message = (
        "metric is val/emotion_uar, but trial tiny-seed-0 logs .*val/accuracy, val/loss, val/uar; correct metric.name in the "
        "sweep file, or give privacy.emotion_classifier"
    )
    with pytest.raises(PseganError, match=message):
        cli.run(["sweep", str(path), "--out", str(out), "--workers", "1", "--max-epochs", "50"])
    assert '"complete": false' in (out / "trials" / "tiny-seed-0" / "job.json").read_text()
    assert not (out / "trials" / "tiny-seed-1").exists()

    content["command"] = [word.replace("[csv]", "[tensorboard]") for word in command]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PseganError, match="the sweep's metric is read from metrics.csv; add csv to run.loggers"):
        cli.run(["sweep", str(path), "--out", str(tmp_path / "other")])


def test_a_dry_run_prints_commands_that_run(files, tmp_path, capsys):
    change(files["sweep"], config={"values": ["experiments/gengan.yaml"]})
    assert cli.run(words(files, tmp_path / "out", "--dry-run")) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "out").exists()
    psegan, *rest = shlex.split(line)
    assert psegan == "psegan"
    assert type(training.main(rest).model).__name__ == "GenGAN"
    assert (tmp_path / "out" / "trials" / "gengan" / "checkpoints" / "last.ckpt").is_file()


def test_what_cannot_be_is_refused_before_anything_runs(files, tmp_path):
    change(files["sweep"], **{"model.init_args.magic": {"values": [1, 2]}})
    with pytest.raises(PseganError, match="trial gengan-magic-1: .*magic"):
        cli.run(words(files, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(PseganError, match="--workers is 0"):
        cli.run(words(files, tmp_path / "out", "--workers", "0"))
    (tmp_path / "file").touch()
    content = yaml.safe_load(files["sweep"].read_text())
    del content["parameters"]["model.init_args.magic"]
    files["sweep"].write_text(yaml.safe_dump(content))
    with pytest.raises(PseganError, match="file/out: cannot be made"):
        cli.run(words(files, tmp_path / "file" / "out"))
    files["trained"].write_text("model: {init_args: {speaker_matcher_checkpoint: nowhere/last.ckpt}}")
    with pytest.raises(PseganError, match=r"reads nowhere/last.ckpt, which is missing; train it first"):
        cli.run(words(files, tmp_path / "out"))


def test_the_wandb_agents_trials_do_not_meet(files, monkeypatch, capsys):
    """What the agent's environment makes of one command, twice."""
    content = yaml.safe_load(files["sweep"].read_text())
    words = [word for word in content["command"][1:] if word != "${args}"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    folders = []
    for run in ("run1", "run2"):
        monkeypatch.setenv("WANDB_RUN_ID", run)
        with contextlib.suppress(SystemExit):
            training.main([*words, "--config=experiments/gengan.yaml", "--print_config"])
        parsed = yaml.safe_load(capsys.readouterr().out)
        assert parsed["run"]["wandb_id"] == run and parsed["run"]["group"] == "abc"
        folders.append(parsed["run"]["dir"])
    assert folders == ["runs/sweeps/abc/run1", "runs/sweeps/abc/run2"]


def test_trials_of_a_corpus_with_a_manifest_read_it_in_data_root(from_repository, tmp_path):
    configs = [f"--config=experiments/{name}.yaml" for name in ("classifier", "corpora/manifest")]
    content = {"name": "mine", "method": "grid", "command": ["psegan", "fit", *configs, "${args}"]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content | {"parameters": {"seed_everything": {"value": 0}}}))
    sweep = Sweep.read(str(tmp_path / "sweep.yaml"))
    (job,) = trial_jobs(sweep.trials(), sweep, tmp_path, None, Options(data_root="elsewhere")).values()
    assert job.values["data.init_args.manifest"] == "elsewhere/manifest.csv"
    check(job, False)


@pytest.mark.parametrize("name", ["systems", "ablations"])
def test_what_published_sweeps_read_the_experiment_trains(name, from_repository, tmp_path):
    sweep = Sweep.read(f"experiments/sweeps/{name}.yaml")
    jobs = trial_jobs(sweep.trials(), sweep, tmp_path, find_experiment(sweep, None), Options())
    for job in jobs.values():
        needed = [need.name for need in job.jobs]
        assert needed == ["paper/speaker_matcher", "paper/emotion", "paper/speaker"]
        assert all(f"checkpoint/{need.checkpoint}" in job.needs for need in job.jobs)
