"""A protector for test_corpora: it draws a target and does nothing with it."""

import torch

from psegan.protection.transform import Transform, Transformed


class Draws(Transform):
    """Targets among five emotions."""

    n_targets = 5
    weights = "0123456789abcdef"

    def _transform(self, waveform, random):
        return Transformed(waveform, int(torch.randint(self.n_targets, (), generator=random)))
