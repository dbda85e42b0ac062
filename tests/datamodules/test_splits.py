"""Splits on the complete lists of names: counts, evenness, disjointness, determinism."""

import hashlib
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from datamodules import (
    CorpusDataModule,
    EmoDBDataModule,
    NEMODataModule,
    RAVDESSDataModule,
    SyntheticDataModule,
    read_manifest,
)
from datamodules.base import FolderDataModule
from datamodules.splits import balanced_folds, fold_sentences, interleaved, spread
from psegan.common.errors import PseganError

SUBSETS = ("train", "validation", "test")


def ravdess_ids() -> list[str]:
    ids = []
    for actor, emotion, intensity, statement, repetition in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2)):
        if emotion == 1 and intensity == 2:
            continue
        ids.append(f"Actor_{actor:02}/03-01-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}-{actor:02}")
    return ids


def emodb_ids() -> list[str]:
    return EmoDBDataModule.complete_ids()


IDS = {
    RAVDESSDataModule: ravdess_ids,
    EmoDBDataModule: emodb_ids,
    NEMODataModule: NEMODataModule.complete_ids,
}


def make(root: Path, module: type[FolderDataModule], ids: list[str] | None = None, **kwargs) -> FolderDataModule:
    """A module over empty files of these names: splits look at names only."""
    for id in IDS[module]() if ids is None else ids:
        path = root / f"{id}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return module(root=str(root), **kwargs)


def parts(module: CorpusDataModule) -> dict[str, list]:
    return {subset: module.split_utterances(subset) for subset in SUBSETS}


def assert_partition(module: CorpusDataModule) -> None:
    ids = [utterance.id for part in parts(module).values() for utterance in part]
    assert len(ids) == len(set(ids))
    assert sorted(ids) == [utterance.id for utterance in module.utterances()]


def test_complete_ids_are_the_published_ones():
    assert RAVDESSDataModule.complete_ids() == sorted(ravdess_ids())
    names = "".join(id.removeprefix("wav/") + "\n" for id in emodb_ids())
    assert emodb_ids() == sorted(set(emodb_ids())) and len(emodb_ids()) == 535
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "fc1a73ccd55c8d70", "the list of names has changed"


def test_the_words_are_known():
    spoken = RAVDESSDataModule.parse("Actor_12/03-01-05-02-02-01-12")
    assert spoken.text == "Dogs are sitting by the door" and RAVDESSDataModule.language == "en"
    spoken = EmoDBDataModule.parse("wav/03a04Fd")
    assert spoken.text == "Heute abend könnte ich es ihm sagen." and EmoDBDataModule.language == "de"


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_ravdess_paper_split(tmp_path, seed):
    module = make(tmp_path, RAVDESSDataModule, split_seed=seed)
    split = parts(module)
    assert [len(split[subset]) for subset in SUBSETS] == [1200, 120, 120]
    assert_partition(module)
    for subset in ("validation", "test"):
        assert set(Counter(u.speaker for u in split[subset]).values()) == {5}
        assert set(Counter(u.emotion for u in split[subset]).values()) == {15}
        assert max(Counter((u.speaker, u.emotion) for u in split[subset]).values()) == 1
        assert abs(Counter(u.content for u in split[subset])[0] - 60) <= 6
    held_out = Counter((u.speaker, u.emotion) for subset in ("validation", "test") for u in split[subset])
    assert len(held_out) == 24 * 8 and max(held_out.values()) == 2
    assert {u.id for u in split["train"]} >= RAVDESSDataModule.locked


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_emodb_paper_split(tmp_path, seed):
    module = make(tmp_path, EmoDBDataModule, split_seed=seed)
    split = parts(module)
    assert [len(split[subset]) for subset in SUBSETS] == [100, 35, 400]
    assert_partition(module)
    assert set(Counter(u.speaker for u in split["train"]).values()) == {10}
    assert set(Counter(u.emotion for u in split["train"]).values()) == {14, 15}
    assert max(Counter((u.speaker, u.emotion) for u in split["train"]).values()) <= 2
    assert set(Counter(u.emotion for u in split["validation"]).values()) == {5}
    assert set(Counter(u.speaker for u in split["validation"]).values()) == {3, 4}


