"""Stateless random draws: a generator for every named occasion, so that nothing has to be carried through a resume."""

import hashlib

import torch


def stable_hash(*parts: object) -> int:
    """A 63-bit hash of the parts' text, the same on every machine (Python's own ``hash`` is salted)."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seeded(*occasion: object) -> torch.Generator:
    """A CPU generator seeded by the occasion, for example ``seeded(seed, "targets", epoch, batch)``.

    The same occasion gives the same draws on every machine, device and number of workers.
    """
    return torch.Generator().manual_seed(stable_hash(*occasion))
