"""A small protector with weights that do something, for tests of everything around it."""

from typing import Literal

import torch

from psegan.models.anchored import CodeEncoder, ProfileDecoder
from psegan.models.conversion import ToEmotion
from psegan.models.psegan import PSEGANGenerator
from psegan.models.vocos import Vocos
from psegan.protection.anchored import AnchoredProtector
from psegan.protection.conversion import ConversionProtector
from psegan.protection.voice import Voice

EMOTIONS = ("neutral", "happy", "sad")


def small_protector(
    grn_repeats: int = 0, seed: int = 0, level: Literal["kept"] | float = "kept"
) -> ConversionProtector:
    """PSEGAN's generator and a Vocos of two blocks, random but audible."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = PSEGANGenerator(len(EMOTIONS), noise_dim=4, grn_repeats=grn_repeats)
        torch.nn.init.normal_(generator.unet.output.weight, std=0.3)
        vocoder = Vocos(width=32, hidden=64, depth=2)
    about = {"emotions": list(EMOTIONS), "trained_on": []}
    return ConversionProtector.assemble(
        {"conversion": ToEmotion(generator, len(EMOTIONS), level=level), "vocoder": vocoder}, about
    )


def small_anchored(seed: int = 0) -> AnchoredProtector:
    """Anchored's networks, small and random, and a Vocos of two blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "encoder": CodeEncoder(width=16, hidden=32, depth=1),
            "decoder": ProfileDecoder(width=16, hidden=32, heads=2, depth=1),
            "vocoder": Vocos(width=32, hidden=64, depth=2),
        }
    return AnchoredProtector.assemble(parts, {"system": "Anchored", "trained_on": []})


def small_voice(name: str = "Ada", seed: int = 1) -> Voice:
    """A profile of two recordings of :func:`speech`."""
    return Voice.enrol([speech(8, seed), speech(6, seed + 100)], name)


def speech(seconds: float, seed: int = 0, rate: int = 16_000) -> torch.Tensor:
    """Something with the rhythm of speech: a buzz and noise that come and go, ``(T,)``."""
    random = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * rate)) / rate
    pitch = 120 + 20 * torch.sin(2 * torch.pi * 0.7 * time)
    phase = (pitch / rate).cumsum(0)
    buzz = sum(torch.sin(2 * torch.pi * h * phase) / h for h in range(1, 20))
    syllables = torch.sin(2 * torch.pi * 2.3 * time).clamp(min=0)
    return 0.1 * syllables * buzz + 0.01 * torch.randn(len(time), generator=random)
