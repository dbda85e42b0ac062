"""Privacy metrics: what is logged is what scikit-learn says of the same predictions."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from psegan.metrics.scores import UndefinedMetricError
from psegan.systems.classifier import load_classifier
from psegan.training import command as training
from psegan.training.callbacks import PrivacyMetrics
from psegan.training.callbacks.privacy import trade_off


@pytest.fixture
def measured(psegan_arguments, trained, from_repository):
    return training.main([
        *(a for a in psegan_arguments if not a.startswith("--trainer.limit_val")),
        f"--privacy.emotion_classifier={trained('emotion')}", f"--privacy.speaker_classifier={trained('speaker')}",
        "--trainer.check_val_every_n_epoch=1", "--data.init_args.eval_batch_size=4",
    ])  # fmt: skip


def test_metrics_are_scikit_learns(measured, trained):
    system = measured.model.eval()
    emotion, speaker = load_classifier(trained("emotion"), "emotion"), load_classifier(trained("speaker"), "speaker")
    columns = {"probability": [], "target": [], "enrolled": [], "tested": [], "speaker": []}
    with torch.no_grad():
        for batch in measured.datamodule.val_dataloader():
            spoken = system.convert(batch)
            columns["probability"].append(emotion(spoken.protected, spoken.lengths).softmax(-1))
            columns["target"].append(batch.emotion)
            columns["enrolled"].append(speaker.embed(spoken.original, spoken.lengths))
            columns["tested"].append(speaker.embed(spoken.protected, spoken.lengths))
            columns["speaker"].append(batch.speaker)
    found = {name: torch.cat(parts).numpy() for name, parts in columns.items()}
    logged = {name: float(value) for name, value in measured.trainer.callback_metrics.items()}
    predicted = found["probability"].argmax(1)
    target = found["target"]
    assert logged["val/emotion_accuracy"] == pytest.approx(accuracy_score(target, predicted))
    assert logged["val/emotion_uar"] == pytest.approx(recall_score(target, predicted, average="macro"))
    areas = [roc_auc_score(target == k, found["probability"][:, k]) for k in np.unique(target)]
    assert logged["val/emotion_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert logged["val/speaker_eer"] == pytest.approx(direct_eer(found), abs=1e-6)
    scores = {name.removeprefix("val/"): value for name, value in logged.items()}
    if "val/trade_off" in logged:  # two batches may have taught the classifier nothing
        assert logged["val/trade_off"] == pytest.approx(trade_off(scores, system.n_emotions), abs=1e-5)
    else:
        assert scores["emotion_uar_original"] <= 1 / system.n_emotions + 1e-6


def test_the_trade_off_needs_classifiers_that_find_something():
    emotion = {"emotion_uar": 0.5, "emotion_uar_original": 0.75}
    unknown = {"speaker_eer": 0.4, "speaker_eer_original": 0.1}
    speaker = unknown | {"speaker_accuracy": 0.6, "speaker_accuracy_original": 0.8}
    assert trade_off(emotion | speaker, 4) == pytest.approx(0.5), "privacy is the lesser"
    assert trade_off(emotion | unknown, 4) == pytest.approx(0.1 / 0.4), "the speaker, by the EER"
    for lost in (
        emotion, emotion | speaker | {"emotion_uar_original": 0.25}, emotion | speaker | {"speaker_accuracy_original": 0.0},
        emotion | unknown | {"speaker_eer_original": 0.5}, emotion | {"speaker_eer_original": 0.1},
    ):  # fmt: skip
        with pytest.raises(UndefinedMetricError):
            trade_off(lost, 4)


def direct_eer(found) -> float:
    """The definition, by trying every threshold and interpolating between the two around the crossing."""
    unit = {k: found[k] / np.linalg.norm(found[k], axis=1, keepdims=True) for k in ("enrolled", "tested")}
    cosine = unit["enrolled"].astype(np.float64) @ unit["tested"].T.astype(np.float64)
    pairs = [(i, j) for i in range(len(cosine)) for j in range(len(cosine)) if i != j]
    scores = np.array([cosine[i, j] for i, j in pairs])
    is_target = np.array([found["speaker"][i] == found["speaker"][j] for i, j in pairs])
    points = [(1.0, 0.0)]
    for threshold in np.sort(np.unique(scores)):
        accepted = scores > threshold
        points.append((accepted[~is_target].mean(), 1 - accepted[is_target].mean()))
    for (a0, r0), (a1, r1) in itertools.pairwise(points):
        if a1 <= r1:
            share = (a0 - r0) / ((a0 - r0) - (a1 - r1))
            return a0 + share * (a1 - a0)
    raise AssertionError


def test_classifiers_do_not_move(measured, trained):
    again = load_classifier(trained("emotion"), "emotion")
    (used,) = [callback for callback in measured.trainer.callbacks if isinstance(callback, PrivacyMetrics)]
    for name, value in used.collectors["emotion", "original"].classifier.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
