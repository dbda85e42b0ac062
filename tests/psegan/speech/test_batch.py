"""The batch that corpora give to systems."""

from dataclasses import MISSING, fields

from psegan.speech.batch import SpeechBatch


def test_a_batch_has_everything_once_for_each_utterance():
    """Nothing is left out by default, texts that nobody knows neither: they are None, one for each."""
    assert all(one.default is MISSING and one.default_factory is MISSING for one in fields(SpeechBatch))
