"""Lightning callbacks: privacy metrics, samples, predictions, checkpoints, random states and the saved configuration."""

from psegan.training.callbacks.best import BestCheckpoint
from psegan.training.callbacks.config import SaveConfig
from psegan.training.callbacks.prediction import PredictionWriter
from psegan.training.callbacks.privacy import PrivacyMetrics
from psegan.training.callbacks.resume import ExactResume
from psegan.training.callbacks.samples import SpeechSamples

__all__ = ["BestCheckpoint", "ExactResume", "PredictionWriter", "PrivacyMetrics", "SaveConfig", "SpeechSamples"]
