"""``psegan evaluate`` from end to end on the tiny synthetic corpus: four attackers, controls, a trained system."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from datamodules import SyntheticDataModule, read_manifest
from datamodules.manifest import write_manifest
from datamodules.splits import SUBSETS
from psegan import cli
from psegan.common.errors import PseganError
from psegan.common.files import commit, file_hash
from psegan.evaluation.predictions import SystemPredictions
from psegan.evaluation.specification import KNOWN_ATTACKERS, Evaluation
from psegan.jobs.evaluation_run import EvaluationRun
from psegan.jobs.job import planned
from psegan.jobs.options import Options
from psegan.report.page import read_page
from psegan.report.results import Results
from psegan.report.tables import SHUFFLED
from psegan.speech.audio import read_audio, write_audio
from psegan.training import command as training
from tests.support.offline import history, kinds, read_offline_run
from tests.support.protectors import small_anchored

UNCUT = [name for name in KNOWN_ATTACKERS if name != "cut"]
"""Attackers of systems that show nothing of what they let through."""
TINY = {"n_speakers": 4, "n_contents": 2, "n_takes": 2}


@pytest.fixture(scope="module")
def repository():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).resolve().parents[3])
        yield Path.cwd()


@pytest.fixture(scope="module")
def system(repository, trained, tiny, tmp_path_factory) -> Path:
    """A checkpoint of PSEGAN that saw two batches."""
    run = tmp_path_factory.mktemp("system") / "run"
    training.main(
        ["fit", "--config", "experiments/psegan.yaml", *tiny, "--data.init_args.batch_size=8",
         f"--model.init_args.speaker_matcher_checkpoint={trained('speaker_matcher')}",
         "--model.init_args.discriminator_warmup=0", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2",
         "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false", "--run.loggers=[]", f"--run.dir={run}"]
    )  # fmt: skip
    return run / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def content(repository) -> dict:
    """The demo's evaluation on the tiny corpus, with original speech once more under another name."""
    content = yaml.safe_load((repository / "experiments" / "evaluate" / "demo.yaml").read_text())
    content["data"] = TINY
    content["systems"] = {**content["systems"], "identity": {"class_path": "psegan.protection.controls.Identity"}}
    content["n_clips"], content["resamples"], content["permutations"] = 2, 200, 1
    content["permutation_architecture"] = "svm"
    # who knows English is not asked about speech of no language; DNSMOS would be, and takes half a second each time
    content["judges"] = {
        "moonshine": {"class_path": "psegan.evaluation.recognisers.Moonshine"}, "resemblyzer": {"class_path": "Resemblyzer"}
    }  # fmt: skip
    return content


@pytest.fixture(scope="module")
def evaluated(content, system, tmp_path_factory):
    """What to call to evaluate (again), and the folder."""
    folder = tmp_path_factory.mktemp("evaluated")
    file = folder / "evaluation.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    out = folder / "out"

    def run(*options: str) -> int:
        words = ["evaluate", "--config", str(file), "--system", f"psegan={system}", "--out", str(out)]
        return cli.run([*words, "--max-epochs", "1", "--workers", "1", *options])

    assert run() == 0
    return run, out


@pytest.fixture
def results(evaluated) -> Results:
    return Results.from_json(evaluated[1] / "results.json")