def test_speaker_disjoint_ravdess(tmp_path):
    module = make(tmp_path, RAVDESSDataModule, split="speaker-disjoint")
    assert module.n_folds == 6
    folds = module.folds()
    assert sorted(speaker for fold in folds for speaker in fold) == list(range(24))
    assert all(Counter(speaker % 2 for speaker in fold) == {0: 2, 1: 2} for fold in folds)
    for fold in range(6):
        module = RAVDESSDataModule(root=str(tmp_path), split="speaker-disjoint", fold=fold)
        split = parts(module)
        assert_partition(module)
        assert {u.speaker for u in split["test"]} == set(folds[fold])
        assert {u.speaker for u in split["validation"]} == set(folds[(fold + 1) % 6])
        assert [len(split[subset]) for subset in SUBSETS] == [960, 240, 240]


def test_speaker_disjoint_emodb(tmp_path):
    make(tmp_path, EmoDBDataModule)
    for fold in range(10):
        module = EmoDBDataModule(root=str(tmp_path), split="speaker-disjoint", fold=fold)
        split = parts(module)
        assert_partition(module)
        assert {u.speaker for u in split["test"]} == {fold}
        assert {u.speaker for u in split["validation"]} == {(fold + 1) % 10}
        assert {u.emotion for u in split["train"]} == set(range(7))


ROLES = ("protector", "attacker")
TRAIN_AND_VALIDATION = {
    RAVDESSDataModule: {"protector": (6, 2), "attacker": (10, 2)},
    EmoDBDataModule: {"protector": (3, 1), "attacker": (4, 1)},
}


@pytest.mark.parametrize("module", [RAVDESSDataModule, EmoDBDataModule])
@pytest.mark.parametrize("seed", [0, 3])
def test_protector_attacker_and_test_have_speakers_of_their_own(tmp_path, module, seed):
    make(tmp_path, module)
    arguments = {"root": str(tmp_path), "split": "speaker-disjoint", "split_seed": seed}
    for fold in range(module(**arguments).n_folds):
        everybody = module(fold=fold, **arguments)
        learnt: list[str] = []
        for role in ROLES:
            data, again = (module(fold=fold, speakers=role, **arguments) for _ in range(2))
            data.setup("fit")
            assert parts(data) == parts(again)
            assert data.split_utterances("test") == everybody.split_utterances("test")
            train, validation = ({u.speaker for u in data.split_utterances(subset)} for subset in SUBSETS[:2])
            assert not train & validation
            assert (len(train), len(validation)) == TRAIN_AND_VALIDATION[module][role]
            assert set(data.training_speakers) == {module.speakers[speaker] for speaker in train | validation}
            learnt += data.training_speakers
            if module is RAVDESSDataModule:
                assert sorted(speaker % 2 for speaker in validation) == [0, 1]
        tested = {module.speakers[u.speaker] for u in everybody.split_utterances("test")}
        assert sorted([*learnt, *tested]) == sorted(module.speakers)
        assert set(everybody.training_speakers) == set(learnt)


@pytest.mark.parametrize("module", [RAVDESSDataModule, EmoDBDataModule, NEMODataModule])
def test_nobody_hears_the_speakers_or_the_sentences_of_the_test(tmp_path, module):
    make(tmp_path, module)
    arguments = {"root": str(tmp_path), "split": "sentence-and-speaker-disjoint"}
    n_folds = module(**arguments).n_folds
    tested: list[str] = []
    sentences: set[int] = set()
    for fold in range(n_folds):
        learnt: dict[str, set[int]] = {}
        test = module(fold=fold, **arguments).split_utterances("test")
        for role in ("all", *ROLES):
            data = module(fold=fold, speakers=role, **arguments)
            data.setup("fit")  # refuses an emotion that training lacks
            assert not data.shares_speakers and not data.shares_contents
            assert data.split_utterances("test") == test
            heard = [u for subset in SUBSETS[:2] for u in data.split_utterances(subset)]
            for attribute in data.apart:
                assert not {u.label(attribute) for u in heard} & {u.label(attribute) for u in test}
            train, validation = ({u.speaker for u in data.split_utterances(subset)} for subset in SUBSETS[:2])
            assert not train & validation
            learnt[role] = train | validation
        assert not learnt["protector"] & learnt["attacker"]
        assert learnt["protector"] | learnt["attacker"] == learnt["all"]
        # all that these speakers say of these sentences
        both = {u.speaker for u in test}, {u.content for u in test}
        assert [u for u in data.utterances() if u.speaker in both[0] and u.content in both[1]] == test
        tested += [module.speakers[speaker] for speaker in both[0]]
        sentences |= both[1]
    assert sorted(tested) == list(module.speakers)
    assert sentences == set(range(len(module.contents)))
    again = module(fold=fold, speakers="attacker", **arguments)
    assert parts(again) == parts(data) != parts(module(fold=fold, speakers="attacker", split_seed=1, **arguments))


