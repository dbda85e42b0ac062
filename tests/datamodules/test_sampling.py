"""Order and crops: functions of (seed, epoch, index), whatever the workers and ranks."""

import multiprocessing
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import distributed

from datamodules import SyntheticDataModule
from datamodules.sampling import EpochSampler
from psegan.common.random import stable_hash


def epoch(sampler: EpochSampler, number: int) -> list[tuple[int, int]]:
    sampler.set_epoch(number)
    return list(sampler)


def test_hash_is_the_same_on_every_machine():
    assert stable_hash("crop", 0, 1, 2) == 1503812384947071055
    assert stable_hash("a", 12) != stable_hash("a1", 2)


def test_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(10, seed=3)
    first, second = epoch(sampler, 0), epoch(sampler, 1)
    assert sorted(index for _, index in first) == list(range(10))
    assert [index for _, index in first] != [index for _, index in second]
    assert {number for number, _ in second} == {1}
    assert epoch(EpochSampler(10, seed=3), 1) == second
    assert epoch(EpochSampler(10, seed=4), 1) != second
    assert epoch(EpochSampler(3, shuffle=False), 5) == [(5, 0), (5, 1), (5, 2)]


def report_shares(rank: int, store: Path, queue) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3)
    for n in (10, 9, 2):
        for shuffle in (True, False):
            sampler = EpochSampler(n, shuffle=shuffle)
            queue.put((n, shuffle, len(sampler), [index for _, index in sampler]))
    distributed.destroy_process_group()


def test_ranks_share_training_equally_and_evaluation_exactly(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=report_shares, args=(rank, tmp_path / "store", queue)) for rank in range(3)]
    for process in processes:
        process.start()
    shares: dict[tuple[int, bool], list[list[int]]] = {}
    for _ in range(3 * 6):
        n, shuffle, length, indices = queue.get(timeout=60)
        assert length == len(indices)
        shares.setdefault((n, shuffle), []).append(indices)
    for process in processes:
        process.join(timeout=60)
    for (n, shuffle), parts in shares.items():
        drawn = [index for part in parts for index in part]
        if shuffle:
            assert [len(part) for part in parts] == [max(n // 3, 1)] * 3
            assert set(drawn) <= set(range(n)) and (len(set(drawn)) == len(drawn) or n < 3)
        else:
            assert sorted(drawn) == list(range(n))


def small(**kwargs) -> SyntheticDataModule:
    return SyntheticDataModule(**{"n_speakers": 2, "n_contents": 1, "n_takes": 4, "crop_seconds": 0.5} | kwargs)


def batches(module: SyntheticDataModule, number: int) -> list:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def test_crops_depend_on_epoch_and_not_on_workers_or_history():
    module = small(batch_size=8)
    zero, one = batches(module, 0), batches(module, 1)
    resumed = batches(small(batch_size=8), 1)
    working = batches(small(batch_size=8, num_workers=2), 1)
    assert one[0].waveform.shape == (8, 8000)
    for a, b, c in zip(one, resumed, working, strict=True):
        assert a.id == b.id == c.id
        assert torch.equal(a.waveform, b.waveform) and torch.equal(a.waveform, c.waveform)
    assert [b.id for b in zero] != [b.id for b in one]
    dataset = module.dataset(module.split_utterances("train"), train=True)
    starts = {tuple(dataset[e, 0][0][:4].tolist()) for e in range(5)}
    assert len(starts) == 5


def test_loaders_leave_the_global_generator_alone():
    torch.manual_seed(0)
    batches(small(), 0)
    value = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(()), value)


class Recorder(LightningModule):
    """Trains one weight and notes which utterances it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...], float]] = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, batch.id, float(batch.waveform.sum())))
        return self.weight * batch.waveform.abs().sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_resumed_trainer_sees_the_same_batches(tmp_path):
    def fit(epochs: int, ckpt_path: str | None = None) -> tuple[Recorder, Trainer]:
        model = Recorder()
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(model, datamodule=small(batch_size=10), ckpt_path=ckpt_path, weights_only=True)
        return model, trainer

    whole, _ = fit(3)
    _, first = fit(1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    resumed, _ = fit(3, str(tmp_path / "one.ckpt"))
    assert resumed.seen == [seen for seen in whole.seen if seen[0] >= 1]
    assert len(resumed.seen) == 2 * 3


def test_batches_of_alike_lengths_pad_little_and_are_others_in_every_epoch():
    lengths = [(37 * i) % 501 for i in range(1_003)]
    sampler = EpochSampler(len(lengths), seed=1, alike=(lengths, 10))
    first, second = ([index for _, index in epoch(sampler, number)] for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1_003))
    batches = [first[start : start + 10] for start in range(0, 1_000, 10)]
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 501 / 10
    means = [sum(lengths[i] for i in batch) / 10 for batch in batches]
    assert means != sorted(means), "short ones would all come first"
    assert {frozenset(batch) for batch in batches}.isdisjoint(
        frozenset(second[start : start + 10]) for start in range(0, 1_000, 10)
    )
    assert first == [index for _, index in epoch(EpochSampler(1_003, seed=1, alike=(lengths, 10)), 0)]


def test_a_corpus_makes_batches_of_alike_lengths():
    data = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2, crop_seconds=None, batch_size=6, alike=True)
    other = SyntheticDataModule(n_speakers=4, n_contents=2, n_takes=2, crop_seconds=None, batch_size=6)
    padding = [
        sum(1 - float(batch.length.sum()) / batch.waveform.numel() for batch in one.train_dataloader())
        for one in (data, other)
    ]
    assert padding[0] < padding[1] / 2
    seen = [id for batch in data.train_dataloader() for id in batch.id]
    assert len(set(seen)) == len(seen) == 60
