"""What a network has heard: its own data, that of those it was trained with, and nothing unknown."""

from pathlib import Path

import pytest
import torch
import yaml

from datamodules import ManifestDataModule, SyntheticDataModule, write_manifest
from datamodules.base import CorpusDataModule
from datamodules.joint import PUBLISHED
from psegan.common.errors import PseganError
from psegan.evaluation.leakage import _check, check_manifest, check_systems
from psegan.evaluation.specification import Evaluation
from psegan.jobs.evaluation_run import EvaluationRun
from psegan.jobs.options import Options
from psegan.lineage import TrainingData, lineage
from psegan.speech.audio import write_audio

SPEAKERS = {"class_path": "datamodules.SyntheticDataModule", "init_args": {"split": "paper", "split_seed": 7}}


@pytest.fixture
def run(tmp_path):
    """Writes the traces of a run, without its weights, and gives its checkpoint's path."""

    def run(name: str, model: dict | None = None, **more: object) -> str:
        checkpoint = tmp_path / name / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        content = {"data": SPEAKERS, "model": {"init_args": model or {}}, "run": more}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return str(checkpoint)

    return run


def test_every_network_that_a_training_read_counts(run):
    matchers = [run("one"), run("two")]
    critic = run("critic", continued_from=run("before"))
    system = run("system", {"speaker_matcher_checkpoint": matchers, "discriminator_checkpoint": critic})
    assert [(network.role, Path(network.source).parents[1].name) for network in lineage(system, "psegan")] == [
        ("psegan", "system"),
        ("the speaker matcher of psegan", "one"),
        ("the speaker matcher of psegan", "two"),
        ("the discriminator of psegan", "critic"),
        ("the discriminator of psegan", "before"),
    ]


def test_an_unknown_past_is_refused(run):
    system = run("system", {"speaker_matcher_checkpoint": "nowhere/checkpoints/last.ckpt"})
    spec = {"class_path": "psegan.protection.protector.Protector", "init_args": {"checkpoint": system}}
    corpus = EvaluationRun(Evaluation.read("experiments/evaluate/demo.yaml"), Options()).corpora
    with pytest.raises(PseganError, match=r"nowhere.*no such checkpoint of the speaker matcher of psegan"):
        check_systems({"psegan": spec}, corpus)


def test_a_start_that_all_trainings_share_is_checked_too(run, tmp_path):
    """Given for the whole evaluation, a checkpoint to start from is as much a leak as one given for an attacker."""
    content = yaml.safe_load(Path("experiments/evaluate/demo.yaml").read_text())
    start = {"model.init_args.encoder_checkpoint": run("start")}  # of another split
    file = tmp_path / "evaluation.yaml"
    file.write_text(yaml.safe_dump({**content, "set": start}))
    with pytest.raises(PseganError, match="was trained on .* utterances of the test set"):
        EvaluationRun(Evaluation.read(str(file)), Options()).check_leakage()


def test_a_system_that_heard_a_tested_sentence_is_refused(run):
    """Of other speakers: where nobody may know the test's sentences, that is enough."""
    apart = {"split": "sentence-and-speaker-disjoint", "fold": 1}
    attackers = {1: SyntheticDataModule(**apart, speakers="attacker")}
    system = run("system")
    config = Path(system).parents[1] / "config.yaml"
    spec = {"class_path": "psegan.protection.protector.Protector", "init_args": {"checkpoint": system}}

    def check(**init_args: object) -> dict[str, str]:
        data = {**SPEAKERS, "init_args": {**init_args, "speakers": "protector"}}
        config.write_text(yaml.safe_dump({"data": data, "model": {}}))
        return check_systems({"psegan": spec}, attackers)

    assert check(**apart) == {"psegan": "psegan: synthetic, split sentence-and-speaker-disjoint"}
    with pytest.raises(
        PseganError, match="was trained on sentence .* of the test set of fold 1; train it with the same"
    ):
        check(split="speaker-disjoint", fold=1)
    with pytest.raises(PseganError, match=r"utterances of the test set of fold 1 .* first\); train it with the same"):
        check(**{**apart, "fold": 2})


@pytest.mark.parametrize("attribute", ["speaker", "content"])
def test_a_manifest_that_mixes_what_is_kept_apart_is_refused(tmp_path, attribute):
    rows = [
        {"path": f"{name}.flac", "emotion": "calm", "speaker": name, "content": name, "split": subset}
        for name, subset in (("a", "train"), ("b", "test"))
    ]
    for row in rows:
        (tmp_path / row["path"]).write_text(row["path"])
    path = tmp_path / "manifest.csv"
    write_manifest(path, rows)
    check_manifest(path, ("speaker", "content"))
    rows[0][attribute] = "b"
    write_manifest(path, rows)
    check_manifest(path)
    with pytest.raises(PseganError, match=rf"a \(train\) is of {attribute} b, as the test set is; correct the split"):
        check_manifest(path, ("speaker", "content"))


def stated(role: str, data: dict, corpus: CorpusDataModule | None = None) -> str:
    """What the check says of a shipped network that was trained on ``data``."""
    network = TrainingData(role, "shipped", data)
    return _check(network, corpus or SyntheticDataModule(split="paper"), 0, attackers=True)


