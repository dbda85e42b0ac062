"""The LightningModules: what is trained, with which losses, by which optimisers."""

from psegan.systems.anchored import Anchored
from psegan.systems.anchored_encoder import AnchoredEncoder
from psegan.systems.classifier import Classifier
from psegan.systems.distillation import ContentDistillation
from psegan.systems.gengan import GenGAN
from psegan.systems.pcmelgan import PCMelGAN
from psegan.systems.psegan import PSEGAN
from psegan.systems.recogniser import CharacterRecogniser
from psegan.systems.vocoder import VocoderGAN

__all__ = [
    "PSEGAN",
    "Anchored",
    "AnchoredEncoder",
    "CharacterRecogniser",
    "Classifier",
    "ContentDistillation",
    "GenGAN",
    "PCMelGAN",
    "VocoderGAN",
]
