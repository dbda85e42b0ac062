"""Texts as sequences of characters, and the loss of reading them in speech."""

import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def lowered(text: str) -> str:
    """A text in lower case, with one kind of apostrophe and one way of writing each character."""
    return unicodedata.normalize("NFKC", text).replace("’", "'").casefold()


def plain(text: str, alphabet: str) -> str:
    """The characters of a text that the alphabet has, in lower case, words one blank apart."""
    return " ".join("".join(c for c in lowered(text) if c in alphabet or c.isspace()).split())


def spelling_loss(logits: Tensor, lengths: Tensor, spelt: Sequence[Sequence[int]]) -> Tensor:
    """Connectionist temporal classification (Graves et al., ICML 2006): the mean over utterances of the loss a character.

    What is unalignable has no probability, and would make the whole batch's loss infinite; it counts as zero.

    Args:
        logits: of characters and, last, CTC's blank, ``(B, N, K)``.
        lengths: of the logits, ``(B,)``.
        spelt: classes of the ``B`` texts.
    """
    targets = torch.tensor([index for one in spelt for index in one], dtype=torch.long, device=logits.device)
    sizes = torch.tensor([len(one) for one in spelt], device=logits.device)
    log_probability = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probability, targets, lengths, sizes, blank=logits.shape[-1] - 1, zero_infinity=True)