@pytest.mark.parametrize("name", ["ravdess", "emodb", "nemo", "librispeech"])
def test_the_released_content_matcher_is_stated_where_its_corpus_is_not(name, tmp_path, monkeypatch):
    """Its corpus has no emotions, and its weights don't say where that lay."""
    (matcher,) = (one for one in lineage("psegan-ravdess", "psegan") if one.role.startswith("the content matcher"))
    monkeypatch.chdir(tmp_path)
    write_manifest("manifest.csv", [{"path": "a.flac", "speaker": "s", "split": "test"}])
    corpus = PUBLISHED[name]("data") if name in PUBLISHED else ManifestDataModule("manifest.csv", name=name)
    said = _check(matcher, corpus, 0, attackers=False)
    assert said == (
        "the content matcher of psegan: speechocean762 (not compared with the test set: speechocean762 is not here)"
    )


READERS = {"class_path": "datamodules.ManifestDataModule", "init_args": {"split": "speaker-disjoint", "n_folds": 3}}
MATCHER = "the content matcher of psegan"


def of_readers(name: str) -> dict:
    """What a matcher that was trained on a manifest of that name says of it."""
    return {**READERS, "init_args": {**READERS["init_args"], "name": name}}


def read_aloud(folder: Path) -> str:
    """The manifest of recordings of six speakers."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(6):
        write_audio(folder / f"{number}.wav", torch.full((1_600,), number / 10))
        rows.append({"path": f"{number}.wav", "speaker": f"s{number}", "text": "a"})
    write_manifest(folder / "manifest.csv", rows)
    return str(folder / "manifest.csv")


@pytest.mark.parametrize("name", ["speechocean762", "readers"])
def test_a_content_matcher_is_compared_with_the_corpus_that_it_learnt_from(name, tmp_path):
    manifest = read_aloud(tmp_path / "elsewhere")
    tested = [
        ManifestDataModule(manifest, split="speaker-disjoint", n_folds=3, name=name, fold=fold) for fold in (0, 1)
    ]
    said = _check(TrainingData(MATCHER, "shipped", of_readers(name)), tested[0], 0, attackers=False)
    assert said == f"{MATCHER}: {name}, split speaker-disjoint"
    with pytest.raises(PseganError, match=r"was trained on \d utterances of the test set of fold 0"):
        stated(MATCHER, of_readers(name), tested[1])


def test_a_content_matcher_is_compared_with_its_corpus_where_that_is_here(tmp_path, monkeypatch):
    manifest = read_aloud(tmp_path / "data" / "speechocean762")
    monkeypatch.chdir(tmp_path)
    other = ManifestDataModule(manifest, split="speaker-disjoint", n_folds=3, name="other", fold=1)
    with pytest.raises(PseganError, match=r"was trained on data/speechocean762/\d.wav, which is \d of the test set"):
        stated(MATCHER, of_readers("speechocean762"), other)


def test_a_content_matcher_of_a_corpus_that_nobody_knows_is_refused(tmp_path, monkeypatch):
    """As any other network: a manifest may list what is tested, whatever it is called."""
    monkeypatch.chdir(tmp_path)
    for role, name, corpus in (
        (MATCHER, "readers", None),
        (MATCHER, "ravdess", PUBLISHED["ravdess"]("data")),
        ("psegan", "speechocean762", None),
    ):
        with pytest.raises(PseganError, match=f"shipped: {role} was trained on a corpus of its maker's own"):
            stated(role, of_readers(name), corpus)


def test_corpora_of_a_vocoder_that_are_not_here_are_named(tmp_path):
    for name in ("here", "there"):
        path = tmp_path / name / "a.wav"
        path.parent.mkdir()
        write_audio(path, torch.full((1_600,), 0.1))
        write_manifest(path.parent / "manifest.csv", [{"path": "a.wav", "speaker": "s", "split": "train"}])
    init = {"root": str(tmp_path), "corpora": ["here", "elsewhere"], "split_of": {"elsewhere": "speaker-disjoint"}}
    data = {"class_path": "datamodules.JointDataModule", "init_args": init}
    said = stated("the vocoder", data)
    assert said == "the vocoder: here+elsewhere, split manifest (not compared with the test set: elsewhere is not here)"
    with pytest.raises(PseganError, match="which is not here to be compared"):
        stated("psegan", data)
    with pytest.raises(PseganError, match="which is not here to be compared"):
        stated("the vocoder", {**data, "init_args": {**init, "corpora": ["elsewhere"], "split_of": {}}})


@pytest.mark.parametrize(("attackers", "refused"), [(["ignorant"], True), ([], False)])
def test_a_classical_attacker_learns_as_well(run, attackers, refused):
    """It has no training of its own; without any attacker, nobody shares the system's speakers."""
    apart = {"split": "speaker-disjoint", "n_speakers": 8}
    system = run("system")
    config = Path(system).parents[1] / "config.yaml"
    data = {"class_path": SPEAKERS["class_path"], "init_args": {**apart, "speakers": "all"}}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "data": data}))
    content = {
        "name": "x", "out": "runs/x", "corpus": "experiments/corpora/synthetic.yaml", "data": {**apart, "speakers": "attacker"},
        "architectures": {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}}, "attackers": attackers,
        "systems": {"psegan": {"class_path": "psegan.protection.protector.Protector", "init_args": {"checkpoint": system}}},
    }  # fmt: skip
    evaluation = EvaluationRun(Evaluation.parse(content, "x.yaml"), Options())
    if refused:
        with pytest.raises(PseganError, match="whom the attackers of fold 0 learn from too"):
            evaluation.check_leakage()
    else:
        assert "psegan" in evaluation.check_leakage()
