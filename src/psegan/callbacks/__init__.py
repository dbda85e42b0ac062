"""What is done beside the training: judging protected speech, drawing it, saving random states and configurations."""

from psegan.callbacks.config import SaveConfig
from psegan.callbacks.privacy import PrivacyMetrics
from psegan.callbacks.random_state import RandomState
from psegan.callbacks.samples import SpeechSamples

__all__ = ["PrivacyMetrics", "RandomState", "SaveConfig", "SpeechSamples"]
