"""Random draws without state: each comes from a generator of its own, so a resumed run has no state to restore."""

import hashlib
import os

import torch


def stable_hash(*parts: object) -> int:
    """A 63-bit hash of the parts' text, the same on every machine (Python's own ``hash`` is salted)."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "big") >> 1


def seeded(*occasion: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of the arguments, for example ``seeded(seed, "targets", epoch, batch)``.

    The same arguments give the same draws on every machine and device, and with any number of workers.
    """
    return torch.Generator().manual_seed(stable_hash(*occasion))


def of_utterance(seed: int, id: str) -> torch.Generator:
    """Where everything is drawn from that protects the utterance ``id``: in validation, predict, protect and evaluation."""
    return seeded(seed, "protect", id)


def secret() -> torch.Generator:
    """A CPU generator whose whole state comes from the operating system's secure random source.

    A secure seed is not enough: torch uses 32 bits of it, so that all seeds can be tried. The state holds 24 bytes of
    bookkeeping and then the Mersenne twister's 624 words of 32 bits, each stored in 64.
    """
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = torch.frombuffer(bytearray(os.urandom(4 * 624)), dtype=torch.int32).long() & 0xFFFFFFFF
    state[24 : 24 + 8 * 624] = words.view(torch.uint8)
    return generator.set_state(state)