def test_every_system_meets_every_attacker(results):
    systems = {"original", "copy-synthesis", "noise", "identity", "psegan"}
    assert {row.system for row in results.rows} == systems
    for system in systems:
        for attacker in UNCUT:
            found = {row.metric: row for row in results.select(system=system, attacker=attacker, attribute="emotion")}
            assert {"accuracy", "uar", "auc", "eer"} <= found.keys(), (system, attacker)
            for row in found.values():
                assert row.n == 10
                if "minus" not in row.metric and row.low is not None:
                    assert row.low <= row.high
        kept = {(row.attribute, row.metric) for row in results.select(system=system, attacker=None)}
        assert {
            ("speaker", "accuracy"), ("speaker", "eer"), ("speaker", "min_dcf"), ("speaker", "eer_protected"),
            ("speaker", "min_dcf_protected"), ("gender", "accuracy"), ("content", "accuracy"),
        } <= kept  # fmt: skip
        assert ({("speech", "mcd"), ("speech", "stoi")} <= kept) == (system != "original")
        judged = {(row.judge, row.attribute, row.metric) for row in results.select(system=system) if row.judge}
        single = {one for one in judged if "minus" not in one[2]}
        assert single == {
            *(("resemblyzer", "speaker", metric) for metric in ("eer", "eer_protected", "eer_neutral")),
            *(("level", "speech", metric) for metric in ("loudest_median", "loudest_p95", "mean_level", "clipped")),
        }
        differences = {
            ("resemblyzer", "speaker", "eer-minus-copy-synthesis"),
            ("level", "speech", "loudest_p95-minus-original"),
        }
        assert (differences <= judged) == (system not in ("original", "copy-synthesis"))
    assert {row.system for row in results.select(attacker=SHUFFLED)} == {"original"}


def test_the_identity_scores_what_the_original_does(results):
    def scores(system: str) -> dict:
        return {
            (row.attacker, row.judge, row.attribute, row.metric, row.seed): (row.value, row.low, row.high)
            for row in results.select(system=system)
            if (row.attribute != "speech" or row.judge) and row.attacker != SHUFFLED and "minus" not in row.metric
        }

    assert len(scores("original")) > 20
    assert scores("identity") == scores("original")
    for row in results.select(system="identity", metric="uar-minus-original"):
        assert (row.value, row.low, row.high) == (0, 0, 0)
    (distortion,) = results.select(system="identity", metric="mcd")
    assert distortion.value == 0


def test_attackers_go_on_from_the_one_who_heard_original_speech(evaluated):
    attackers = evaluated[1] / "fold-0" / "attackers"
    start = file_hash(attackers / "ignorant" / "cnn-0" / "checkpoints" / "best.ckpt")
    inputs = {p.parts[-3]: json.loads(p.read_text())["settings"]["inputs"] for p in attackers.glob("*/cnn-0/job.json")}
    from_nothing = {heard for heard, found in inputs.items() if "start/encoder" not in found}
    assert from_nothing == {"ignorant"}
    assert {found["start/encoder"] for heard, found in inputs.items() if heard not in from_nothing} == {start}
    assert len(inputs) == 7


def test_strongest_is_of_all_and_their_temperatures_are_said(results, evaluated):
    members = {row.attacker for row in results.select(system="psegan") if row.attacker and "/" in row.attacker}
    assert members == {"ignorant/cnn-0", "ignorant/svm-0", "informed/cnn-0", "informed/svm-0"}
    betas = results.header["betas"]["fold 0"]
    for system in ("original", "copy-synthesis", "noise", "identity", "psegan"):
        assert {f"{system}/cnn-0", f"{system}/svm-0", f"{system}/mean"} <= betas.keys()
        for attacker in ("strongest", "informed/cnn-0", "ignorant"):
            (bits,) = results.select(system=system, attacker=attacker, metric="bits")
            assert bits.low <= bits.value <= bits.high
    assert betas["identity/mean"] == betas["original/mean"]


def test_validation_speech_is_predicted_by_who_learnt_from_such(evaluated):
    predictions = evaluated[1] / "fold-0" / "predictions"

    def learnt_from(system: str) -> set[str]:
        found = SystemPredictions.load(predictions / f"{system}-validation.npz").probability
        return {name.partition("/")[0] for name in found}

    assert {system: learnt_from(system) for system in ("original", "copy-synthesis", "psegan")} == {
        "original": {"ignorant", "vocoder-aware", SHUFFLED, "original"},
        "copy-synthesis": {"vocoder-aware", "copy-synthesis"},
        "psegan": {"psegan"},
    }


