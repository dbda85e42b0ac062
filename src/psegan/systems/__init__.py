"""The LightningModules: what is trained, with which losses, by which optimisers."""

from psegan.systems.classifier import Classifier
from psegan.systems.psegan import PSEGAN

__all__ = ["PSEGAN", "Classifier"]
