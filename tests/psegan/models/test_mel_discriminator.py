"""The discriminator of log-mels judges patches, wherever they are."""

import torch

from psegan.models.mel_discriminator import MelDiscriminator


def test_scores_of_patches():
    torch.manual_seed(0)
    discriminator = MelDiscriminator(4)
    mel = torch.randn(2, 80, 101)
    score, features = discriminator(mel)
    assert score.shape == (2, 1, 10, 13) and [one.shape[1] for one in features] == [4, 8, 16]
    changed = mel.clone()
    changed[..., 60:] = 0
    moved = (discriminator(changed).score != score).any(dim=(0, 1, 2))
    assert not moved[:4].any() and moved[8:].all()