@pytest.mark.parametrize(("n_sentences", "sizes"), [(90, {22, 23}), (10, {2, 3}), (3, {1})])
def test_groups_of_sentences_are_even_and_taken_in_turn(n_sentences, sizes):
    names = [f"s{number:02}" for number in range(n_sentences)]
    groups = [fold_sentences(names, fold, 0) for fold in range(min(4, n_sentences))]
    assert sorted(name for group in groups for name in group) == names
    assert set(map(len, groups)) <= sizes
    assert fold_sentences(reversed(names), len(groups), 0) == groups[0]
    assert groups != [fold_sentences(names, fold, 1) for fold in range(len(groups))]


def test_a_split_by_sentence_needs_two_of_them():
    data = SyntheticDataModule(split="sentence-and-speaker-disjoint", n_contents=1)
    with pytest.raises(PseganError, match="needs 2 sentences, and no other than 'kitu' is known"):
        data.setup("fit")


@pytest.mark.parametrize("seed", [0, 7])
def test_nemo_paper_split(tmp_path, seed):
    module = make(tmp_path, NEMODataModule, split_seed=seed)
    split = parts(module)
    assert [len(split[subset]) for subset in SUBSETS] == [3581, 450, 450]
    assert_partition(module)
    for subset in ("validation", "test"):
        assert set(Counter(u.speaker for u in split[subset]).values()) == {50}
        assert set(Counter(u.emotion for u in split[subset]).values()) == {75}
        assert max(Counter(u.content for u in split[subset]).values()) <= 6


def test_nemo_has_four_folds_of_two_or_three_speakers(tmp_path):
    module = make(tmp_path, NEMODataModule, split="speaker-disjoint")
    folds = [
        Counter(name in ("EB0", "IC0", "KD0", "MK0") for name in map(module.speakers.__getitem__, fold))
        for fold in module.folds()
    ]
    assert sorted(tuple(sorted(fold.items())) for fold in folds) == [((False, 1), (True, 1))] * 3 + [
        ((False, 2), (True, 1))
    ]
    for fold in range(4):
        for role in ROLES:
            data = NEMODataModule(root=str(tmp_path), split="speaker-disjoint", fold=fold, speakers=role)
            assert len({u.speaker for u in data.split_utterances("train")}) >= 2


def test_both_layouts_of_nemo_are_one_corpus(tmp_path):
    ids = NEMODataModule.complete_ids()
    published = tmp_path / "nEMO" / "samples"
    published.mkdir(parents=True)
    for id in ids:
        (published / f"{id.partition('/')[2]}.wav").touch()
    copy = make(tmp_path / "copy", NEMODataModule)
    of_copy = [(u.id, u.label("content"), u.text, u.gender) for u in copy.utterances()]
    for root in (tmp_path, published.parent, published):
        assert [(u.id, u.label("content"), u.text, u.gender) for u in NEMODataModule(str(root)).utterances()] == of_copy
    assert len(ids) == 4481 and {u.text for u in copy.utterances() if u.content == 26} == {"Lubię czytać przed snem."}
    (published / "EB0_anger_91.wav").touch()
    with pytest.raises(PseganError, match=r"EB0_anger_91\.wav: not an nEMO name"):
        NEMODataModule(str(published)).setup()
    with pytest.raises(PseganError, match="no such folder; get it with `git clone"):
        NEMODataModule(str(tmp_path / "nowhere")).setup()


