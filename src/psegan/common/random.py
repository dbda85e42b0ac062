"""Stateless random draws: a generator for every named occasion, so that nothing has to be carried through a resume."""

import hashlib
import os

import torch


def stable_hash(*parts: object) -> int:
    """A 63-bit hash of the parts' text, the same on every machine (Python's own ``hash`` is salted)."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "big") >> 1


def seeded(*occasion: object) -> torch.Generator:
    """A CPU generator seeded by the occasion, for example ``seeded(seed, "targets", epoch, batch)``.

    The same occasion gives the same draws on every machine, device and number of workers.
    """
    return torch.Generator().manual_seed(stable_hash(*occasion))


def of_utterance(seed: int, id: str) -> torch.Generator:
    """Where everything is drawn from that protects the utterance ``id``: in validation, predict, protect and evaluation."""
    return seeded(seed, "protect", id)


def secret() -> torch.Generator:
    """A CPU generator whose whole state comes from the operating system's secure source.

    A seed would not do: torch keeps 32 bits of it, which anybody can try out. The state of the Mersenne twister is 624 words of
    32 bits, each kept in 64, behind 24 bytes of bookkeeping.
    """
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = torch.frombuffer(bytearray(os.urandom(4 * 624)), dtype=torch.int32).long() & 0xFFFFFFFF
    state[24 : 24 + 8 * 624] = words.view(torch.uint8)
    return generator.set_state(state)
