"""A small corpus with enrolment speech, and a content matcher, for the trainings of Anchored's networks."""

import pytest
import torch

from datamodules import EnrolmentDataModule, SyntheticDataModule
from psegan.models.content import FeatureEncoder
from psegan.weights import PretrainedModel
from tests.support.corpora import write_corpus


@pytest.fixture(scope="session")
def matcher(tmp_path_factory):
    """A content matcher of width 16, which Moonshine has taught, as weights that ship."""
    folder = tmp_path_factory.mktemp("matcher") / "taught"
    about = {"attribute": "content", "learnt_from": ["psegan.evaluation.recognisers.Moonshine"]}
    torch.manual_seed(1)
    encoder = FeatureEncoder(8, width=16, hidden=32, depth=1)
    PretrainedModel.assemble({"encoder": encoder}, about).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def voices(tmp_path_factory):
    """A corpus ``acted`` of synthetic speech in two emotions, with its texts."""
    root = tmp_path_factory.mktemp("voices")
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=3)

    def columns(u):
        return {
            "speaker": data.speakers[u.speaker], "emotion": data.emotions[u.emotion],
            "content": data.contents[u.content], "text": data.contents[u.content],
            "split": ("train", "validation", "test")[int(u.id[-1]) % 3],
        }  # fmt: skip

    some = [u for u in data.utterances() if data.emotions[u.emotion] in ("neutral", "angry")]
    write_corpus(root / "acted", data, columns, some)
    return str(root)


@pytest.fixture
def voice_data(voices):
    """The corpus in small batches."""
    return EnrolmentDataModule(
        voices, ["acted"], calm=["acted/neutral"], split_of={"acted": "manifest"}, speakers_in_batch=2, targets=1,
        profile_seconds=2.0, batches=3, validation_batches=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def on_voices(voices, matcher):
    """The options of a training of Anchored's networks on the corpus, all small."""
    sizes = [
        f"{network}.init_args.{size}"
        for network in ("encoder", "content_matcher")
        for size in ("width=16", "hidden=32", "depth=1")
    ]
    return [
        "--config", "experiments/corpora/calm_voices.yaml", f"--data.init_args.root={voices}",
        "--data.init_args.corpora=[acted]", "--data.init_args.calm=[acted/neutral]",
        "--data.init_args.split_of={acted: manifest}", "--data.init_args.split=paper", "--data.init_args.speakers=all",
        "--data.init_args.speakers_of={}", "--data.init_args.weights={}", "--data.init_args.batches=3",
        "--data.init_args.speakers_in_batch=2", "--data.init_args.targets=1", "--data.init_args.profile_seconds=2",
        "--data.init_args.validation_batches=1", "--model.init_args.content_matcher.init_args.outputs=8",
        *(f"--model.init_args.{size}" for size in sizes), f"--model.init_args.content_matcher_checkpoint={matcher}",
        "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--run.loggers=[csv]",
        "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
