"""Corpora by manifest: the format, its splits, and one clear line that names the row for everything that is wrong."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import EmoDBDataModule, ManifestDataModule, read_manifest, write_manifest
from psegan.common.errors import PseganError
from psegan.evaluation.specification import Evaluation
from psegan.jobs.evaluation_run import EvaluationRun
from psegan.jobs.options import Options
from psegan.training import command as training

SUBSETS = ("train", "validation", "test")


def rows(n_speakers: int = 4, subsets=SUBSETS) -> list[dict]:
    """Two emotions and two sentences of every speaker, in every part of the split."""
    return [
        {
            "path": f"wav/s{speaker}_{emotion}_{text}_{subset}.flac",
            "emotion": emotion,
            "speaker": f"s{speaker}",
            "gender": ("male", "female")[speaker % 2],
            "content": text,
            "split": subset,
        }
        for speaker in range(n_speakers)
        for emotion in ("calm", "angry")
        for text in ("a", "b")
        for subset in subsets
    ]


def corpus(folder: Path, listed: list[dict], name: str = "manifest.csv") -> str:
    """Recordings and their manifest."""
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    for row in listed:
        if row.get("path"):
            soundfile.write(folder / row["path"], np.full(1600, 0.1), 16_000)
    write_manifest(folder / name, listed)
    return str(folder / name)


def without(column: str, listed: list[dict]) -> list[dict]:
    return [{name: text for name, text in row.items() if name != column} for row in listed]


def changed(listed: list[dict], index: int, **cells) -> list[dict]:
    return [{**row, **cells} if i == index else row for i, row in enumerate(listed)]


def error_of(manifest, stage: str = "fit", **kwargs) -> str:
    with pytest.raises(PseganError) as caught:
        ManifestDataModule(manifest, **kwargs).setup(stage)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl"])
def test_a_corpus_of_a_manifest(tmp_path, name):
    listed = [{**row, "target": index % 2, "seed": None} for index, row in enumerate(rows())]
    data = ManifestDataModule(corpus(tmp_path / "mine", listed, name))
    assert data.n_classes == {"emotion": 2, "speaker": 4, "gender": 2, "content": 2}
    assert data.classes["emotion"] == ("angry", "calm")
    assert data.corpus == data.title == "mine"
    assert data.n_folds == 1 and data.shares_speakers
    for subset in SUBSETS:
        part = data.split_utterances(subset)
        assert [u.id for u in part] == sorted(row["path"][:-5] for row in listed if row["split"] == subset)
    by_id = {utterance.id: utterance for utterance in data.utterances()}
    for index, row in enumerate(listed):
        utterance = by_id[row["path"][:-5]]
        assert {a: data.classes[a][utterance.label(a)] for a in data.classes} == {a: row[a] for a in data.classes}
        assert utterance.details == {"target": str(index % 2)}
    batch = next(iter(data.test_dataloader()))
    assert batch.length.tolist() == [1600] * 16


def test_columns_that_a_corpus_does_not_know(tmp_path):
    manifest = corpus(tmp_path, without("gender", without("content", rows())))
    data = ManifestDataModule(manifest)
    assert data.classes["gender"] == data.classes["content"] == ("unknown",)
    assert {u.gender for u in data.utterances()} == {0}


def test_speech_without_emotion_trains_a_vocoder_and_nothing_that_needs_one(tmp_path, from_repository):
    manifest = corpus(tmp_path, without("emotion", rows()))
    data = ManifestDataModule(manifest)
    data.setup("fit")
    assert data.emotions == ("unknown",) and len(data.split_utterances("train")) == 16
    overlays = ["--config=experiments/corpora/manifest.yaml", f"--data.init_args.manifest={manifest}"]
    fit = ["fit", *overlays, f"--run.dir={tmp_path}/run"]
    with pytest.raises(PseganError, match="a single class of emotion, or doesn't know it; a classifier needs"):
        training.main([*fit, "--config=experiments/classifier.yaml"])
    with pytest.raises(PseganError, match="a single emotion, or doesn't know it; to hide emotion takes two"):
        training.main([*fit, "--config=experiments/gengan.yaml"])
    evaluation = yaml.safe_load(Path("experiments/evaluate/demo.yaml").read_text())
    content = {"data": {"class_path": "datamodules.ManifestDataModule", "init_args": {"manifest": manifest}}}
    (tmp_path / "corpus.yaml").write_text(yaml.safe_dump(content))
    evaluation |= {"corpus": str(tmp_path / "corpus.yaml"), "data": {}, "out": str(tmp_path / "out")}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation))
    with pytest.raises(PseganError, match="a single emotion, or doesn't know it; attackers need a corpus"):
        EvaluationRun(Evaluation.read(str(tmp_path / "evaluation.yaml")), Options()).run()
    assert not (tmp_path / "out").exists()
    vocoder = ["--config=experiments/vocos.yaml", "--model.init_args.vocoder.init_args.depth=1", "--run.loggers=[]"]
    training.main([*fit, *vocoder, "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"])
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_texts_and_language(tmp_path):
    listed = [{**row, "text": "Dzień dobry, świecie." if index else ""} for index, row in enumerate(rows())]
    manifest = corpus(tmp_path, listed)
    data = ManifestDataModule(manifest, language="pl")
    assert data.language == "pl" and ManifestDataModule(manifest).language is None
    assert Counter(u.text for u in data.utterances()) == {"Dzień dobry, świecie.": len(listed) - 1, None: 1}
    assert all("text" not in u.details for u in data.utterances())
    assert "language is 'Polish', but must be a code of ISO 639-1" in error_of(manifest, language="Polish")


def test_classes_in_a_given_order(tmp_path):
    manifest = corpus(tmp_path, rows(subsets=("test",)))
    names = {"emotion": ["sad", "calm", "angry"], "gender": ["male", "female"]}
    data = ManifestDataModule(manifest, classes=names, name="other")
    data.setup("test")
    assert data.corpus == "other"
    assert data.n_classes == {"emotion": 3, "speaker": 4, "gender": 2, "content": 2}
    assert {data.emotions[u.emotion] for u in data.utterances() if "calm" in u.id} == {"calm"}
    assert {u.emotion for u in data.utterances()} == {1, 2}


def test_ids_are_paths_without_the_ending_unless_given(tmp_path):
    listed = rows()
    listed[0]["id"] = "first"
    listed[1]["path"] = str(tmp_path / listed[1]["path"])
    listed[2]["path"] = "../" + tmp_path.name + "/" + listed[2]["path"]
    ids = [row["id"] for row in read_manifest(corpus(tmp_path, listed))]
    assert ids[0] == "first"
    assert ids[1] == listed[1]["path"][1:-5]
    assert ids[2] == f"{tmp_path.name}/wav/s0_calm_a_test"
    assert ids[3] == listed[3]["path"][:-5]
    assert len(ManifestDataModule(str(tmp_path / "manifest.csv")).utterances()) == len(listed)


def test_several_manifests_are_one_corpus(tmp_path):
    manifests = [corpus(tmp_path / name, rows()) for name in ("original", "copies")]
    data = ManifestDataModule(manifests)
    assert data.corpus == "original+copies"
    ids = [utterance.id for utterance in data.split_utterances("train")]
    assert Counter(id.split("/")[0] for id in ids) == {"original": 16, "copies": 16}
    assert {u.path.parents[1].name for u in data.utterances() if u.id.startswith("copies/")} == {"copies"}


def test_several_manifests_that_do_not_go_together(tmp_path):
    one = corpus(tmp_path / "a" / "x", rows())
    assert "id 'x/wav/s0_calm_a_train' is there already" in error_of([one, corpus(tmp_path / "b" / "x", rows())])
    assert "is there already" in error_of([one, one])
    lacking = corpus(tmp_path / "y", without("gender", rows()))
    assert f"{lacking}: has no column gender, but {one} has" in error_of([one, lacking])
    assert f"{lacking}: has no column gender, but {one} has" in error_of([lacking, one])
    undivided = corpus(tmp_path / "z", without("split", rows()))
    assert f"{undivided}, line 2" in error_of([one, undivided])
    assert "name at least one" in error_of([])


def test_each_stage_needs_its_own_subsets_only(tmp_path):
    attacker = ManifestDataModule(corpus(tmp_path / "a", rows(subsets=SUBSETS[:2])))
    attacker.setup("fit")
    assert attacker.training_speakers == ("s0", "s1", "s2", "s3")
    with pytest.raises(PseganError, match="the test set of split 'manifest' is empty"):
        attacker.setup("test")
    with pytest.raises(PseganError, match="the test set of split 'manifest' is empty"):
        attacker.test_dataloader()
    protected = ManifestDataModule(corpus(tmp_path / "b", rows(subsets=SUBSETS[2:])))
    protected.setup("test")
    assert protected.training_speakers == () and not protected.shares_speakers
    with pytest.raises(PseganError, match="the training set of split 'manifest' is empty"):
        protected.setup("fit")
    half = ManifestDataModule(corpus(tmp_path / "c", rows(subsets=SUBSETS[::2])))
    with pytest.raises(PseganError, match="the validation set of split 'manifest' is empty"):
        half.setup("fit")


def test_whether_speakers_are_shared(tmp_path):
    listed = rows()
    some = [row for row in listed if row["split"] != "train" or row["speaker"] != "s0"]
    assert not ManifestDataModule(corpus(tmp_path / "a", some)).shares_speakers
    untested = [row for row in listed if row["split"] != "test"]
    assert ManifestDataModule(corpus(tmp_path / "b", untested)).shares_speakers
    disjoint = ManifestDataModule(corpus(tmp_path / "c", listed), split="speaker-disjoint", n_folds=3)
    assert not disjoint.shares_speakers


def test_a_test_set_may_have_sentences_of_its_own(tmp_path):
    """All of them: then nobody classifies sentences. One alone is a mistake."""
    listed = [row | {"content": "other"} if row["split"] == "test" else row for row in rows()]
    data = ManifestDataModule(corpus(tmp_path / "a", listed))
    data.setup("fit")
    assert not data.shares_contents and data.shares_speakers
    assert "content 'other' occurs in the test set" in error_of(
        corpus(tmp_path / "b", changed(rows(), 2, content="other"))
    )
    disjoint = ManifestDataModule(corpus(tmp_path / "c", rows(8)), split="sentence-and-speaker-disjoint", n_folds=4)
    heard = {u.content for subset in SUBSETS[:2] for u in disjoint.split_utterances(subset)}
    assert len(heard) == 1 and not heard & {u.content for u in disjoint.split_utterances("test")}
    unknown = corpus(tmp_path / "d", without("content", rows()))
    assert "needs 2 sentences" in error_of(unknown, split="sentence-and-speaker-disjoint", n_folds=4)


@pytest.mark.parametrize("speakers", ["all", "protector", "attacker"])
def test_folds_of_speakers(tmp_path, speakers):
    manifest = corpus(tmp_path, without("split", rows(20, ("x",))))
    tested = []
    for fold in range(5):
        data = ManifestDataModule(manifest, split="speaker-disjoint", fold=fold, speakers=speakers)
        assert data.n_folds == 5
        by_subset = {subset: {u.speaker for u in data.split_utterances(subset)} for subset in SUBSETS}
        assert Counter(data.speakers[speaker] in data.training_speakers for speaker in by_subset["test"]) == {False: 4}
        assert sum(int(data.speakers[speaker][1:]) % 2 for speaker in by_subset["test"]) == 2
        sizes = {"all": [12, 4, 4], "protector": [6, 2, 4], "attacker": [6, 2, 4]}[speakers]
        assert [len(by_subset[subset]) for subset in SUBSETS] == sizes
        tested += by_subset["test"]
    assert sorted(tested) == list(range(20))


def test_arguments_of_folds(tmp_path):
    manifest = corpus(tmp_path, rows())
    for n_folds in (2, 5):
        message = error_of(manifest, split="speaker-disjoint", n_folds=n_folds)
        assert f"n_folds is {n_folds}, but must lie between 3 and the number of speakers (4 in" in message
    assert "split is 'paper', but must be 'manifest' or" in error_of(manifest, split="paper")
    assert "fold is 1, but split 'manifest'" in error_of(manifest, fold=1)
    assert "speakers is 'attacker', but split 'manifest'" in error_of(manifest, speakers="attacker")


@pytest.mark.parametrize(
    ("listed", "line", "message"),
    [
        (without("speaker", rows()), None, "has no column speaker (but path, emotion,"),
        (without("split", rows()), None, "has no column split; add it, or use split 'speaker-disjoint'"),
        (changed(rows(), 2, emotion=" "), 4, "emotion is empty; fill it in, or remove the row or the whole column emotion"),
        (changed(rows(), 2, gender=""), 4, "gender is empty; fill it in, or remove the row or the whole column gender"),
        (changed(rows(), 5, id="wav/s0_calm_a_train"), 7, "id 'wav/s0_calm_a_train' is there already, in line 2"),
        (changed(rows(), 5, id="../x"), 7, "id '../x' is no plain path below a folder"),
        (changed(rows(), 5, id="x//y"), 7, "id 'x//y' is no plain path below a folder"),
        (changed(rows(), 5, id="./x"), 7, "id './x' is no plain path below a folder"),
        (changed(rows(), 5, id="."), 7, "id '.' is no plain path below a folder"),
        (changed(rows(), 5, split="dev"), 7, "split is 'dev'; one of train, validation, test"),
        (changed(rows(), 5, split=""), 7, "has no split, but 47 of 48 rows have one"),
        (changed(rows(), 3, speaker="s\n0"), 6, "speaker holds a line break"),
        (changed(rows(), 3, gender="female"), 5, "speaker 's0' is female here and male in an earlier row"),
        (changed(rows(), 1, emotion="clam"), 3, "emotion 'clam' occurs in the validation set, but not in the training"),
        (changed(rows(), 2, content="c"), 4, "content 'c' occurs in the test set, but not in the training set"),
        (changed(rows(), 3, emotion="clam"), 5, "emotion 'clam' occurs in the training set, but not in the test set"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong(tmp_path, listed, line, message):
    manifest = corpus(tmp_path, listed)
    found = error_of(manifest)
    assert found.startswith(f"{manifest}, line {line} (wav/s0_" if line else f"{manifest}: ")
    assert message in found


def test_a_class_may_be_absent_from_the_test_if_the_classes_are_stated(tmp_path):
    manifest = corpus(tmp_path, changed(rows(), 3, emotion="sad"))
    data = ManifestDataModule(manifest, classes={"emotion": ["angry", "calm", "sad"]})
    data.setup("fit")
    data = ManifestDataModule(manifest, classes={"emotion": ["angry", "calm", "sad", "happy"]})
    with pytest.raises(PseganError, match="training set of split 'manifest' has no utterance of emotion happy"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"emotion": ["calm"]}, "line 4 (wav/s0_angry_a_train.flac): emotion 'angry' is not one of the classes given"),
        ({"mood": ["calm"]}, "classes has the key 'mood'"),
        ({"emotion": []}, "classes: the names of emotion"),
        ({"emotion": ["calm", "angry", "calm"]}, "classes: the names of emotion"),
        ({"gender": ["male", "female"]}, "has no column gender, but classes has that key"),
    ],
)
def test_classes_that_are_wrong(tmp_path, classes, message):
    manifest = corpus(tmp_path, without("gender", rows(subsets=("train",))))
    assert message in error_of(manifest, classes=classes)


def test_a_recording_that_is_not_there(tmp_path):
    manifest = corpus(tmp_path, rows())
    lost = tmp_path / "wav" / "s0_calm_b_train.flac"
    lost.unlink()
    assert error_of(manifest).startswith(f"{manifest}, line 5 (wav/s0_calm_b_train.flac): {lost}: no such file;")
    text = "no path but a long sentence " * 20
    write_manifest(tmp_path / "swapped.csv", [{**rows()[0], "path": text}])
    assert "cannot be read (File name too long)" in error_of(str(tmp_path / "swapped.csv"))
    lost.symlink_to("/dev/zero")
    assert f"{lost}: is a pipe or a device, not a file" in error_of(manifest)


def test_a_recording_twice_under_two_names(tmp_path):
    manifest = corpus(tmp_path, changed(rows(), 1, path="wav/../wav/s0_calm_a_train.flac", id="again"))
    assert f"recording {tmp_path}/wav/s0_calm_a_train.flac is there already, in line 2" in error_of(manifest)


HEADER = b"path,emotion,speaker\n"
OBJECT = b'{"path": "a.wav", "emotion": "calm", "speaker": "s"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "lists no utterance"),
        ("x.csv", HEADER, "lists no utterance"),
        ("x.csv", b"path;emotion;speaker\na.wav;calm;s\n", "has no column path (but path;emotion;speaker)"),
        ("x.csv", b"fLaC\x00\x00\xff\xfe\n", "is no manifest (it is no text in UTF-8)"),
        ("x.csv", HEADER + b"a.wav,calm\n", "line 2 (a.wav): has 2 cells, but the header 3"),
        ("x.csv", HEADER + b"a.wav,calm,s\na, b.wav,calm,s\n", "line 3 (a): has 4 cells, but the header 3"),
        ("x.csv", HEADER + b'a.wav,calm,"s\n', "is no manifest (unexpected end of data)"),
        ("x.csv", b"path,emotion,path,speaker\n", "line 1: the column path is there twice"),
        ("x.jsonl", b"", "lists no utterance"),
        ("x.jsonl", OBJECT + b'{"path": \n', "line 2: is not JSON (Expecting value)"),
        ("x.jsonl", OBJECT + b"9" * 5000, "line 2: is not JSON (a number or a nest is too long)"),
        ("x.jsonl", OBJECT + b"[" * 100_000, "line 2: is not JSON (a number or a nest is too long)"),
        ("x.jsonl", b'{"path": "a.wav", "path": "b.wav"}\n', "line 1: path is there twice"),
        ("x.jsonl", b'{"path": "a.wav", "path ": "b.wav"}\n', "line 1: path is there twice"),
        ("x.jsonl", b'{"path": {"path": "a.wav"}}\n', "line 1: path is no text but a list or an object"),
        ("x.jsonl", b"\n[1]\n", "line 2: is not an object of JSON"),
        ("x.jsonl", b'{"path": ["a.wav"]}\n', "line 1: path is no text but a list"),
        ("x.jsonl", OBJECT + b'{"path": "b.wav", "emotion": "calm"}\n', "line 2 (b.wav): speaker is empty"),
        ("x.jsonl", OBJECT + b'{"emotion": "calm", "speaker": "s"}\n', "line 2: path is empty"),
        ("x.txt", HEADER, "a manifest ends in .csv or .jsonl"),
    ],
)
def test_files_that_are_no_manifest(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PseganError, match=re.escape(message)) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(PseganError, match="none.csv: no such file"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PseganError, match="folder.csv: is a folder"):
        read_manifest(tmp_path / "folder.csv")
    with pytest.raises(PseganError, match="ends in .csv or .jsonl"):
        write_manifest(tmp_path / "x.tsv", rows())
    assert not (tmp_path / "x.tsv").exists()


def test_what_spreadsheets_and_pandas_write(tmp_path):
    """A byte order mark, carriage returns, an index without a name, blanks and blank lines."""
    (tmp_path / "x.csv").write_bytes(
        b"\xef\xbb\xbf, path ,emotion,speaker,take\r\n0,a.wav , calm,1,\r\n\r\n1,b.wav,calm,2,3\r\n"
    )
    first, second = read_manifest(tmp_path / "x.csv")
    assert first == {"path": "a.wav", "emotion": "calm", "speaker": "1", "take": "", "id": "a"}
    assert second["take"] == "3"
    (tmp_path / "x.jsonl").write_text(
        '{"path": "a.wav", "emotion": "calm", "speaker": 1}\n\n'
        '{"path": "b.wav", "emotion": "calm", "speaker": 2, "take": 3, "x": null, "ok": true}\n'
    )
    first, second = read_manifest(tmp_path / "x.jsonl")
    assert first == {"path": "a.wav", "emotion": "calm", "speaker": "1", "take": "", "x": "", "ok": "", "id": "a"}
    assert (second["speaker"], second["take"], second["ok"]) == ("2", "3", "true")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8).map(str.strip)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.sampled_from(["csv", "jsonl"]))
def test_what_is_written_is_read_again(tmp_path, texts, ending):
    listed = [
        {"path": f"{n}.wav", "emotion": "calm", "speaker": "s", "note": note, "more,\"so": more, "id": f"i{n}"}
        for n, (note, more) in enumerate(texts)
    ]  # fmt: skip
    write_manifest(tmp_path / f"x.{ending}", listed)
    assert read_manifest(tmp_path / f"x.{ending}") == listed


def test_a_manifest_is_never_half_written(tmp_path):
    path = tmp_path / "x.csv"
    write_manifest(path, rows())
    before = path.read_bytes()

    def interrupted():
        yield from rows()[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, interrupted())
    with pytest.raises(UnicodeEncodeError):
        write_manifest(path, [{"path": "a", "note": "\ud800"}])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]


def test_a_real_corpus_by_manifest_is_the_corpus(tmp_path, corpora_root):
    source = EmoDBDataModule(root=str(corpora_root / "emodb"))
    write_manifest(
        tmp_path / "manifest.csv",
        [
            {
                "id": utterance.id,
                "path": str(utterance.path),
                "split": subset,
                **{attribute: names[utterance.label(attribute)] for attribute, names in source.classes.items()},
            }
            for subset in SUBSETS
            for utterance in source.split_utterances(subset)
        ],
    )
    classes = {attribute: list(names) for attribute, names in source.classes.items()}
    data = ManifestDataModule(str(tmp_path / "manifest.csv"), classes=classes)
    assert data.classes == source.classes
    for subset in SUBSETS:
        for ours, theirs in zip(data.split_utterances(subset), source.split_utterances(subset), strict=True):
            assert ours.id == theirs.id and ours.path == theirs.path
            assert all(ours.label(a) == theirs.label(a) for a in classes)


def test_fit_and_test_on_the_command_line(tmp_path, from_repository):
    manifest = corpus(tmp_path / "mine", rows())
    options = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--run.loggers=[csv]"]
    configs = ["--config=experiments/classifier.yaml", "--config=experiments/corpora/manifest.yaml"]
    fit = ["fit", *configs, *options, "--trainer.max_epochs=1"]
    with pytest.raises(PseganError, match=re.escape(f"{tmp_path / 'none.csv'}: no such file")):
        training.main([*fit, f"--data.init_args.manifest={tmp_path / 'none.csv'}", f"--run.dir={tmp_path / 'none'}"])
    cli = training.main([*fit, f"--data.init_args.manifest={manifest}", f"--run.dir={tmp_path / 'run'}"])
    assert cli.model.n_classes == {"emotion": 2, "speaker": 4, "gender": 2, "content": 2}
    config = tmp_path / "run" / "config.yaml"
    assert yaml.safe_load(config.read_text())["data"]["init_args"]["manifest"] == manifest
    cli = training.main(["test", f"--config={config}", "--ckpt_path=last"])
    assert 0 <= cli.trainer.callback_metrics["test/uar"] <= 1