def test_names_of_nemo_say_what_a_copys_manifest_says(corpora_root):
    data = NEMODataModule(str(corpora_root / "nemo"))
    utterances = {u.id: u for u in data.utterances()}
    assert list(utterances) == NEMODataModule.complete_ids()
    for row in read_manifest(corpora_root / "nemo" / "manifest.csv"):
        utterance = utterances[row["id"]]
        assert {name: data.classes[name][utterance.label(name)] for name in data.classes} | {
            "text": utterance.text
        } == {name: row[name] for name in (*data.classes, "text")}


def test_shares_of_speakers_are_the_same_on_every_machine(tmp_path):
    """Written down once: a protector of another share would be trained on the attacker's speakers."""
    make(tmp_path, EmoDBDataModule)
    arguments = {"root": str(tmp_path), "split": "speaker-disjoint", "fold": 8}
    found = [EmoDBDataModule(speakers=role, **arguments) for role in ROLES]
    assert [data.training_speakers for data in found] == [("03", "08", "09", "16"), ("10", "11", "12", "13", "14")]
    assert [{data.speakers[u.speaker] for u in data.split_utterances("validation")} for data in found] == [
        {"09"},
        {"10"},
    ]


def test_a_role_that_lacks_an_emotion(tmp_path):
    """Fold 0 of Emo-DB: the protector has speakers 08, 09, 10 and 11, of whom only three are trained on."""
    ids = [id for id in emodb_ids() if id[4:6] not in ("09", "10", "11") or id[9] != "E"]
    module = make(tmp_path, EmoDBDataModule, ids=ids, split="speaker-disjoint", speakers="protector")
    with pytest.raises(PseganError, match="fold 0, speakers of the protector, has no utterance of emotion disgust"):
        module.setup("fit")


def test_a_role_with_one_speaker_has_nobody_left_to_train_on(tmp_path):
    ids = [id for id in emodb_ids() if id[4:6] not in ("09", "10", "11")]
    module = make(tmp_path, EmoDBDataModule, ids=ids, split="speaker-disjoint", speakers="protector")
    with pytest.raises(PseganError, match="training set .* speakers of the protector, is empty"):
        module.setup("fit")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"speakers": "attacker"}, "speakers is 'attacker', but split 'paper' gives .* use split 'speaker-disjoint'"),
        ({"speakers": "both", "split": "speaker-disjoint"}, "must be 'all' or 'protector' or 'attacker'"),
    ],
)
def test_roles_out_of_range(kwargs, message):
    with pytest.raises(PseganError, match=message):
        SyntheticDataModule(**kwargs)


def test_every_beginning_of_an_interleaved_order_is_in_proportion():
    strata = {f"m{i}": "m" for i in range(12)} | {f"f{i}": "f" for i in range(6)}
    order = interleaved(strata, "x", 0)
    assert sorted(order) == sorted(strata)
    for n in range(1, 19):
        women = sum(strata[name] == "f" for name in order[:n])
        assert abs(women - n / 3) <= 1
    assert order != interleaved(strata, "x", 1)
    assert order == interleaved(dict(reversed(strata.items())), "x", 0)


@pytest.mark.parametrize(("men", "women", "n_folds"), [(7, 4, 3), (5, 5, 10), (8, 0, 5), (3, 9, 5)])
def test_balanced_folds(men, women, n_folds):
    genders = {f"s{i:02}": "m" if i < men else "f" for i in range(men + women)}
    folds = balanced_folds(genders, n_folds, seed=0)
    assert sorted(name for fold in folds for name in fold) == sorted(genders)
    counts = [Counter(genders[name] for name in fold) for fold in folds]
    for sizes in ([count["m"] for count in counts], [count["f"] for count in counts], list(map(len, folds))):
        assert max(sizes) - min(sizes) <= 1
    assert folds != balanced_folds(genders, n_folds, seed=1)


