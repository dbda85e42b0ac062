"""Verifiers: the encoder of a classifier, and a tiny random ECAPA that is loaded like the published one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.evaluation.verifiers import ECAPA, ClassifierVerifier, Verifier
from psegan.metrics import scores as metrics
from psegan.speech.batch import pad_waveforms
from psegan.systems.classifier import load_classifier

# the layout of speechbrain/spkrec-ecapa-voxceleb, which names itself as the place of its weights
HYPERPARAMETERS = """
pretrained_path: speechbrain/spkrec-ecapa-voxceleb
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 20
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 20
    channels: [16, 16, 16, 16, 32]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    se_channels: 8
    lin_neurons: 12
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 12
    out_neurons: 3
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
"""


@pytest.fixture
def ecapa_folder(tmp_path: Path) -> Path:
    """A folder in the hub's format with a tiny ECAPA of random weights."""
    pytest.importorskip("speechbrain")
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    torch.manual_seed(0)
    network = ECAPA_TDNN(20, channels=[16] * 4 + [32], attention_channels=8, se_channels=8, lin_neurons=12)
    torch.save(network.state_dict(), tmp_path / "embedding_model.ckpt")
    (tmp_path / "hyperparams.yaml").write_text(HYPERPARAMETERS)
    return tmp_path


def speech(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return pad_waveforms([0.1 * torch.randn(n, generator=generator) for n in lengths])


def check_that_batches_do_not_matter(verifier: Verifier) -> None:
    waveform, lengths = speech(16_000, 9_000, 16_000, 480, 1)
    together = verifier.embed(waveform, lengths)
    assert together.dtype == torch.float32 and together.device.type == "cpu" and not together.requires_grad
    assert torch.isfinite(together).all()
    for i, n in enumerate(lengths.tolist()):
        alone = verifier.embed(waveform[i : i + 1, :n], lengths[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[2]).abs().max() > 1e-4


def test_a_classifier_verifies_by_its_embedding(trained: Callable[[str], str]):
    verifier = ClassifierVerifier(trained("speaker"))
    check_that_batches_do_not_matter(verifier)
    waveform, lengths = speech(16_000, 9_000)
    classifier = load_classifier(trained("speaker"), "speaker")
    expected = classifier.embed(*classifier.front_end(waveform, lengths))
    torch.testing.assert_close(verifier.embed(waveform, lengths), expected)
    described = verifier.describe()
    assert described["kind"] == "classifier" and described["network"] == "SpeechEncoder"
    assert described["source"].endswith("last.ckpt") and len(described["weights"]) == 16


def test_embeddings_are_what_verification_trials_take(trained: Callable[[str], str]):
    embedding = ClassifierVerifier(trained("speaker")).embed(*speech(8_000, 8_000, 7_000))
    scores, is_target = metrics.verification_trials(embedding, embedding, [0, 0, 1])
    assert len(scores) == len(is_target) == 6
    assert sorted(scores[is_target]) == pytest.approx([F.cosine_similarity(*embedding[:2], dim=0).item()] * 2)


def test_a_classifier_of_something_else_is_refused(trained: Callable[[str], str]):
    with pytest.raises(PseganError, match="classifies emotion, not speaker"):
        ClassifierVerifier(trained("emotion"))


def test_ecapa_reads_a_folder_of_the_hub(ecapa_folder: Path):
    verifier = ECAPA(str(ecapa_folder))
    check_that_batches_do_not_matter(verifier)
    assert verifier.embed(*speech(16_000, 9_000)).shape == (2, 12)
    stored = torch.load(ecapa_folder / "embedding_model.ckpt", weights_only=True)
    for name, value in verifier.model.mods.embedding_model.state_dict().items():
        torch.testing.assert_close(value, stored[name])
    assert not verifier.model.mods.embedding_model.training
    described = verifier.describe()
    assert (described["kind"], described["network"]) == ("ecapa", "ECAPA_TDNN")
    assert described["source"] == str(ecapa_folder) and len(described["weights"]) == 16


def test_ecapa_of_other_weights_has_another_hash(ecapa_folder: Path):
    before = ECAPA(str(ecapa_folder)).describe()["weights"]
    assert ECAPA(str(ecapa_folder)).describe()["weights"] == before
    state = torch.load(ecapa_folder / "embedding_model.ckpt", weights_only=True)
    next(iter(state.values())).add_(1)
    torch.save(state, ecapa_folder / "embedding_model.ckpt")
    assert ECAPA(str(ecapa_folder)).describe()["weights"] != before


def test_damaged_and_incomplete_folders_of_ecapa_are_refused(ecapa_folder: Path, tmp_path: Path):
    (ecapa_folder / "embedding_model.ckpt").write_bytes(b"noise")
    with pytest.raises(PseganError, match=r"cannot be loaded as an ECAPA model .*intact$"):
        ECAPA(str(ecapa_folder)).load()
    (ecapa_folder / "embedding_model.ckpt").unlink()
    with pytest.raises(PseganError, match=r"cannot be loaded as an ECAPA model .*intact$"):
        ECAPA(str(ecapa_folder)).load()
    (ecapa_folder / "hyperparams.yaml").unlink()
    with pytest.raises(PseganError, match="holds no hyperparams.yaml"):
        ECAPA(str(ecapa_folder)).load()


def test_ecapa_without_network_and_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("speechbrain")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PseganError, match=r"^speechbrain/spkrec-ecapa-voxceleb: cannot be loaded .*HF_HOME.*local folder"
    ):
        ECAPA().load()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


FIRST_IMPORT = """
import sys, torch
from psegan.evaluation.verifiers import ECAPA
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
ECAPA(sys.argv[1]).load()
assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
[hasattr(module, "__file__") for module in list(sys.modules.values())]
"""


def test_speechbrain_leaves_precision_and_other_libraries_alone(ecapa_folder: Path):
    """In a process of its own, where SpeechBrain's import is the first."""
    subprocess.run([sys.executable, "-c", FIRST_IMPORT, ecapa_folder], check=True, timeout=120)


def test_ecapa_without_speechbrain_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "speechbrain.inference.classifiers", None)  # as if it were not there
    with pytest.raises(PseganError, match=r"needs SpeechBrain .*pip install speechbrain"):
        ECAPA().load()