def test_everything_that_a_reader_wants_is_there(evaluated, results):
    _, out = evaluated
    page = read_page(out)
    assert not page.missing
    assert {path.name for path in page.figures.values()} >= {
        "speech_psegan.png", "tsne_psegan.png", "roc_emotion_ignorant.png", "roc_emotion_strongest.png",
        "roc_speaker.png", "confusion_psegan.png", "frontier.png",
    }  # fmt: skip
    assert len(page.audio) == 2
    assert page.audio[0].clips.keys() == {"original", "copy-synthesis", "noise", "identity", "psegan"}
    assert "shortened" in results.header
    assert results.header["commits of trainings"] == {"systems": [], "attackers and judges": [commit() or "unknown"]}
    assert results.header["units"] == {"synthetic": "4 speakers"}
    assert results.header["largest_share"] == {"synthetic": 0.2}
    matcher = "the speaker matcher of psegan: synthetic, split paper"
    heard = results.header["heard by the systems"]
    assert heard == {"psegan": f"psegan: synthetic, split paper; {matcher}", "the vocoder": heard["the vocoder"]}
    _is_of_the_vocoder(heard["the vocoder"])
    assert (out / "report.html").stat().st_size > 100_000
    rows = (out / "corpora" / "psegan" / "manifest.csv").read_text().splitlines()
    assert len(rows) == 81
    assert "target" in rows[0]


def test_a_second_start_does_nothing_and_lost_predictions_are_made_again(evaluated, capsys):
    run, out = evaluated
    stamps = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and "manifests" not in path.parts
    }
    run()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "emotion" in capsys.readouterr().out
    before = json.loads((out / "results.json").read_text())["rows"]
    (out / "fold-0" / "predictions" / "noise-test.npz").unlink()
    (out / "results.json").unlink()
    run()
    assert json.loads((out / "results.json").read_text())["rows"] == before


def test_another_evaluation_is_refused(content, evaluated, tmp_path):
    _, out = evaluated
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**content, "seed": 7}, sort_keys=False))
    with pytest.raises(PseganError, match=r"holds another evaluation \(seed was 0, now 7\)"):
        cli.run(["evaluate", "--config", str(other), "--out", str(out), "--max-epochs", "1"])