def test_synthetic_splits():
    module = SyntheticDataModule()
    split = parts(module)
    assert [len(split[subset]) for subset in SUBSETS] == [360, 60, 60]
    assert_partition(module)
    assert set(Counter(u.emotion for u in split["test"]).values()) == {12}
    assert set(Counter(u.speaker for u in split["test"]).values()) == {7, 8}
    disjoint = SyntheticDataModule(split="speaker-disjoint", fold=3)
    assert disjoint.n_folds == 4
    assert [len(part) for part in parts(disjoint).values()] == [240, 120, 120]
    assert Counter(u.gender for u in disjoint.split_utterances("test")) == {0: 60, 1: 60}


def test_splits_depend_on_seed_alone(tmp_path):
    module = make(tmp_path / "a", RAVDESSDataModule)
    again = make(tmp_path / "b", RAVDESSDataModule, ids=ravdess_ids()[::-1])
    other = RAVDESSDataModule(root=str(tmp_path / "a"), split_seed=1)
    names = [[u.id for u in m.split_utterances("test")] for m in (module, again, other)]
    assert names[0] == names[1] != names[2]


PINNED = {
    "ravdess": [
        "Actor_01/03-01-01-01-02-02-01",
        "Actor_01/03-01-02-01-01-02-01",
        "Actor_01/03-01-03-02-02-02-01",
    ],
    "emodb": ["wav/03a04Lc", "wav/03a04Nc", "wav/03a05Aa"],
}


def test_splits_are_the_same_on_every_machine(tmp_path):
    """Written down once: a change here would make published results incomparable."""
    ravdess = make(tmp_path / "r", RAVDESSDataModule).split_utterances("test")
    emodb = make(tmp_path / "e", EmoDBDataModule).split_utterances("train")
    assert [u.id for u in ravdess[:3]] == PINNED["ravdess"]
    assert [u.id for u in emodb[:3]] == PINNED["emodb"]


def test_spread_respects_capacities_and_is_even():
    picks = spread([[0, 5, 5], [1, 5, 5]], [[0] * 3] * 2, 9, seed=0, name="x")
    assert picks[0][0] == 0 and picks[1][0] == 1
    assert sorted(map(sum, picks)) == [4, 5]
    assert [sum(column) for column in zip(*picks, strict=True)] == [1, 4, 4]


def test_paper_split_of_an_incomplete_corpus_is_refused(tmp_path):
    module = make(tmp_path, RAVDESSDataModule, ids=ravdess_ids()[1:])
    with pytest.raises(PseganError, match=r"exactly the 1440 .* 1 are missing \(Actor_01/03-01-01-01-01-01-01 first"):
        module.setup("fit")
    disjoint = RAVDESSDataModule(root=str(tmp_path), split="speaker-disjoint")
    assert sum(map(len, parts(disjoint).values())) == 1439


def test_paper_split_refuses_files_of_emodb_2(tmp_path):
    module = make(tmp_path, EmoDBDataModule, ids=[*emodb_ids(), "wav/03a01Wz"])
    with pytest.raises(PseganError, match="wav/03a01Wz is not one of them"):
        module.setup("fit")


def test_split_that_leaves_a_class_empty(tmp_path):
    ids = [id for id in ravdess_ids() if not id.split("/")[1].startswith("03-01-08")]
    module = make(tmp_path, RAVDESSDataModule, ids=ids, split="speaker-disjoint")
    with pytest.raises(PseganError, match="no utterance of emotion surprised"):
        module.setup("fit")


def test_split_with_an_empty_part(tmp_path):
    ids = [id for id in emodb_ids() if id[4:6] != "09"]
    module = make(tmp_path, EmoDBDataModule, ids=ids, split="speaker-disjoint", fold=1)
    with pytest.raises(PseganError, match="validation set of split 'speaker-disjoint', fold 1, is empty"):
        module.setup("fit")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fold": 1}, "fold is 1, but split 'paper' .* has fold 0 only"),
        ({"fold": 4, "split": "speaker-disjoint"}, "fold is 4, .* 0 to 3 only"),
        ({"fold": -1, "split": "speaker-disjoint"}, "fold is -1"),
        ({"n_speakers": 4, "split": "speaker-disjoint"}, "needs 3 folds of speakers, here are 2"),
    ],
)
def test_fold_out_of_range(kwargs, message):
    with pytest.raises(PseganError, match=message):
        SyntheticDataModule(**kwargs).setup("fit")
