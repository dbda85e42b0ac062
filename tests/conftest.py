"""Fixtures that several test folders share."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

# two workers share two cores, and sums in another order would be other sums
torch.set_num_threads(1)
# no test talks to W&B, whatever account the machine has
os.environ["WANDB_MODE"] = "offline"

REPOSITORY = Path(__file__).resolve().parents[1]
# two batches where one would do: jsonargparse takes the 1 of Lightning's `int | float` limits for 1.0, all of them
TINY = ["--data.init_args.n_speakers=4", "--data.init_args.n_contents=2", "--data.init_args.n_takes=2"]
"""The synthetic corpus with 80 utterances: 60 to train on, 10 each to validate and test."""
SHORT_CROPS = ["--data.init_args.crop_seconds=0.8", "--model.init_args.generator.init_args.grn_dilations=[1]"]
"""Options of PSEGAN for quick batches, with gated layers that they train."""


SLOW = ("jobs", "experiments", "training", "systems")
"""Folders whose tests train. They begin first, or one process would wait for the other's last long file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: min(order.get(folder, len(SLOW)) for folder in item.nodeid.split("/")))


@pytest.fixture
def from_repository(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in the repository's folder, as the README's commands are; gives that folder."""
    monkeypatch.chdir(REPOSITORY)
    return REPOSITORY


@pytest.fixture
def full_disk(capsys: pytest.CaptureFixture[str]) -> Callable[[int], AbstractContextManager[None]]:
    """Gives a context in which no file may grow beyond so many bytes; ``capsys``, since pytest writes files too."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overlay and options of a tiny synthetic corpus, for training commands."""
    return ["--config", "experiments/corpora/synthetic.yaml", *TINY]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Callable[[str], str]:
    """Gives checkpoints of classifiers that saw two batches of the tiny corpus: emotion, ..., speaker_matcher."""
    from psegan.training import command as training

    folder = tmp_path_factory.mktemp("trained")

    def checkpoint(name: str) -> str:
        path = folder / name / "checkpoints" / "last.ckpt"
        if not path.exists():
            system = "speaker_matcher" if name == "speaker_matcher" else "classifier"
            attribute = "speaker" if name == "speaker_matcher" else name
            here = Path.cwd()
            os.chdir(REPOSITORY)
            try:
                training.main(
                    ["fit", "--config", f"experiments/{system}.yaml", *tiny, f"--model.init_args.attribute={attribute}",
                     "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2",
                     "--trainer.enable_progress_bar=false", "--run.loggers=[]", f"--run.dir={folder / name}"]
                )  # fmt: skip
            finally:
                os.chdir(here)
        return str(path)

    return checkpoint


@pytest.fixture(scope="session")
def psegan_options(trained: Callable[[str], str], tiny: list[str]) -> list[str]:
    """A short training of PSEGAN on the tiny corpus, without privacy metrics, samples and loggers."""
    return [
        "fit", "--config", "experiments/psegan.yaml", *tiny, "--data.init_args.batch_size=8",
        f"--model.init_args.speaker_matcher_checkpoint={trained('speaker_matcher')}",
        "--model.init_args.discriminator_warmup=0", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2",
        "--trainer.limit_val_batches=2", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
        "--run.loggers=[]", "--samples.n_utterances=0",
    ]  # fmt: skip


@pytest.fixture
def psegan_arguments(psegan_options: list[str], tmp_path: Path) -> list[str]:
    """The same into ``tmp_path / "run"``."""
    return [*psegan_options, f"--run.dir={tmp_path / 'run'}"]


@pytest.fixture(scope="session")
def corpora_root() -> Path:
    """Folder of the real corpora (ravdess, emodb, ravdess_48k): PSEGAN_DATA_ROOT, or beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("PSEGAN_DATA_ROOT", default))
    if not (root / "ravdess").is_dir() or not (root / "emodb").is_dir():
        pytest.skip(f"no real corpora in {root}: set PSEGAN_DATA_ROOT to a folder that holds ravdess/ and emodb/")
    return root
