"""Speech corpora as LightningDataModules.

They import from psegan how audio is read and what a batch is, and nothing of models or training.
"""

from datamodules.base import CorpusDataModule
from datamodules.dataset import SpeechDataset, Utterance
from datamodules.emodb import EmoDBDataModule
from datamodules.enrolment import EnrolmentDataModule
from datamodules.joint import JointDataModule
from datamodules.manifest import ManifestDataModule, read_manifest, write_manifest
from datamodules.nemo import NEMODataModule
from datamodules.ravdess import RAVDESSDataModule
from datamodules.synthetic import SyntheticDataModule

__all__ = [
    "CorpusDataModule",
    "EmoDBDataModule",
    "EnrolmentDataModule",
    "JointDataModule",
    "ManifestDataModule",
    "NEMODataModule",
    "RAVDESSDataModule",
    "SpeechDataset",
    "SyntheticDataModule",
    "Utterance",
    "read_manifest",
    "write_manifest",
]
