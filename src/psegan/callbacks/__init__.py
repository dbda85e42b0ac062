"""What is done beside the training: judging protected speech, drawing it, saving random states and configurations."""

from psegan.callbacks.best import BestCheckpoint
from psegan.callbacks.config import SaveConfig
from psegan.callbacks.prediction import PredictionWriter
from psegan.callbacks.privacy import PrivacyMetrics
from psegan.callbacks.resume import ExactResume
from psegan.callbacks.samples import SpeechSamples

__all__ = ["BestCheckpoint", "ExactResume", "PredictionWriter", "PrivacyMetrics", "SaveConfig", "SpeechSamples"]
