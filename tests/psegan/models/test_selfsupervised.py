"""The self-supervised encoder, on tiny random models that are loaded as torchaudio loads the published ones."""

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F
from torchaudio.models import wav2vec2_model, wavlm_model
from torchaudio.pipelines import Wav2Vec2Bundle

from datamodules.synthetic import SyntheticDataModule
from psegan.common.errors import PseganError
from psegan.models import selfsupervised
from psegan.models.selfsupervised import SelfSupervisedEncoder, WaveformFrontEnd
from psegan.systems.classifier import Classifier

WAVLM = {"encoder_num_buckets": 8, "encoder_max_distance": 16}
MODELS = {
    # the base models: group norm over time in the first layer, raw waveforms
    "TINY_BASE": {"extractor_mode": "group_norm", "extractor_conv_bias": False, "encoder_layer_norm_first": False},
    # the large ones: layer norm, waveforms of unit variance
    "TINY_LARGE": {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True},
    "TINY_WAVLM": {"extractor_mode": "group_norm", "extractor_conv_bias": False, "encoder_layer_norm_first": False},
}


def architecture(name: str) -> dict:
    return {
        "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 2, 2)],
        "encoder_embed_dim": 16, "encoder_projection_dropout": 0.1, "encoder_pos_conv_kernel": 8,
        "encoder_pos_conv_groups": 2, "encoder_num_layers": 3, "encoder_num_heads": 2, "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 32, "encoder_ff_interm_dropout": 0.1, "encoder_dropout": 0.1,
        "encoder_layer_drop": 0.5, "aux_num_out": 5, **MODELS[name], **(WAVLM if name == "TINY_WAVLM" else {}),
    }  # fmt: skip


def write_weights(path: Path, name: str, seed: int = 0) -> str:
    torch.manual_seed(seed)
    model = (wavlm_model if name == "TINY_WAVLM" else wav2vec2_model)(**architecture(name))
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Bundles of tiny models, as torchaudio declares its own, and files of their weights."""
    for name, options in MODELS.items():
        bundle = Wav2Vec2Bundle(
            _path=f"{name.lower()}.pth",
            _params=architecture(name),
            _sample_rate=16_000,
            _normalize_waveform=options["extractor_mode"] == "layer_norm",
            _model_type="WavLM" if name == "TINY_WAVLM" else "Wav2Vec2",
        )
        monkeypatch.setitem(selfsupervised.BUNDLES, name, bundle)
    return {name: write_weights(tmp_path / f"{name}.pth", name) for name in MODELS}


def embed(encoder: SelfSupervisedEncoder, waveform: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    return encoder(*encoder.front_end(waveform, torch.tensor(lengths)))


def speech(*lengths: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = [0.1 * torch.randn(n, generator=generator) for n in lengths]
    return torch.stack([F.pad(row, (0, max(lengths) - len(row))) for row in rows])


@pytest.mark.parametrize("name", MODELS)
def test_an_utterance_gives_the_same_embedding_alone_and_padded(weights, name):
    encoder = SelfSupervisedEncoder(name, weights[name], embedding_dim=12).eval()
    lengths = [2000, 700, 2000, 20, 1]
    batch = speech(*lengths)
    together = embed(encoder, batch, lengths)
    assert together.shape == (5, encoder.embedding_dim) == (5, 12)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(together[i : i + 1], embed(encoder, batch[i : i + 1, :n], [n]), atol=1e-5, rtol=1e-5)
    assert (together[0] - together[2]).abs().max() > 1e-4


def test_normalised_input_does_not_depend_on_the_gain(weights):
    encoder = SelfSupervisedEncoder("TINY_LARGE", weights["TINY_LARGE"]).eval()
    waveform = speech(2000, 1500)
    louder = embed(encoder, 3 * waveform + 0.2 * (waveform != 0), [2000, 1500])
    torch.testing.assert_close(embed(encoder, waveform, [2000, 1500]), louder, atol=1e-3, rtol=1e-3)
    plain = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"])
    torch.testing.assert_close(plain.front_end(waveform, torch.tensor([2000, 1500]))[0][:, 0], waveform)


def test_front_end_normalises_each_utterance_over_its_own_samples():
    waveform = 5 * speech(1000, 300) + 1
    features, lengths = WaveformFrontEnd(normalise=True)(waveform, torch.tensor([1000, 300]))
    assert features.shape == (2, 1, 1000) and lengths.tolist() == [1000, 300]
    assert (features[1, 0, 300:] == 0).all()
    torch.testing.assert_close(features[1, 0, :300].std(correction=0), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_features_are_those_of_torchaudio(weights):
    """With equal weights and no padding, the mixture is the mean of the layers that the bundle's own model gives."""
    encoder = SelfSupervisedEncoder("TINY_LARGE", weights["TINY_LARGE"]).eval()
    model = selfsupervised.BUNDLES["TINY_LARGE"].get_model(
        dl_kwargs={"model_dir": str(Path(weights["TINY_LARGE"]).parent), "file_name": "TINY_LARGE.pth"}
    )
    waveform = speech(1200)
    with torch.no_grad():
        layers, _ = model.extract_features(waveform)
        mixture = torch.stack([F.layer_norm(layer, (16,)) for layer in layers]).mean(0).transpose(1, 2)
        expected = encoder.embedding(encoder.pooling(mixture, torch.tensor([mixture.shape[-1]])))
        torch.testing.assert_close(embed(encoder, waveform, [1200]), expected, atol=1e-4, rtol=1e-4)


