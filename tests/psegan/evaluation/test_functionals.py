"""The classical attacker: what its features measure, and what its posteriors are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from datamodules.emodb import EmoDBDataModule
from datamodules.splits import SUBSETS
from datamodules.synthetic import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.evaluation.functionals import FEATURES, TIMBRE, FunctionalsSVM, functionals
from psegan.metrics import scores as metrics
from psegan.speech.audio import SAMPLE_RATE


def tone(frequency: float, seconds: float = 1.0, harmonics: int = 8) -> torch.Tensor:
    time = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return 0.1 * sum(torch.sin(2 * torch.pi * frequency * h * time) / h for h in range(1, harmonics + 1))


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def measured(waveform: torch.Tensor) -> dict[str, float]:
    return dict(zip(FEATURES, functionals(waveform), strict=True))


@pytest.mark.parametrize("frequency", [75, 110, 220, 330, 450])
def test_pitch_of_a_tone(frequency):
    found = measured(tone(frequency))
    expected = 12 * np.log2(frequency / 27.5)
    assert found["f0.p50"] == pytest.approx(expected, abs=0.1)
    assert found["voiced"] > 0.95
    assert found["hnr.p50"] > 15
    assert found["jitter-mean"] < 0.1


def test_pitch_that_rises():
    """An octave in a second: the slope is half of it, since time runs from -1 to 1."""
    phase = torch.cumsum(150 * 2 ** (torch.arange(SAMPLE_RATE) / SAMPLE_RATE), 0) / SAMPLE_RATE
    found = measured(0.1 * sum(torch.sin(2 * torch.pi * h * phase) / h for h in range(1, 6)))
    assert found["f0.slope"] == pytest.approx(6, abs=0.4)
    assert found["delta-f0.p50"] == pytest.approx(12 * 256 / SAMPLE_RATE, rel=0.1)


def test_a_passing_error_of_the_octave_is_smoothed_away():
    speech = tone(120)
    glitch = slice(8_000, 8_000 + 800)
    speech[glitch] = tone(240)[glitch]
    found = measured(speech)
    assert found["jitter-mean"] > 0.1  # of the raw curve: the error is there
    assert found["f0.p99"] == pytest.approx(found["f0.p1"], abs=0.2)


def test_a_jump_of_the_pitch_across_a_pause_is_no_slope():
    pause = torch.zeros(int(0.2 * SAMPLE_RATE))
    found = measured(torch.cat([tone(120, 0.5), pause, tone(300, 0.5)]))
    assert found["f0.p95-p5"] > 15
    assert abs(found["delta-f0.p1"]) < 0.05 and abs(found["delta-f0.p99"]) < 0.05


def test_noise_has_no_voice():
    found = measured(noise(SAMPLE_RATE))
    assert found["voiced"] < 0.05
    assert found["centroid.mean"] == pytest.approx(4000, rel=0.05)
    assert found["energy.mean"] == pytest.approx(-20, abs=0.5)  # 0.1 against 1


def test_a_louder_copy_differs_by_its_level_only():
    speech = tone(140) + 0.02 * noise(SAMPLE_RATE)
    quiet, loud = measured(speech), measured(3 * speech)
    assert loud["energy.mean"] - quiet["energy.mean"] == pytest.approx(20 * np.log10(3), abs=0.05)
    for name in ("f0.p50", "voiced", "mfcc3.mean", "centroid.mean", "slope0-500.mean", "flux.mean", "seconds"):
        assert loud[name] == pytest.approx(quiet[name], rel=1e-2, abs=1e-2), name


def test_silence_around_an_utterance_changes_nothing():
    speech = tone(140) * torch.hann_window(SAMPLE_RATE)
    around = torch.cat([torch.zeros(40 * 256), speech, torch.zeros(80 * 256)])
    found, expected = measured(around), measured(speech)
    for name in FEATURES:
        # flux and deltas of the first frame depend on the frames before it
        if not name.startswith(("delta", "flux")):
            assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-3), name


def test_rhythm():
    """Three voiced stretches of 0.3 s with pauses of 0.2 s between them."""
    pause = torch.zeros(int(0.2 * SAMPLE_RATE))
    found = measured(torch.cat([tone(120, 0.3), pause, tone(120, 0.3), pause, tone(120, 0.3)]))
    assert found["seconds"] == pytest.approx(1.3, abs=0.05)
    assert found["voiced-rate"] == pytest.approx(3 / 1.3, rel=0.05)
    assert found["voiced-mean"] == pytest.approx(0.3, abs=0.06)
    assert 0.6 < found["active"] < 0.85


@pytest.mark.parametrize(
    "waveform",
    [
        torch.zeros(16_000),
        torch.zeros(1),
        torch.ones(5_000),
        noise(480),
        noise(1),
        tone(200, 0.03),
        1e-6 * noise(9_000),
    ],
)
def test_features_of_anything_are_finite(waveform):
    found = functionals(waveform)
    assert found.shape == (len(FEATURES),) and found.dtype == np.float64
    assert np.isfinite(found).all()


def test_every_feature_has_the_name_of_its_position():
    assert len(set(FEATURES)) == len(FEATURES) == (2 * len(TIMBRE) + 4) * 16 + 8
    found = measured(noise(20_000))
    for curve in TIMBRE:
        percentiles = [found[f"{curve}.{p}"] for p in ("p1", "p5", "p25", "p50", "p75", "p95", "p99")]
        assert percentiles == sorted(percentiles)
        assert found[f"{curve}.p95-p5"] == pytest.approx(percentiles[5] - percentiles[1])


def clusters(n: int, k: int = 3, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = np.arange(n) % k
    centres = np.random.default_rng(99).normal(size=(k, 6))
    return 1e3 * (centres[targets] + spread * generator.normal(size=(n, 6))), targets


def test_svm_learns_and_its_posteriors_rank():
    svm = FunctionalsSVM().fit(*clusters(90), *clusters(30, seed=1))
    features, targets = clusters(300, seed=2)
    posterior = svm.predict_proba(features)
    assert posterior.shape == (300, 3)
    np.testing.assert_allclose(posterior.sum(1), 1)
    assert metrics.uar(posterior, targets) > 0.75
    assert metrics.macro_auc(posterior, targets) > 0.9
    assert metrics.one_vs_rest_eer(posterior, targets) < 0.2
    again = FunctionalsSVM(seed=1).fit(*clusters(90), *clusters(30, seed=1)).predict_proba(features)
    np.testing.assert_array_equal(again, posterior)


def test_posteriors_are_as_sure_as_they_are_right():
    """The mean of the highest posterior is near the accuracy, for easy and for hard classes."""
    for spread in (0.5, 2.0):
        svm = FunctionalsSVM().fit(*clusters(150, spread=spread), *clusters(150, seed=1, spread=spread))
        features, targets = clusters(600, seed=2, spread=spread)
        posterior = svm.predict_proba(features)
        assert posterior.max(1).mean() == pytest.approx(metrics.accuracy(posterior, targets), abs=0.08)


def test_a_shared_matrix_of_kernels_changes_no_machine():
    (x, y), (x_val, y_val), (unseen, _) = (clusters(90, seed=seed, spread=2.0) for seed in range(3))
    svm = FunctionalsSVM()
    svm.grid = (4.0,)
    posteriors = svm.fit(x, y, x_val, y_val).predict_proba(unseen)
    own = SVC(C=4.0, gamma=0.5 / x.shape[1], class_weight="balanced")
    decision = make_pipeline(StandardScaler(), OneVsRestClassifier(own)).fit(x, y).decision_function(unseen)
    np.testing.assert_allclose(posteriors, softmax(decision / svm.temperature, 1), rtol=1e-9)


def test_a_class_that_training_lacks_keeps_its_column():
    features, targets = clusters(60)
    targets = targets * 2 + 1  # 1, 3, 5
    svm = FunctionalsSVM().fit(features, targets, *(clusters(30, seed=1)[0], np.arange(30) % 8))
    posterior = svm.predict_proba(features)
    assert posterior.shape == (60, 8)
    assert (posterior[:, [0, 2, 4, 6, 7]] == 0).all() and (posterior[:, [1, 3, 5]] > 0).all()
    assert metrics.accuracy(posterior, targets) > 0.8
    implied = FunctionalsSVM().fit(features, targets, features, targets)
    assert implied.predict_proba(features).shape == (60, 6)


def test_two_classes():
    svm = FunctionalsSVM().fit(*clusters(60, k=2), *clusters(20, k=2, seed=1))
    features, targets = clusters(100, k=2, seed=2)
    posterior = svm.predict_proba(features)
    assert posterior.shape == (100, 2) and metrics.uar(posterior, targets) > 0.75


def test_rare_classes_count_as_much_as_frequent_ones():
    features, targets = clusters(400, k=2, spread=2.0)
    kept = (targets == 0) | (np.arange(400) % 10 == 1)
    svm = FunctionalsSVM().fit(features[kept], targets[kept], *clusters(100, k=2, seed=1, spread=2.0))
    test_features, test_targets = clusters(600, k=2, seed=2, spread=2.0)
    chosen = svm.predict_proba(test_features).argmax(1)
    assert (chosen[test_targets == 1] == 1).mean() > 0.5


def test_bad_sets_are_refused():
    features, targets = clusters(30)
    with pytest.raises(PseganError, match="single class"):
        FunctionalsSVM().fit(features, np.zeros(30, int), features, targets)
    with pytest.raises(PseganError, match="no class of its training set"):
        FunctionalsSVM().fit(features, targets, features, np.full(30, 5))
    with pytest.raises(ValueError, match="features"):
        FunctionalsSVM().fit(features, targets, features[:, 1:], targets)
    with pytest.raises(ValueError, match="NaN"):
        FunctionalsSVM().fit(np.where(features > 0, features, np.nan), targets, features, targets)


def features_of(utterances, load) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([functionals(load(u)) for u in utterances]), np.array([u.emotion for u in utterances])


def test_emotions_of_the_synthetic_corpus_are_recognised():
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2)
    train, validation, test = (features_of(data.split_utterances(part), data.loader()) for part in SUBSETS)
    assert metrics.uar(FunctionalsSVM().fit(*train, *validation).predict_proba(test[0]), test[1]) >= 0.8


def test_emotions_of_real_speech_are_recognised(corpora_root: Path):
    """Emo-DB, split paper: 100 training utterances; openSMILE's ComParE set and an SVM reach 67.5 % of all 400."""
    data = EmoDBDataModule(root=str(corpora_root / "emodb"))
    train, validation = (features_of(data.split_utterances(part), data.loader()) for part in SUBSETS[:2])
    features, targets = features_of(data.split_utterances("test")[::5], data.loader())
    assert metrics.accuracy(FunctionalsSVM().fit(*train, *validation).predict_proba(features), targets) > 0.55
