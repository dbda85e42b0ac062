"""Lightning callbacks: privacy metrics, samples, predictions, checkpoints, limits, random states, the configuration."""

from psegan.training.callbacks.checkpoints import BestCheckpoint, CheckpointArtifact, EpochCheckpoint
from psegan.training.callbacks.config import SaveConfig
from psegan.training.callbacks.limits import Limits
from psegan.training.callbacks.prediction import PredictionWriter
from psegan.training.callbacks.privacy import PrivacyMetrics
from psegan.training.callbacks.resume import ExactResume
from psegan.training.callbacks.samples import SpeechSamples

__all__ = [
    "BestCheckpoint", "CheckpointArtifact", "EpochCheckpoint", "ExactResume", "Limits", "PredictionWriter",
    "PrivacyMetrics", "SaveConfig", "SpeechSamples",
]  # fmt: skip