def test_a_frozen_model_stays_as_it_is_and_the_rest_learns(weights):
    encoder = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"]).train()
    backbone = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(encoder.parameters(), 0.1)
    waveform = speech(900, 900)
    embedding = embed(encoder, waveform, [900, 900])
    torch.testing.assert_close(embed(encoder, waveform, [900, 900]), embedding)  # no dropout, although in training
    embedding.square().sum().backward()
    optimizer.step()
    assert encoder.layer_logits.std() > 0
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, backbone[name]), name


def test_fine_tuning_reaches_the_transformer_but_not_the_convolutions(weights):
    encoder = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"], freeze=False).train()
    embed(encoder, speech(900, 900), [900, 900]).square().sum().backward()
    assert all(p.grad is None for p in encoder.backbone.feature_extractor.parameters())
    learning = [p for p in encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learning), "a parameter without a gradient stops a distributed training"
    assert len(learning) > len(list(encoder.backbone.encoder.transformer.layers.parameters()))


def test_a_checkpoint_leaves_the_frozen_model_out_and_holds_a_tuned_one(weights):
    frozen = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"])
    state = frozen.state_dict()
    assert not [name for name in state if name.startswith("backbone.")]
    again = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"])
    again.load_state_dict(state)
    waveform = speech(900, 500)
    torch.testing.assert_close(embed(again, waveform, [900, 500]), embed(frozen, waveform, [900, 500]))
    tuned = SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"], freeze=False).state_dict()
    assert [name for name in tuned if name.startswith("backbone.")] and "fingerprint" not in tuned


def test_a_checkpoint_is_not_put_on_another_model(weights, tmp_path):
    state = torch.nn.ModuleDict({"encoder": SelfSupervisedEncoder("TINY_BASE", weights["TINY_BASE"])}).state_dict()
    other = SelfSupervisedEncoder("TINY_BASE", write_weights(tmp_path / "other.pth", "TINY_BASE", seed=1))
    with pytest.raises(PseganError, match="trained on other weights of TINY_BASE"):
        torch.nn.ModuleDict({"encoder": other}).load_state_dict(state)


def test_a_classifier_trains_on_it_and_is_tested_from_a_checkpoint(weights, tmp_path):
    """Through Lightning: the frozen model stays out of the file and everything else comes back."""
    data = SyntheticDataModule(n_speakers=2, n_contents=1, n_takes=2, batch_size=6, crop_seconds=0.5)
    options = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "default_root_dir": tmp_path, "use_distributed_sampler": False, "limit_train_batches": 2, "limit_val_batches": 1,
        "limit_test_batches": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False,
    }  # fmt: skip
    encoder = partial(SelfSupervisedEncoder, "TINY_BASE", weights["TINY_BASE"], embedding_dim=8)

    torch.manual_seed(0)
    classifier = Classifier(data.n_classes, "gender", encoder, learning_rate=0.1)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    trainer = Trainer(max_epochs=1, **options)
    trainer.fit(classifier, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in stored if "backbone" in name]
    for name in ("encoder.layer_logits", "encoder.embedding.weight", "head.weight"):
        assert not torch.equal(stored[name], before[name]), name

    torch.manual_seed(1)
    again = Classifier(data.n_classes, "gender", encoder)
    tester = Trainer(**options)
    (scores,) = tester.test(again, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    assert {"test/accuracy", "test/uar", "test/loss"} <= scores.keys()
    waveform = speech(4000, 3000)
    torch.testing.assert_close(
        embed(again.encoder, waveform, [4000, 3000]), embed(classifier.eval().encoder, waveform, [4000, 3000])
    )


def test_weights_come_from_the_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    cache = tmp_path / "home" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    write_weights(cache / "tiny_base.pth", "TINY_BASE", seed=5)
    encoder = SelfSupervisedEncoder("TINY_BASE")
    stored = torch.load(cache / "tiny_base.pth", weights_only=True)
    torch.testing.assert_close(
        encoder.backbone.encoder.feature_projection.projection.weight,
        stored["encoder.feature_projection.projection.weight"],
    )


def test_without_network_and_cache_the_error_says_what_to_do(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PseganError, match=r"TINY_BASE cannot be downloaded .*TORCH_HOME.*weights a local file$"):
        SelfSupervisedEncoder("TINY_BASE")


def test_bad_bundles_and_files_are_refused(weights, tmp_path):
    with pytest.raises(
        PseganError, match=r"no self-supervised model 'WAVLM': one of .*HUBERT_BASE.*WAV2VEC2_BASE.*WAVLM_BASE"
    ):
        SelfSupervisedEncoder("WAVLM")
    with pytest.raises(PseganError, match="absent.pth: no such file"):
        SelfSupervisedEncoder("TINY_BASE", str(tmp_path / "absent.pth"))
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(PseganError, match="noise.pth: no intact weights of TINY_BASE"):
        SelfSupervisedEncoder("TINY_BASE", str(tmp_path / "noise.pth"))
    with pytest.raises(PseganError, match="no intact weights of TINY_BASE"):
        SelfSupervisedEncoder("TINY_BASE", weights["TINY_LARGE"])
    torch.save({"a": Path()}, tmp_path / "pickled.pth")  # a class that weights_only does not let in
    with pytest.raises(PseganError, match="no intact weights of TINY_BASE"):
        SelfSupervisedEncoder("TINY_BASE", str(tmp_path / "pickled.pth"))


def test_the_published_bundles():
    assert {"WAV2VEC2_BASE", "HUBERT_BASE", "WAVLM_BASE_PLUS"} <= set(selfsupervised.BUNDLES)
    assert not [name for name in selfsupervised.BUNDLES if "ASR" in name or "MMS" in name]
    assert all(bundle.sample_rate == 16_000 for bundle in selfsupervised.BUNDLES.values())
