"""A protector for test_corpora: it draws a target and does nothing with it."""

import torch

from psegan.protection.controls import Protection, UtteranceProtector


class Draws(UtteranceProtector):
    """Targets among five emotions."""

    n_targets = 5
    weights = "0123456789abcdef"

    def transform(self, waveform, random):
        return Protection(waveform, int(torch.randint(self.n_targets, (), generator=random)))
