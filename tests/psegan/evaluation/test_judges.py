"""The judges that ship with their weights, on a recording that one of their packages brings."""

import re
from pathlib import Path

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.common.packages import NotInstalledError, require
from psegan.evaluation.judges import DEFAULT_JUDGES, Judge, make_judge, make_judges
from psegan.evaluation.recognisers import Whisper
from psegan.metrics.words import word_errors
from psegan.speech.audio import read_audio

SAID = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness"


@pytest.fixture(scope="module")
def recording() -> torch.Tensor:
    """The beginning of A Tale of Two Cities, read aloud."""
    package = pytest.importorskip("moonshine_voice")
    return read_audio(Path(package.get_assets_path()) / "two_cities.wav")[: int(8.5 * 16_000)]


@pytest.fixture(scope="module")
def judges() -> dict[str, Judge]:
    return make_judges(DEFAULT_JUDGES)


def test_all_judges_are_there(judges: dict[str, Judge]) -> None:
    assert judges.keys() == {"moonshine", "pocketsphinx", "resemblyzer", "dnsmos"}
    for judge in judges.values():
        assert judge.describe().keys() >= {"kind", "network", "source"}


@pytest.mark.parametrize(("name", "most"), [("moonshine", 4), ("pocketsphinx", 8)])
def test_words_are_recognised(judges: dict[str, Judge], recording: torch.Tensor, name: str, most: int) -> None:
    errors, words = word_errors(SAID, judges[name].judge(recording, "en"))
    assert words == 24
    assert errors <= most


@pytest.mark.parametrize("name", DEFAULT_JUDGES)
def test_what_is_said_depends_on_no_recording_before(
    judges: dict[str, Judge], recording: torch.Tensor, name: str
) -> None:
    judge, part = judges[name], recording[:48_000]
    before = judge.judge(part, "en")
    judge.judge(0.1 * recording[80_000:128_000], "en")
    assert judge.judge(part, "en") == before


@pytest.mark.parametrize("name", DEFAULT_JUDGES)
@pytest.mark.parametrize("n", [1, 400, 16_000])
def test_silence_has_a_result(judges: dict[str, Judge], name: str, n: int) -> None:
    says = judges[name].judge(torch.zeros(n), "en")
    if name in ("moonshine", "pocketsphinx"):
        assert says == ""
    else:
        values = torch.tensor(list(says.values()) if isinstance(says, dict) else says)
        assert torch.isfinite(values).all()


def test_ratings_fall_with_noise(judges: dict[str, Judge], recording: torch.Tensor) -> None:
    noise = 0.05 * torch.randn(recording.shape, generator=torch.Generator().manual_seed(0))
    clean, noisy = (judges["dnsmos"].judge(one) for one in (recording, recording + noise))
    assert clean.keys() == {"overall", "signal", "background", "p808"}
    assert all(1 <= value <= 5 for value in [*clean.values(), *noisy.values()])
    assert noisy["overall"] < clean["overall"] - 0.5


def test_recognisers_say_which_languages_they_know(judges: dict[str, Judge]) -> None:
    for name in ("moonshine", "pocketsphinx"):
        assert judges[name].knows("en")
        assert not judges[name].knows("pl")
        assert not judges[name].knows(None)  # who knows what is spoken there
    assert judges["resemblyzer"].knows(None)


def test_silence_is_no_empty_recording(judges: dict[str, Judge]) -> None:
    """Recognisers are not asked about digital silence, so what they make of noise is looked at here."""
    for n in (1, 400, 16_000):
        noise = 1e-4 * torch.randn(n, generator=torch.Generator().manual_seed(n))
        for name in ("moonshine", "pocketsphinx"):
            assert isinstance(judges[name].judge(noise, "en"), str)


def test_a_judge_that_is_not_installed_costs_a_line_and_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    specs = {"resemblyzer": DEFAULT_JUDGES["resemblyzer"], "ours": {"class_path": f"{__name__}.Missing"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        specs["ours"] = {"class_path": "test_judges.Missing"}
        assert make_judges(specs).keys() == {"resemblyzer"}
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"psegan: warning: no scores by ours \(nothing is not installed: pip install 'psegan\[judges\]'\)\n", said
    )


def test_a_judge_that_cannot_be_loaded_costs_a_line_and_its_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("speechbrain")
    empty = {"class_path": "ECAPA", "init_args": {"source": str(tmp_path)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        assert make_judges({"ecapa": empty, "broken": {"class_path": "test_judges.Broken"}}) == {}
    said = capsys.readouterr().err
    assert said.startswith("psegan: warning: no scores by ecapa, broken (") and said.count("\n") == 1
    assert "holds no hyperparams.yaml" in said and "ImportError: libnothing.so" in said


class Missing(Judge):
    def __init__(self) -> None:
        require("nothing", "nothing")

    def judge(self, waveform: torch.Tensor, language: str | None = None) -> str:
        return ""

    def describe(self) -> dict[str, str]:
        return {}


class Broken(Missing):
    def __init__(self) -> None:
        pass

    def load(self) -> None:
        raise ImportError("libnothing.so")


def test_a_judge_that_cannot_be_is_refused() -> None:
    with pytest.raises(PseganError, match=r"judges.words: .*Parrot is no Judge"):
        make_judge("words", {"class_path": "psegan.evaluation.recognisers.Parrot"})
    with pytest.raises(PseganError, match=r"judges.words: Moonshine: .*size"):
        make_judge("words", {"class_path": "Moonshine", "init_args": {"size": "base"}})


def test_whisper_says_how_it_is_installed() -> None:
    try:
        import faster_whisper  # noqa: F401
    except ImportError:
        with pytest.raises(NotInstalledError, match="pip install faster-whisper"):
            Whisper()
    else:
        with pytest.raises(PseganError, match="cannot be loaded as a Whisper model"):
            Whisper("no/such/folder").load()
