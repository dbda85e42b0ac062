"""``psegan reproduce``: every output is there, complete jobs are left alone, other settings are refused."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from psegan.common.errors import PseganError
from psegan.common.files import commit
from psegan.common.record import Record
from psegan.jobs import estimate
from psegan.jobs.job import planned
from psegan.jobs.options import Options
from psegan.jobs.reproduce import STRIDE, Reproduction, Training, remaining, reproduce
from psegan.jobs.sweep import check
from psegan.report.results import Results


@pytest.fixture
def experiment_file(from_repository, tmp_path):
    """The demo, watched by two classifiers, on a tiny corpus with just the ``ignorant`` attacker, into ``tmp_path / "out"``."""
    content = yaml.safe_load((from_repository / "experiments" / "reproduce" / "demo.yaml").read_text())
    evaluation = yaml.safe_load((from_repository / content["evaluation"]).read_text())
    evaluation |= {"attackers": ["ignorant"], "systems": {}, "resamples": 100}
    watchers = {
        name: {"config": ["experiments/classifier.yaml"], "set": {"model.init_args.attribute": name}}
        for name in ("emotion", "speaker")
    }
    content["trainings"] = watchers | content["trainings"]
    content["trainings"]["psegan"]["set"] |= {f"privacy.{name}_classifier": f"{{{name}}}" for name in watchers}
    content["evaluation"] = str(tmp_path / "evaluation.yaml")
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False))
    content["out"] = str(tmp_path / "out")
    content["set"] = {
        "data.init_args.n_speakers": 4, "data.init_args.n_contents": 2, "data.init_args.n_takes": 2,
        "trainer.enable_progress_bar": False, "run.loggers": ["csv"], "samples.n_utterances": 0,
    }  # fmt: skip
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


TINY = Options(max_epochs=1, workers=1)


def run(path, **changes):
    reproduce(replace(Reproduction.read(str(path)), **changes), TINY)


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

    # W&B's own process still writes its logs when a run has ended; the file of ours tells whether anything was logged again
    logged = out / "wandb"
    made = [path for path in out.rglob("*") if path.is_file() and not ({"manifests", "wandb"} & {*path.parts})]
    made.append(logged / "evaluation.json")
    runs = set(logged.glob("offline-run-*"))
    stamps = {path: path.stat().st_mtime_ns for path in made}
    run(experiment_file)
    assert {path: path.stat().st_mtime_ns for path in made} == stamps
    assert set(logged.glob("offline-run-*")) == runs != set()
    assert capsys.readouterr().out.count("complete, nothing to do") == 4

    (out / "results.json").unlink()
    run(experiment_file, out=f"{out}/../out")  # the same folder, spelt otherwise
    assert (out / "results.json").exists()
    assert capsys.readouterr().out.count("complete, nothing to do") == 4

    content = yaml.safe_load(experiment_file.read_text())
    content["trainings"]["speaker"]["set"]["model.init_args.learning_rate"] = 1e-4
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(
        PseganError,
        match=r"speaker holds another training \(set\.model\.init_args\.learning_rate was None, now 0\.0001\)",
    ):
        run(experiment_file)


def test_splits_and_folds_are_reproduced_side_by_side(experiment_file, tmp_path):
    content = yaml.safe_load(experiment_file.read_text())
    content["splits"] = {"paper": [], "speaker-disjoint": [0, 1]}
    content["set"]["data.init_args.n_speakers"] = 8
    content["trainings"] = {name: training | {"minutes": 1} for name, training in content["trainings"].items()}
    for name in ("emotion", "speaker"):  # who only watch a training
        content["trainings"].pop(name)
        content["trainings"]["psegan"]["set"].pop(f"privacy.{name}_classifier")
    evaluation = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    evaluation |= {"classifiers": {}, "verifier": {}, "permutations": 1}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False))
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment = Reproduction.read(str(experiment_file))

    def left(one: Reproduction, options: Options = TINY) -> tuple[list[float | None], float]:
        return remaining(one, one.jobs(options), options)

    # two trainings in three places, one after the other; three systems and controls scored in each
    assert left(experiment) == ([1] * 6 + [None] * 9, 2)
    line = estimate.line(*left(experiment), 2)
    assert re.search(r"about .* with 2 process\(es\) at a time, and what has no estimate", line)
    assert not estimate.line([None], 0, 2)
    scored = replace(experiment, evaluation_minutes=3.0, epochs={"speaker-disjoint": 2.0})
    assert left(scored) == ([1] * 6 + [3] * 9, 2)
    faster = replace(scored, minutes={"speaker-disjoint": 0.5})
    assert left(faster) == ([1, 1] + [0.5] * 4 + [3] * 9, 2)
    assert left(scored, replace(TINY, attackers=["ignorant"]))[0] == [1] * 6 + [None] * 9
    epochs, places = experiment.trainings["psegan"].set["trainer.max_epochs"], experiment.split_folds()
    for place, factor in zip(places, (1, 2, 2), strict=True):
        job = scored.jobs(Options())[place, "psegan", 0]
        assert planned(job.configs, job.values, "trainer.max_epochs", None) == factor * epochs
    thrice = replace(scored, repetitions={"paper": {"psegan": 3}})
    assert left(thrice) == ([1] * 8 + [3] * 11, 2)
    assert left(thrice.narrowed(repetitions=2)) == ([1] * 7 + [3] * 10, 2)
    assert left(thrice.narrowed(repetitions=1)) == left(scored)
    with pytest.raises(PseganError, match="--repetitions is 0, but must be 1 or more"):
        thrice.narrowed(repetitions=0)
    here = [job for (place, _, _), job in thrice.jobs(TINY).items() if place.split == "paper"]
    seeds = {job.folder.name: planned(job.configs, job.values, "seed_everything", 0) for job in here}
    assert seeds == {"speaker_matcher": 1000, "psegan": 0, "psegan-1": STRIDE, "psegan-2": 2 * STRIDE}
    asked = [scored.evaluation_of({}, TINY, tmp_path, [place]) for place in places]
    assert [(one.epochs, one.folds) for one in asked] == [(1, [0]), (2, [0]), (2, [1])]
    twice = replace(experiment, repetitions={"speaker-disjoint": {"psegan": 2}})
    reproduce(twice.narrowed(["speaker-disjoint"], None), replace(TINY, workers=2))
    assert not (tmp_path / "out" / "paper").exists()
    disjoint = tmp_path / "out" / "speaker-disjoint"
    results = Results.from_json(disjoint / "results.json")
    assert {row.fold for row in results.rows} == {None, 0, 1}
    assert results.header["folds"] == {"synthetic": 4}
    assert "2 of 4 folds" in (disjoint / "report.html").read_text()
    assert {row.system for row in results.rows} == {"original", "copy-synthesis", "psegan", "psegan-0", "psegan-1"}
    made_by = [commit() or "unknown"]
    assert results.header["commits of trainings"] == {"systems": made_by, "attackers and judges": made_by}
    heard = results.header["heard by the systems"]
    assert "speaker-disjoint" in heard["psegan-0"]
    assert "speaker-disjoint" in heard["psegan-1"]
    for fold, (name, seed) in itertools.product((0, 1), {"psegan": 0, "psegan-1": STRIDE}.items()):
        config = yaml.safe_load((disjoint / f"systems-{fold}" / name / "config.yaml").read_text())
        assert config["data"]["init_args"]["speakers"] == "protector"
        assert config["data"]["init_args"]["fold"] == fold
        assert config["seed_everything"] == seed
    with pytest.raises(PseganError, match="--splits random: the experiment has paper, speaker-disjoint"):
        experiment.narrowed(["random"], None)
    with pytest.raises(PseganError, match="none of the experiment's splits has folds"):
        experiment.narrowed(["paper"], [2])
    with pytest.raises(PseganError, match=r"--folds holds \[1, 1\]"):
        experiment.narrowed(None, [1, 1])
    other = experiment.narrowed(None, [2])
    assert other.splits == {"paper": [], "speaker-disjoint": [2]}
    # what is published stays so
    assert other.beside(experiment).splits == {"paper": [], "speaker-disjoint": [0, 1, 2]}
    assert replace(other, systems={}, trainings={}).beside(experiment) == replace(
        twice, splits={"paper": [], "speaker-disjoint": [0, 1, 2]}
    )
    assert left(twice.narrowed(["speaker-disjoint"])) == ([], 0)


def test_a_corpus_that_is_not_there_is_said_at_once(tmp_path):
    experiment = Reproduction.read("experiments/reproduce/ravdess.yaml")
    with pytest.raises(PseganError, match="nowhere"):
        reproduce(replace(experiment, out=str(tmp_path / "out")), Options(data_root=str(tmp_path / "nowhere")))
    assert not (tmp_path / "out").exists(), "nothing has begun"


def test_a_part_of_the_systems_needs_a_part_of_the_trainings():
    experiment = Reproduction.read("experiments/reproduce/ravdess.yaml")
    assert experiment.narrowed() == experiment
    part = experiment.narrowed(systems=["psegan-no-sm"])
    assert set(part.systems) == {"psegan-no-sm"}
    assert list(part.trainings) == ["emotion", "speaker", "critic", "psegan-no-sm"]
    with pytest.raises(PseganError, match="--systems gan: the experiment has psegan, gengan"):
        experiment.narrowed(systems=["gan"])


def published(experiment: Reproduction, split: str) -> None:
    """Write what :meth:`Reproduction.beside` reads of an evaluation of all that the experiment trains in a split."""
    several = experiment.repeated(split)
    header = {"systems": dict.fromkeys(experiment.trained_systems(split)), "repetitions": several, "folds": [0]}
    path = Path(experiment.out) / split / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"header": {"evaluation": header}}))


def test_fewer_repetitions_than_are_published_take_none_away(tmp_path):
    whole = replace(Reproduction.read("experiments/reproduce/ravdess.yaml"), out=str(tmp_path))
    published(whole, "paper")
    for asked in (whole.narrowed(repetitions=1), whole.narrowed(["paper"], systems=["gengan"], repetitions=2)):
        beside = asked.beside(whole)
        assert beside.trained_systems("paper") == whole.trained_systems("paper")
        assert beside.trained_systems("speaker-disjoint") == asked._with_systems(whole.systems, whole).trained_systems(
            "speaker-disjoint"
        )


def test_what_is_published_once_is_not_repeated_unasked(tmp_path):
    whole = replace(Reproduction.read("experiments/reproduce/ravdess.yaml"), out=str(tmp_path))
    once = whole.narrowed(["paper"], repetitions=1)
    published(once, "paper")
    later = whole.narrowed(["paper"], systems=["gengan"]).beside(whole)
    assert later.trained_systems("paper") == once.trained_systems("paper")
    assert later.jobs(TINY).keys() == once.jobs(TINY).keys()
    assert whole.beside(whole).trained_systems("paper") == whole.trained_systems("paper"), "asked for, they are trained"


def test_the_seeds_of_two_experiments_have_no_training_in_common():
    whole = replace(Reproduction.read("experiments/reproduce/ravdess.yaml"), repetitions={"paper": {"psegan": 3}})
    zero, one = (
        {job.values.get("seed_everything", 0) for (_, name, _), job in e.jobs(TINY).items() if name == "psegan"}
        for e in (whole, replace(whole, seed=1))
    )
    assert min(zero) == 0 and min(one) == 1 and len(zero) == len(one) == 3
    assert not zero & one


def test_a_corpus_with_a_manifest_lies_in_data_root(from_repository, tmp_path):
    experiment = Reproduction(
        name="mine", out=str(tmp_path), corpus="experiments/corpora/manifest.yaml", evaluation="none.yaml", systems={},
        trainings={"classifier": Training(config=["experiments/classifier.yaml"])},
    )  # fmt: skip
    for own, name in (({}, "manifest.csv"), ({"data.init_args.manifest": "data/corpus/mine.jsonl"}, "mine.jsonl")):
        (job,) = replace(experiment, set=own).jobs(Options(data_root="elsewhere")).values()
        assert job.values == {"data.init_args.manifest": f"elsewhere/{name}"}
        check(job, False)  # by psegan fit, which knows no root of such a corpus


def test_an_interrupted_reproduction_goes_on(experiment_file, from_repository, tmp_path):
    """Ctrl-C while a job trains: it is not taken for complete; the same command finishes it."""
    content = yaml.safe_load(experiment_file.read_text())
    for name, training in content["trainings"].items():
        training.setdefault("set", {})["trainer.max_epochs"] = 12 if name == "emotion" else 1
    evaluation = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    networks = [one for one in evaluation["architectures"].values() if "config" in one]
    for network in (*networks, *evaluation["classifiers"].values(), evaluation["verifier"]):
        network["set"]["trainer.max_epochs"] = 1
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation, sort_keys=False))
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
    state = json.loads((tmp_path / "out" / "emotion" / "job.json").read_text())
    assert state["complete"] is False
    assert not (tmp_path / "out" / "speaker").exists()

    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "emotion: continuing: psegan fit" in again.stdout
    assert (tmp_path / "out" / "report.html").exists()


def test_a_record_knows_other_settings(tmp_path):
    record = Record(tmp_path / "record.json", {"a": 1, "b": {"c": (1, 2)}})
    assert not record.begun
    record.begin()
    again = Record(tmp_path / "record.json", {"a": 1, "b": {"c": (1, 2)}})
    assert again.begun
    assert not again.complete
    assert not again.difference
    record.finish()
    assert Record(tmp_path / "record.json", {"a": 1, "b": {"c": (1, 2)}}).complete
    assert Record(tmp_path / "record.json", {"a": 1, "b": {"c": 3}}).difference == "b.c was [1, 2], now 3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(stagse={}), "unknown key 'stagse'"),
        (lambda c: c.pop("corpus"), "lacks the key 'corpus'"),
        (lambda c: c["trainings"]["emotion"].update(overlay=1), r"trainings\.emotion: unknown key 'overlay'"),
        (lambda c: c["systems"].update(psegan="nowhere"), r"systems\.psegan names training 'nowhere'"),
        (lambda c: c.pop("evaluation"), "lacks the key 'evaluation'"),
        (lambda c: c.update(evaluation={}), r'key "evaluation": Expected a str. Got value: \{\}'),
        (lambda c: c.update(stages=c.pop("trainings")), "unknown key 'stages'; there are name, out, corpus, trainings"),
        (lambda c: c.update(trainings=["emotion"]), r'key "trainings": .*emotion'),
        (lambda c: c["trainings"].update(emotion=None), r"trainings\.emotion is None, but must be a mapping"),
        (lambda c: c["trainings"]["emotion"].update(config="a.yaml"), r'trainings\.emotion: .*"config": .* a\.yaml'),
        (
            lambda c: c["trainings"]["emotion"].update(set=["a"]),
            r'trainings\.emotion: .*"set": Expected a dict',
        ),
        (lambda c: c.update(seed="one"), 'key "seed": Expected a int. Got value: one'),
        (lambda c: c.update(splits={"paper": ["a"]}), r'key "splits": Expected a int. Got value: a'),
        (lambda c: c.update(splits={"paper": [-1]}), r"splits\.paper holds \[-1\], but must hold different whole"),
        (lambda c: c.update(splits={"paper": [0]}), "no other split has any"),
        (
            lambda c: c.update(splits={"speaker-disjoint": []}),
            "speaker-disjoint and sentence-and-speaker-disjoint need folds",
        ),
        (
            lambda c: c.update(splits={"paper": []}, epochs={"paper": "two"}),
            'key "epochs": Expected a float. Got value: two',
        ),
        (lambda c: c.update(splits={"paper": []}, minutes={"ppaer": 0.5}), r"minutes\.ppaer is of a split"),
        (lambda c: c.update(splits={"paper": []}, epochs={"paper": 0}), "must be a factor above 0"),
        (lambda c: c.update(set={"privacy.emotion_classifier": "{emotion}"}), "refers to a training"),
        (
            lambda c: c.update(repetitions={"paper": {"psegan": 3}}),
            r"repetitions\.paper is of a split that splits lacks",
        ),
        (
            lambda c: c.update(splits={"paper": []}, repetitions={"paper": {"pseagn": 3}}),
            r"repetitions\.paper\.pseagn is no system; there are psegan",
        ),
        (
            lambda c: c.update(splits={"paper": []}, repetitions={"paper": {"psegan": 0}}),
            "is 0, but must be 1 or more",
        ),
        (
            lambda c: c.update(
                splits={"paper": []},
                repetitions={"paper": {"psegan": 2}},
                systems={"psegan": "psegan", "psegan-0": "psegan"},
            ),
            r"repetitions\.paper\.psegan makes a psegan-0, but there is one already",
        ),
        (
            lambda c: c.update(
                splits={"paper": []},
                repetitions={"paper": {"psegan": 2}},
                trainings=c["trainings"] | {"psegan-1": {"config": []}},
            ),
            r"repetitions\.paper\.psegan makes a psegan-1, but there is one already",
        ),
        (lambda c: c.update(seed=STRIDE), "seed is 1000000, but must lie between 0 and 999999"),
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


def test_a_reference_to_a_later_training_is_named(experiment_file):
    content = yaml.safe_load(experiment_file.read_text())
    content["trainings"] = {"psegan": content["trainings"].pop("psegan"), **content["trainings"]}
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=r"refers to \{speaker_matcher\}, which is no earlier training"):
        run(experiment_file)


def test_several_devices_and_broken_overlays_are_refused(experiment_file, tmp_path):
    content = yaml.safe_load(experiment_file.read_text())
    content["set"]["trainer.devices"] = 2
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match="trains on one device"):
        run(experiment_file)
    content["set"].pop("trainer.devices")
    (tmp_path / "broken.yaml").write_text("a: [")
    content["trainings"]["emotion"]["config"].append(str(tmp_path / "broken.yaml"))
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(PseganError, match=r"broken\.yaml: is not YAML"):
        run(experiment_file)


def test_a_seed_reaches_every_training(experiment_file):
    content = yaml.safe_load(experiment_file.read_text())
    content["seed"] = 3
    experiment_file.write_text(yaml.safe_dump(content, sort_keys=False))
    experiment = Reproduction.read(str(experiment_file))
    seeds = {name: job.values["seed_everything"] for (_, name, _), job in experiment.jobs(TINY).items()}
    assert seeds == {"emotion": 3, "speaker": 3, "speaker_matcher": 1003, "psegan": 3}
