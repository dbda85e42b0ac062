"""Vocoders: the interface, and that Griffin-Lim gives back what it was given."""

import pytest
import torch
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.models.melgan import MelGAN, MultiScaleDiscriminator
from psegan.models.spectral_discriminator import SpectralDiscriminator
from psegan.models.state import fold_weight_norm
from psegan.models.vocoder import GriffinLim, overlap_add
from psegan.models.vocos import Vocos
from psegan.speech.audio import LogMel, UnitScaler
from psegan.weights import load_vocoder


def voice(samples: int, pitch: float = 150.0) -> torch.Tensor:
    time = torch.arange(samples) / 16000
    return sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 20)) * 0.1


def test_copy_synthesis_keeps_the_spectrogram():
    waveform = voice(16000)
    front_end, lengths = LogMel(), torch.tensor([16000])
    mel, frames = front_end(waveform.unsqueeze(0), lengths)
    copy = GriffinLim()(mel, frames)
    assert copy.shape == (1, mel.shape[-1] * 256)
    again, _ = front_end(copy[:, :16000], lengths)
    scale = UnitScaler()
    assert (scale(again) - scale(mel)).abs().mean() < 0.03


def test_padding_changes_nothing_and_stays_silent():
    front_end, vocoder = LogMel(), GriffinLim(4)
    batch = torch.stack([F.pad(voice(6000), (0, 4000)), voice(10000, 210.0)])
    together = vocoder(*front_end(batch, torch.tensor([6000, 10000])))
    alone = vocoder(*front_end(voice(6000).unsqueeze(0), torch.tensor([6000])))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone)
    assert (together[0, alone.shape[1] :] == 0).all()


def test_very_short_utterances():
    for samples in (1, 100, 257, 1000):
        mel, frames = LogMel()(voice(samples).unsqueeze(0), torch.tensor([samples]))
        waveform = GriffinLim(2)(mel, frames)
        assert waveform.shape == (1, int(frames) * 256)
        assert torch.isfinite(waveform).all()


@pytest.fixture(params=[lambda: Vocos(width=32, hidden=64, depth=2), lambda: MelGAN(width=4)], ids=["vocos", "melgan"])
def trained(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fold_weight_norm(request.param()).eval()


@torch.inference_mode()
def test_networks_speak_in_whole_frames_and_padding_changes_nothing(trained):
    mel = torch.randn(2, 80, 40, generator=torch.Generator().manual_seed(0)) - 4
    frames = torch.tensor([40, 23])
    together = trained(mel, frames)
    assert together.shape == (2, 40 * 256) and together.dtype == torch.float32
    alone = trained(mel[1:, :, :23], frames[1:])
    torch.testing.assert_close(together[1:, : 23 * 256], alone, rtol=0, atol=1e-5)
    assert (together[1, 23 * 256 :] == 0).all() and together[1, : 23 * 256].abs().max() > 0


@torch.inference_mode()
def test_what_networks_need_to_know_is_what_they_say(trained):
    """Within ``context`` frames of its edges a piece may differ from the whole, beyond that it must not; nor is it more."""
    mel, context = torch.randn(1, 80, 400, generator=torch.Generator().manual_seed(0)) - 4, trained.context
    whole = trained(mel, torch.tensor([400]))[0, 100 * 256 : 300 * 256]
    piece = trained(mel[..., 100:300], torch.tensor([200]))[0]
    inside = slice(context * 256, -context * 256)
    torch.testing.assert_close(piece[inside], whole[inside], rtol=0, atol=1e-5)
    assert not torch.allclose(piece[: context * 256], whole[: context * 256], atol=1e-5)


def test_the_inverse_of_the_front_ends_spectrum_is_the_waveform():
    waveform = torch.stack([voice(9_000), F.pad(voice(5_000, 210.0), (0, 4_000))])
    window, lengths = torch.hann_window(1024), torch.tensor([9_000 // 256 + 1, 5_000 // 256 + 1])
    spectrum = torch.stft(waveform, 1024, 256, window=window, pad_mode="constant", return_complex=True)
    frames = torch.fft.irfft(spectrum, 1024, dim=1) * window.unsqueeze(1)
    again = overlap_add(frames, window, lengths)
    torch.testing.assert_close(again[0, :9_000], waveform[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(again[1, :5_000], waveform[1, :5_000], atol=1e-5, rtol=0)
    assert (again[1, int(lengths[1]) * 256 :] == 0).all()


def test_melgan_is_the_articles():
    """Kumar et al., table: 4.26 M parameters in the generator, 16.92 M in three discriminators."""
    weights = sum(p.numel() for p in fold_weight_norm(MelGAN()).parameters())
    assert weights / 1e6 == pytest.approx(4.26, abs=0.005)
    discriminators = sum(p.numel() for p in fold_weight_norm(MultiScaleDiscriminator()).parameters())
    assert discriminators / 1e6 == pytest.approx(16.92, abs=0.01)
    with pytest.raises(PseganError, match="product must be the hop, 256"):
        MelGAN(ratios=(8, 8, 2))


@pytest.mark.parametrize(
    "discriminator", [MultiScaleDiscriminator(width=4), SpectralDiscriminator(width=2)], ids=["scales", "spectral"]
)
def test_discriminators_see_everything_and_give_finite_gradients(discriminator):
    waveform = torch.cat([voice(4_000), torch.zeros(4_000)]).repeat(2, 1).requires_grad_()
    outputs = discriminator(waveform)
    assert len(outputs) == {MultiScaleDiscriminator: 3, SpectralDiscriminator: 8}[type(discriminator)]
    assert all(output.features and output.score.isfinite().all() for output in outputs)
    torch.stack([output.score.square().mean() for output in outputs]).sum().backward()
    assert waveform.grad is not None and waveform.grad.isfinite().all()
    for discriminated in outputs:  # feature matching compares layer by layer
        assert [f.shape[0] for f in discriminated.features] == [2] * len(discriminated.features)


def test_the_public_hifigan_from_a_folder_in_the_hubs_format(tmp_path):
    pytest.importorskip("speechbrain")
    from psegan.models.hifigan import HiFiGAN

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = HiFiGAN()
    torch.save(theirs.generator.state_dict(), tmp_path / "generator.ckpt")
    vocoder = load_vocoder(str(tmp_path))
    mel, frames = LogMel()(voice(8_000).unsqueeze(0), torch.tensor([8_000]))
    with torch.inference_mode():
        waveform = vocoder(mel, frames)
        expected = theirs.generator.inference(mel)[:, 0, 5 * 256 : (5 + int(frames)) * 256]
    torch.testing.assert_close(waveform, expected, rtol=0, atol=1e-4)
    (tmp_path / "generator.ckpt").write_bytes(b"no weights")
    with pytest.raises(PseganError, match="cannot be loaded"):
        load_vocoder(str(tmp_path))


def test_a_public_vocoder_without_a_network_is_refused_in_one_line(monkeypatch, tmp_path):
    pytest.importorskip("speechbrain")
    import psegan.weights

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(psegan.weights, "snapshot_download", offline)
    with pytest.raises(PseganError, match=r"tts-hifigan-libritts-16kHz: cannot be loaded .*run once with a network"):
        load_vocoder("speechbrain/tts-hifigan-libritts-16kHz")
