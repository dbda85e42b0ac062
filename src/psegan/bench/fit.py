"""Trainings of the benchmarks: the experiment files, through ``psegan fit``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from psegan.training import command as training

SYNTHETIC = "experiments/corpora/synthetic.yaml"
NOISE = "--data=psegan.bench.training.NoiseDataModule"
Figure = tuple[str, tuple[float | None, str]]
"""Name, number and unit; of a number that cannot be measured, None and the reason."""


@dataclass(frozen=True)
class Setting:
    """Where and how the benchmarks train, and how much ``make gpu`` measures.

    Attributes:
        device: ``cuda`` or ``cpu``.
        folder: of the trainings.
        precisions: to train in, the one of most interest last.
        seconds: for which the speeds of one part are measured, together.
        minutes: of speech to protect.
        options: words of ``psegan fit`` for every training, which stand last.
    """

    device: str
    folder: Path
    precisions: tuple[str, ...] = ("32-true",)
    seconds: float = 30.0
    minutes: float = 10.0
    options: tuple[str, ...] = ()

    def words(self, name: str, configs: Iterable[str], *options: str) -> list[str]:
        """``psegan fit`` into a folder of this name, for one epoch, without loggers, bars and summaries."""
        return [
            "fit", *(f"--config={config}" for config in configs), f"--run.dir={self.folder / name}", "--run.loggers=[]",
            f"--trainer.accelerator={'gpu' if self.device == 'cuda' else 'cpu'}", "--trainer.max_epochs=1",
            "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", *options, *self.options,
        ]  # fmt: skip

    def psegan(self, name: str, configs: Iterable[str], *options: str) -> list[str]:
        """The same of PSEGAN, without warm-up and samples; its speaker matcher is trained first, where there is none yet."""
        matcher = self.folder / "matcher" / "checkpoints" / "last.ckpt"
        if not matcher.is_file():
            training.main(self.words("matcher", ["experiments/speaker_matcher.yaml", SYNTHETIC]))
        needed = [
            f"--model.init_args.speaker_matcher_checkpoint={matcher}", "--model.init_args.discriminator_warmup=0",
            "--samples.n_utterances=0",
        ]  # fmt: skip
        return self.words(name, ["experiments/psegan.yaml", *configs], *needed, *options)

    def memory(self, name: str) -> Iterator[Figure]:
        """The most that tensors have taken on the GPU since the last call, or since the process began."""
        if self.device == "cuda":
            yield f"{name}/memory", (torch.cuda.max_memory_allocated() / 2**20, "MiB at most")
            torch.cuda.reset_peak_memory_stats()


def is_loss(name: str) -> bool:
    """Whether a logged value is a loss or distance: accuracies jump, and the gradients of a skipped step are infinite."""
    return not name.endswith(("/accuracy", "/gradient_norm", "/learning_rate"))
