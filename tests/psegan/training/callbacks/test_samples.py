"""Samples of speech that cannot be made are said before a training begins."""

import pytest

from psegan.common.errors import PseganError
from psegan.models.gengan import GenGANGenerator
from psegan.systems import GenGAN
from psegan.training.callbacks import SpeechSamples


class OwnGenerator(GenGANGenerator):
    """A network of somebody's own, which weights that ship don't name."""


def test_a_network_of_ones_own_is_trained_without_samples():
    system = GenGAN({"emotion": 5, "speaker": 4, "gender": 2, "content": 2}, generator=OwnGenerator)
    with pytest.raises(PseganError, match=r"OwnGenerator is no module of psegan\.models.*--samples\.n_utterances 0"):
        SpeechSamples().setup(None, system, "fit")
    SpeechSamples(n_utterances=0).setup(None, system, "fit")


def test_a_vocoder_that_is_not_there_is_said_first():
    system = GenGAN({"emotion": 5, "speaker": 4, "gender": 2, "content": 2})
    with pytest.raises(PseganError, match="vocoder 'nowhere' is not known"):
        SpeechSamples(vocoder="nowhere").setup(None, system, "fit")
