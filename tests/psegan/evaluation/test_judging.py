"""Results of judges are kept: nothing is heard twice, and nothing is taken for another recording's or another judge's."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from psegan.common.errors import PseganError
from psegan.common.files import file_hash
from psegan.evaluation.judges import Judge
from psegan.evaluation.judging import Recording, independent, judge_recordings
from psegan.speech.audio import write_audio

SPEC = {"class_path": "psegan.evaluation.recognisers.Moonshine"}


class Counter(Judge):
    """Says how many samples it has heard, and counts."""

    heard = 0

    def __init__(self, version: str = "1", language: str | None = None) -> None:
        self.version, self.language = version, language

    def judge(self, waveform: Tensor, language: str | None = None) -> int:
        Counter.heard += 1
        return len(waveform)

    def describe(self) -> dict[str, str]:
        return {"kind": "counter", "version": self.version}

    def knows(self, language: str | None) -> bool:
        return self.language in (None, language)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three recordings, and judges that are counters."""
    for number in range(3):
        write_audio(tmp_path / f"{number}.flac", torch.full((1000 + number,), 0.1))
    monkeypatch.setattr("psegan.evaluation.judging.make_judge", lambda name, spec: Counter(**spec))
    Counter.heard = 0
    return tmp_path


def judged(corpus: Path, version: str = "1") -> list[int]:
    files = sorted(corpus.glob("*.flac"))
    recordings = [Recording(file.stem, file, file_hash(file)) for file in files]
    judges = {"counter": Counter(version)}
    return judge_recordings(corpus, recordings, judges, {"counter": {"version": version}}, "en", 1)["counter"]


def test_nothing_is_heard_twice(corpus: Path) -> None:
    assert judged(corpus) == [1000, 1001, 1002]
    assert judged(corpus) == [1000, 1001, 1002]
    assert Counter.heard == 3


def test_another_recording_of_the_same_name_is_heard(corpus: Path) -> None:
    judged(corpus)
    write_audio(corpus / "1.flac", torch.full((500,), 0.1))
    assert judged(corpus) == [1000, 500, 1002]
    assert Counter.heard == 4


def test_another_judge_of_the_same_name_begins_anew(corpus: Path) -> None:
    judged(corpus)
    judged(corpus, "2")
    assert Counter.heard == 6
    header, *lines = (corpus / "judged" / "counter.jsonl").read_text().splitlines()
    assert json.loads(header)["version"] == "2"
    assert len(lines) == 3


@pytest.mark.parametrize("lost", [1, 30, 200])
def test_a_line_that_was_torn_is_heard_again(corpus: Path, lost: int) -> None:
    judged(corpus)
    path = corpus / "judged" / "counter.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert judged(corpus) == [1000, 1001, 1002]
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_recording_that_a_judge_cannot_bear_is_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "judge", lambda *_: 1 // 0)
    with pytest.raises(RuntimeError, match=r"0.flac: cannot be judged by counter \(ZeroDivisionError"):
        judged(corpus)


def test_a_damaged_file_is_named(corpus: Path) -> None:
    judged(corpus)
    path = corpus / "judged" / "counter.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\nnonsense\n")
    with pytest.raises(PseganError, match=r"counter.jsonl: is damaged; remove it"):
        judged(corpus)


def test_who_taught_a_system_or_knows_no_such_language_is_not_asked(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = {"counter": Counter(), "german": Counter(language="de")}

    def asked(language: str | None, **described: object) -> set[str]:
        (corpus / "journal.jsonl").write_text(json.dumps({"protector": described}) + "\n")
        return set(independent(judges, corpus, language))

    assert asked("en") == {"counter"}
    assert asked("de") == {"counter", "german"}
    assert asked("de", learnt_from=["psegan.evaluation.recognisers.Moonshine"]) == {"counter", "german"}
    monkeypatch.setitem(sys.modules, "counting", sys.modules[Counter.__module__])
    assert asked("de", learnt_from=["counting.Counter"]) == set()
    judges["louder"] = type("Louder", (Counter,), {})()
    assert asked("de", learnt_from=["counting.Counter"]) == set()