def test_a_system_that_heard_the_test_set_is_refused(content, system, tmp_path, repository):
    """Another seed of the split: what is tested now was trained on then."""
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump({**content, "data": {**TINY, "split_seed": 5}}, sort_keys=False))
    words = ["evaluate", "--config", str(file), "--out", str(tmp_path / "out"), "--system", f"psegan={system}"]
    with pytest.raises(PseganError, match="was trained on .* utterances of the test set of fold 0"):
        cli.run(words)
    # where speakers are disjoint, attackers must not have the system's speakers either
    content = {**content, "data": {**TINY, "n_speakers": 8, "split": "speaker-disjoint", "speakers": "attacker"}}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    moved = tmp_path / "moved" / "checkpoints" / "last.ckpt"
    moved.parent.mkdir(parents=True)
    shutil.copy(system, moved)
    config = yaml.safe_load((system.parents[1] / "config.yaml").read_text())
    config["data"]["init_args"] |= {"n_speakers": 8, "split": "speaker-disjoint"}
    (moved.parents[1] / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(PseganError, match="was trained on speaker .*, whom the attackers of fold 0 learn from too"):
        cli.run([*words[:-1], f"psegan={moved}", "--out", str(tmp_path / "disjoint")])
    (moved.parents[1] / "config.yaml").unlink()
    with pytest.raises(PseganError, match="what psegan was trained on is not known"):
        cli.run([*words[:-1], f"psegan={moved}", "--out", str(tmp_path / "disjoint")])
    with pytest.raises(PseganError, match="'a/b' cannot be a name"):
        cli.run([*words[:-1], "a/b=x.ckpt", "--out", str(tmp_path / "nowhere")])
    with pytest.raises(PseganError, match="no such checkpoint of psegan"):
        cli.run([*words[:-1], "psegan=nowhere.ckpt", "--out", str(tmp_path / "nowhere")])


def test_nobody_has_heard_what_is_tested(content, tmp_path, repository):
    """Neither speakers nor sentences of the test: who is who and what is said is then no classifier's business."""
    apart = {"split": "sentence-and-speaker-disjoint", "speakers": "attacker"}
    content = {**content, "data": {**TINY, "n_speakers": 8, **apart}, "folds": [0, 1], "systems": {}}
    content |= {"attackers": ["ignorant"], "architectures": {"svm": content["architectures"]["svm"]}}
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    out = tmp_path / "out"
    assert cli.run(["evaluate", "--config", str(file), "--max-epochs", "1", "--workers", "1", "--out", str(out)]) == 0
    assert {path.name for path in out.glob("fold-*/classifiers/*")} == {"gender", "verifier"}
    rows = read_manifest(out / "fold-1" / "manifests" / "original" / "manifest.csv")
    tested, learnt = ([r for r in rows if (r["split"] == "test") == test] for test in (True, False))
    for attribute in ("speaker", "content"):
        assert not {row[attribute] for row in tested} & {row[attribute] for row in learnt}
    results = Results.from_json(out / "results.json")
    assert {row.attribute for row in results.rows if row.metric == "accuracy"} == {"emotion", "gender"}
    assert results.header["folds"] == {"synthetic": 4}
    assert "no sentence of the test is in any training" in (out / "report.html").read_text()


def _is_of_the_vocoder(heard: str) -> None:
    """What the released vocoder heard, in its own training and in those that it went on from."""
    assert heard.startswith("the vocoder: ravdess+emodb+nemo+speechocean762+librispeech, split paper")
    assert heard.endswith("; the vocoder: ravdess+emodb, split paper")


def test_weights_that_ship_say_what_they_heard(content, system, trained, tmp_path, repository, capsys):
    """Exported, a system is judged like its checkpoint, and refused where that would be; its vocoder is only spoken of."""
    shipped = tmp_path / "shipped"
    assert cli.run(["export", str(system), "-o", str(shipped), "--vocoder", "vocos"]) == 0
    heard = json.loads((shipped / "config.json").read_text())["about"]["trained_on"]
    # the released vocoder's training went on from another's, four times
    assert [one["role"] for one in heard] == ["itself", "the speaker matcher of itself", *["the vocoder"] * 5]
    assert str(tmp_path) not in json.dumps(heard), "the places of this machine are nobody's business"
    griffin_lim = {"class_path": "psegan.models.vocoder.GriffinLim", "init_args": {"n_iter": 1}}
    copy = {"class_path": "psegan.protection.controls.CopySynthesis", "init_args": {"vocoder": griffin_lim}}
    content = {**content, "attackers": ["ignorant"], "vocoder": "vocos", "classifiers": {}, "verifier": {}}
    content["systems"] = {"griffin-lim": copy}
    content["architectures"] = {"svm": content["architectures"]["svm"]}
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    words = ["evaluate", "--config", str(file), "--system", f"psegan={shipped}", "--system", f"same={system}"]
    assert cli.run([*words, "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    results = Results.from_json(tmp_path / "out" / "results.json")
    _is_of_the_vocoder(results.header["heard by the systems"]["the vocoder"])
    scores = [
        [(r.metric, r.value) for r in results.select(system=name) if "-minus-" not in r.metric]
        for name in ("psegan", "same")
    ]
    assert scores[0] == scores[1] and scores[0]
    file.write_text(yaml.safe_dump({**content, "data": {**TINY, "split_seed": 5}}, sort_keys=False))
    with pytest.raises(PseganError, match="was trained on .* utterances of the test set of fold 0"):
        cli.run([*words, "--out", str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, 'key "name": Expected a str'),
        ({"systms": {}}, "unknown key 'systms'; there are name, out"),
        ({"attackers": ["clever"]}, "attackers holds 'clever'; there are ignorant, vocoder-aware"),
        ({"architectures": {}}, "attackers need at least one of architectures"),
        (
            {"attackers": ["ignorant", "cut"]},
            "attackers holds cut, which learns from what informed does; add that, or strongest",
        ),
        ({"architectures": {"cut": {"estimator": "a.B"}}}, "an architecture cannot be called cut"),
        ({"ladder": ["ignorant"]}, "unknown key 'ladder'; there are name, out"),
        ({"attackers": {"cnn": {}}}, 'key "attackers": Expected a list'),
        (
            {"architectures": {"cnn": {"configs": []}}},
            "architectures.cnn: unknown key 'configs'; there are config, set",
        ),
        (
            {"architectures": {"cnn": {"config": []}}},
            "architectures.cnn needs seeds and either 'config' or 'estimator'",
        ),
        ({"classifiers": {"mood": {}}}, "classifiers holds 'mood'"),
        ({"verifier": {"config": ["x.yaml"], "backend": "y.Z"}}, "verifier needs either 'config' or 'backend'"),
        ({"systems": {"original": "a.ckpt"}}, "cannot be called original"),
        ({"systems": {"a/b": "a.ckpt"}}, "'a/b' cannot be a name"),
        ({"systems": {"noise-pass-1": "Identity"}}, "'noise-pass-1' cannot be a name"),
        ({"systems": {"x": {"init_args": {}}}}, "has no class_path"),
        ({"attackers": [], "judges": {}}, "at least one fold, and an attacker or a judge"),
        ({"folds": [0, 0]}, r"folds is \[0, 0\], but must hold different numbers"),
        ({"n_clips": 0}, "n_clips is 0, but must be at least 1"),
        ({"resamples": 0}, "resamples is 0, but must be at least 1"),
        ({"permutation_architecture": "svn"}, "is 'svn', but is one of architectures: cnn, svm"),
    ],
)
def test_errors_in_an_evaluation_file_are_named(content, change, message, tmp_path, repository):
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(PseganError, match=message) as caught:
        cli.run(["evaluate", "--config", str(file), "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)


def test_a_training_that_may_stop_early_is_refused_before_anything_is_protected(content, tmp_path, repository):
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump({**content, "set": {"trainer.max_time": "00:01:00:00"}}))
    with pytest.raises(PseganError, match=r"attackers/ignorant/cnn-0: trainer\.max_time is '00:01:00:00'"):
        cli.run(["evaluate", "--config", str(file), "--out", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_arguments_are_checked(repository):
    config = "experiments/evaluate/demo.yaml"
    with pytest.raises(PseganError, match="must be NAME=CHECKPOINT"):
        cli.run(["evaluate", "--config", config, "--system", "psegan"])
    with pytest.raises(PseganError, match="attackers holds 'clever'"):
        cli.run(["evaluate", "--config", config, "--attackers", "clever"])
    with pytest.raises(PseganError, match="--workers is 0"):
        cli.run(["evaluate", "--config", config, "--workers", "0"])


def test_all_trainings_of_an_evaluation_can_last_longer(repository, tmp_path):
    evaluation = replace(
        Evaluation.read("experiments/evaluate/ravdess.yaml"), corpus="experiments/corpora/synthetic.yaml"
    )

    def epochs(factor: float, most: int | None = None) -> dict[str, tuple[int, int]]:
        run = EvaluationRun(replace(evaluation, epochs=factor, out=str(tmp_path)), Options(max_epochs=most))
        names = "attackers/ignorant/cnn-0", "classifiers/speaker", "classifiers/gender", "classifiers/verifier"
        jobs = [run.jobs(0)[name] for name in (*names, "attackers/mcadams/gru-0")]
        keys = "trainer.max_epochs", "trainer.check_val_every_n_epoch"
        return {
            job.name.split("/", 1)[1]: tuple(planned(job.configs, job.values, key, None) for key in keys)
            for job in jobs
        }

    assert epochs(2.2) == {
        "ignorant/cnn-0": (110, 4), "speaker": (66, 11), "gender": (22, 11), "verifier": (66, 4), "mcadams/gru-0": (33, 4),
    }  # fmt: skip
    assert epochs(1)["mcadams/gru-0"] == (15, 2)
    assert epochs(2.2, most=3)["ignorant/cnn-0"][0] == 3


@pytest.mark.parametrize(("architecture", "trained"), [(None, ["cnn-0", "cnn-1", "cnn-2"]), ("svm", [])])
def test_who_learns_from_shuffled_labels_can_be_said(content, architecture, trained, tmp_path, repository):
    changed = {**content, "out": str(tmp_path), "permutation_architecture": architecture or "", "permutations": 3}
    run = EvaluationRun(Evaluation.parse(changed, "file"), Options(max_epochs=1))
    expected = [f"{SHUFFLED}/{architecture or 'cnn'}-{number}" for number in range(3)]
    assert [attacker.name for attacker in run.attackers(SHUFFLED)] == expected
    assert [name for name in run.jobs(0) if SHUFFLED in name] == [f"attackers/{SHUFFLED}/{n}" for n in trained]


def test_classical_attackers_alone(content, tmp_path, repository):
    """No network is trained, nothing verified or judged: attackers on original speech in a minute."""
    svm = {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}}
    small = {key: value for key, value in content.items() if key not in ("classifiers", "verifier", "systems")}
    file, out = tmp_path / "evaluation.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**small, "architectures": svm, "judges": {}}))
    assert cli.run(["evaluate", "--config", str(file), "--out", str(out), "--workers", "1"]) == 0
    results = Results.from_json(out / "results.json")
    assert {row.attribute for row in results.rows} == {"emotion", "speech"}
    assert {row.attacker for row in results.select(system="original", attribute="emotion")} >= {
        *UNCUT,
        SHUFFLED,
    }
    assert not (out / "fold-0" / "attackers").exists()


def test_what_wandb_refuses_loses_no_evaluation(evaluated, capsys, monkeypatch):
    """It is a line; the next start logs into the same runs; and a key that cannot be one is refused before any work."""
    run, out = evaluated
    path = out / "wandb" / "evaluation.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({system: {**one, "results": "of other results"} for system, one in before.items()}))
    assert run("--wandb-project", "a/b") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert "W&B has not got the evaluation" in line and "Invalid project name 'a/b'" in line
    assert run("--wandb-mode", "disabled") == 0
    assert {one["results"] for one in json.loads(path.read_text()).values()} == {"of other results"}
    assert run("--wandb-project", "mine") == 0
    assert json.loads(path.read_text()) == before, "the same ids"
    for one in before.values():
        assert len(list((out / "wandb").glob(f"offline-run-*-{one['id']}"))) == 2
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(PseganError, match="add --wandb-mode offline"):
        run()


def test_judges_hear_spoken_words(tmp_path, repository, capsys):
    """A reading in English, cut into utterances of two invented speakers and moods, evaluated as anybody's corpus would be."""
    package = pytest.importorskip("moonshine_voice")
    reading = read_audio(Path(package.get_assets_path()) / "two_cities.wav")
    text = {"times": "It was the best of times, it was the worst of times", "age": "It was the age of wisdom"}
    spans = {"times": (0, 64_000), "age": (64_000, 96_000)}
    rows = []
    for number, (speaker, mood, content, split) in enumerate(
        itertools.product(("a", "b"), ("neutral", "sad"), text, SUBSETS)
    ):
        first, last = spans[content]
        gain = 0.2 + 0.013 * number  # no two are the same recording
        write_audio(tmp_path / f"{number}.wav", gain * reading[first:last])
        said = text[content] if content == "times" else ""
        rows.append({
            "path": f"{number}.wav", "emotion": mood, "speaker": speaker, "content": content, "split": split, "text": said
        })  # fmt: skip
    write_manifest(tmp_path / "manifest.csv", rows)
    corpus = {"manifest": str(tmp_path / "manifest.csv"), "language": "en"}
    (tmp_path / "corpus.yaml").write_text(yaml.safe_dump(
        {"data": {"class_path": "datamodules.ManifestDataModule", "init_args": corpus}}
    ))  # fmt: skip
    content = {
        "name": "spoken", "out": str(tmp_path / "out"), "corpus": str(tmp_path / "corpus.yaml"), "permutations": 1,
        "architectures": {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}}, "resamples": 100,
        "attackers": ["ignorant"],
    }  # fmt: skip
    (tmp_path / "spoken.yaml").write_text(yaml.safe_dump(content))
    words = ["evaluate", "--config", str(tmp_path / "spoken.yaml"), "--workers", "1", "--wandb-mode", "disabled"]
    assert cli.run(words) == 0
    results = Results.from_json(tmp_path / "out" / "results.json")
    for system in ("original", "copy-synthesis"):
        found = {(row.judge, row.metric): row for row in results.select(system=system) if row.judge}
        single = {key: row for key, row in found.items() if "minus" not in row.metric}
        assert single.keys() == {
            *((judge, metric) for judge in ("moonshine", "pocketsphinx") for metric in ("wer", "wer_to_original")),
            *(("resemblyzer", metric) for metric in ("eer", "eer_protected", "eer_neutral")),
            *(("dnsmos", metric) for metric in ("overall", "signal", "background", "p808")),
            *(("level", metric) for metric in ("loudest_median", "loudest_p95", "mean_level", "clipped")),
        }
        assert not [row for row in single.values() if pd.isna([row.value, row.low, row.high]).any()]
        assert {row.n for (judge, _), row in single.items() if judge == "moonshine"} == {4}
    original = {(row.judge, row.metric): row.value for row in results.select(system="original") if row.judge}
    assert original["moonshine", "wer"] < 0.3
    assert original["moonshine", "wer_to_original"] == original["level", "loudest_p95"] == 0
    printed = capsys.readouterr().out
    assert "what is kept, by judge" in printed and "moonshine" in printed
    # a text that is corrected changes scores of words alone, and nothing is heard again
    heard = (tmp_path / "out" / "corpora" / "original" / "judged" / "moonshine.jsonl").read_bytes()
    write_manifest(tmp_path / "manifest.csv", [{**row, "text": text[row["content"]]} for row in rows])
    assert cli.run(words) == 0
    again = Results.from_json(tmp_path / "out" / "results.json")
    assert not again.select(system="original", metric="wer_to_original")
    assert again.select(system="original", judge="moonshine", metric="wer")[0].n == 8
    assert (tmp_path / "out" / "corpora" / "original" / "judged" / "moonshine.jsonl").read_bytes() == heard


def test_one_system_that_wandb_refuses_stops_no_other(evaluated, capsys):
    """It leaves no half run; weights may be missing alone; and a damaged record is a line."""
    run, out = evaluated
    path, picture = out / "wandb" / "evaluation.json", out / "figures" / "speech_noise.png"
    before, kept = json.loads(path.read_text()), picture.read_bytes()
    path.write_text(json.dumps({system: {**one, "results": "of other results"} for system, one in before.items()}))
    picture.write_text("no picture")
    (weights,) = (out / "wandb" / "weights").glob("psegan-*")
    shutil.rmtree(weights)
    weights.touch()  # where the folder should be
    runs = set((out / "wandb").glob("offline-run-*"))
    assert run() == 0
    missing, refused = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert "W&B has no weights of psegan (" in missing and "exists already" in missing
    assert f"W&B has not got the evaluation in {out} of noise (cannot identify image file" in refused
    assert [system for system, one in json.loads(path.read_text()).items() if one != before[system]] == ["noise"]
    new = {folder.name.rpartition("-")[2]: folder for folder in set((out / "wandb").glob("offline-run-*")) - runs}
    assert new.keys() == {one["id"] for system, one in before.items() if system != "noise"}
    records = read_offline_run(new[before["psegan"]["id"]])
    artifacts = {one.type for one in kinds(records, "artifact")}
    assert {"results", "dataset"} <= artifacts and "model" not in artifacts
    assert {history(records)[name][0]["_type"] for name in ("t-SNE", "speech")} == {"image-file"}

    weights.unlink()
    picture.write_bytes(kept)
    assert run() == 0
    assert json.loads(path.read_text()) == before

    for damaged in ("{", '{"noise": {"results": "x"}}'):
        path.write_text(damaged)
        capsys.readouterr()
        assert run() == 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
        assert f"{path} is damaged; restore it, or remove it" in line
        assert path.read_text() == damaged
    path.write_text(json.dumps(before))


def test_judges_alone_listen_to_speech_without_emotions(repository, tmp_path, capsys):
    data = SyntheticDataModule(**TINY)
    rows = []
    for utterance in data.utterances()[:12]:
        path = tmp_path / "speech" / f"{utterance.id.replace('/', '-')}.wav"
        path.parent.mkdir(exist_ok=True)
        write_audio(path, data.loader()(utterance))
        rows.append({"path": path.name, "speaker": f"s{len(rows) % 6}"})
    write_manifest(tmp_path / "speech" / "manifest.csv", rows)
    file = tmp_path / "evaluation.yaml"
    content = yaml.safe_load((repository / "experiments" / "evaluate" / "librispeech.yaml").read_text())
    content["judges"] = {"moonshine": {"class_path": "Moonshine"}, "resemblyzer": {"class_path": "Resemblyzer"}}
    del content["systems"]["noise-40db"]
    file.write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    words = [
        "evaluate",
        "--config",
        str(file),
        "--data-root",
        str(tmp_path / "speech"),
        "--out",
        str(out),
        "--workers",
        "1",
    ]
    assert cli.run(words) == 0
    results = Results.from_json(out / "results.json")
    assert {row.system for row in results.rows} == {"original", "copy-synthesis", "griffin-lim", "melgan"}
    assert not [row for row in results.rows if row.attacker]
    metrics = {row.metric for row in results.select(system="copy-synthesis")}
    assert {"stoi", "loudest_p95", "eer"} <= metrics
    assert "W&B has not got" not in capsys.readouterr().err
    content["attackers"] = ["ignorant"]
    content["architectures"] = {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(PseganError, match="has a single emotion.*attackers: \\[\\] lets judges alone listen"):
        cli.run(words)


def test_a_system_that_speaks_with_profiles(repository, tmp_path):
    """Calm recordings are in no trial, of other systems either, and what compares samples is left out."""
    small_anchored().save_pretrained(tmp_path / "anchored")
    content = {
        "name": "profiles", "out": str(tmp_path / "out"), "corpus": "experiments/corpora/synthetic.yaml",
        "data": {**TINY, "n_takes": 3}, "attackers": ["informed", "strongest", "cut"], "permutations": 1, "resamples": 100,
        "n_clips": 1,
        "architectures": {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}},
        "judges": {"resemblyzer": {"class_path": "Resemblyzer"}}, "enrolment": {"calm": ["neutral"], "sentences": "any"},
    }  # fmt: skip
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump(content))
    system = f"anchored={tmp_path / 'anchored'}"
    assert cli.run(["evaluate", "--config", str(file), "--system", system, "--workers", "1"]) == 0
    results = Results.from_json(tmp_path / "out" / "results.json")
    for name in ("original", "anchored"):
        judged = {row.metric for row in results.select(system=name, judge="resemblyzer")}
        assert "eer" in judged and "eer_neutral" not in judged
    measured = {row.metric for row in results.select(system="anchored", attacker=None)}
    assert "loudest_p95" in measured and not {"stoi", "mcd"} & measured
    (trials,) = results.select(system="anchored", judge="resemblyzer", metric="eer")
    (loudest,) = results.select(system="anchored", judge="level", metric="loudest_p95")
    neutral = [u for u in SyntheticDataModule(**TINY | {"n_takes": 3}).split_utterances("test") if u.emotion == 0]
    assert trials.n == loudest.n - len(neutral) < loudest.n
    cut = {row.metric for row in results.select(system="anchored", attacker="cut", attribute="emotion")}
    assert {"uar", "bits", "residual"} <= cut and not results.select(system="original", attacker="cut")
    assert "anchored/cut-0" in results.header["betas"]["fold 0"]
