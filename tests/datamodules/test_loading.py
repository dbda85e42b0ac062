"""Reading corpora from folders: formats, labels, batches, and one clear line for everything that is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules import EmoDBDataModule, RAVDESSDataModule, SpeechDataset
from psegan.common.errors import PseganError

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture
def ravdess(tmp_path) -> Path:
    """Eight emotions of actors 1 to 24, one short file each, in both forms that users have."""
    for actor in range(1, 25):
        for emotion in range(1, 9):
            stem = tmp_path / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-01-{actor:02}"
            samples = tone(0.1 + 0.01 * emotion, 48_000, 200 + 10 * actor)
            if actor == 1:
                write(stem.with_suffix(".wav"), np.stack([samples, samples], 1), 48_000)
            else:
                write(stem.with_suffix(".flac"), samples[::3])
    return tmp_path


def test_labels_of_ravdess():
    utterance = RAVDESSDataModule.parse("Actor_12/03-01-06-02-02-01-12")
    assert RAVDESSDataModule.emotions[utterance.emotion] == "fearful"
    assert RAVDESSDataModule.speakers[utterance.speaker] == "12"
    assert RAVDESSDataModule.genders[utterance.gender] == "female"
    assert RAVDESSDataModule.contents[utterance.content] == "dogs"
    assert utterance.details == {"intensity": "strong", "repetition": 1}


def test_labels_of_emodb():
    utterance = EmoDBDataModule.parse("wav/15b09Lc")
    assert EmoDBDataModule.emotions[utterance.emotion] == "boredom"
    assert EmoDBDataModule.speakers[utterance.speaker] == "15"
    assert EmoDBDataModule.genders[utterance.gender] == "male"
    assert EmoDBDataModule.contents[utterance.content] == "b09"
    assert utterance.details == {"take": "c"}


def test_class_counts_need_no_files():
    assert RAVDESSDataModule(root="nowhere").n_classes == {"emotion": 8, "speaker": 24, "gender": 2, "content": 2}
    assert EmoDBDataModule(root="nowhere").n_classes == {"emotion": 7, "speaker": 10, "gender": 2, "content": 10}
    assert RAVDESSDataModule.genders == ("male", "female")


def test_wav_and_flac_copies_load_alike(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", eval_batch_size=200)
    utterances = module.utterances()
    assert len(utterances) == 24 * 8
    assert utterances[0].id == "Actor_01/03-01-01-01-01-01-01"
    batch = next(iter(module.eval_dataloader(utterances)))
    assert batch.id == tuple(utterance.id for utterance in utterances)
    expected = [round((0.1 + 0.01 * (utterance.emotion + 1)) * RATE) for utterance in utterances]
    assert batch.length.tolist() == expected
    assert batch.waveform.shape == (192, max(expected))
    assert batch.speaker.tolist() == [utterance.speaker for utterance in utterances]
    reference = torch.from_numpy(tone(0.11, RATE, 210)).float()
    assert torch.allclose(batch.waveform[0, 200 : 1760 - 200], reference[200:-200], atol=2e-3)


def test_evaluation_is_whole_and_training_is_cropped(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", crop_seconds=0.12, batch_size=16)
    module.setup("fit")
    for batch in module.train_dataloader():
        assert len(batch) == 16 and int(batch.length.max()) <= round(0.12 * RATE)
    for loader in (module.val_dataloader(), module.test_dataloader(), module.predict_dataloader()):
        assert max(int(batch.length.max()) for batch in loader) == round(0.18 * RATE)
    assert [b.id for b in module.predict_dataloader()] == [b.id for b in module.test_dataloader()]


def test_fixed_padding_in_every_subset(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", crop_seconds=None, pad_seconds=16.7)
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        batch = next(iter(loader))
        assert batch.waveform.shape[1] == 267_200
        assert int(batch.length.max()) < RATE
        assert not batch.waveform[:, RATE:].any()


def test_padding_shorter_than_an_utterance(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", crop_seconds=None, pad_seconds=0.11)
    with pytest.raises(PseganError, match=r"03-01-\d\d.*lasts 0.1\d s, more than pad_seconds \(0.11\)"):
        list(module.test_dataloader())


def test_batch_sizes_at_the_edge(ravdess):
    kwargs = {"root": str(ravdess), "split": "speaker-disjoint"}
    n = 16 * 8
    assert [len(b) for b in RAVDESSDataModule(batch_size=1000, **kwargs).train_dataloader()] == [n]
    assert [len(b) for b in RAVDESSDataModule(batch_size=n, **kwargs).train_dataloader()] == [n]
    assert [len(b) for b in RAVDESSDataModule(batch_size=n - 1, **kwargs).train_dataloader()] == [n - 1]


def test_memory_holds_waveforms_once(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint")
    utterance = module.utterances()[0]
    first = module.dataset([utterance])[0][0]
    utterance.path.unlink()
    assert torch.equal(module.dataset([utterance])[0][0], first)
    forgetful = SpeechDataset([utterance])
    with pytest.raises(PseganError, match="no such file"):
        forgetful[0]


def test_roots_that_users_name(tmp_path, ravdess, monkeypatch):
    parent = tmp_path / "parent"
    (parent / "Audio_Speech_Actors_01-24").mkdir(parents=True)
    for actor in sorted(ravdess.glob("Actor_*")):
        actor.rename(parent / "Audio_Speech_Actors_01-24" / actor.name)
    assert RAVDESSDataModule(root=str(parent)).utterances()[0].id == "Actor_01/03-01-01-01-01-01-01"
    write(tmp_path / "emo" / "wav" / "03a01Fa.wav", tone(0.1))
    for root in (tmp_path / "emo", tmp_path / "emo" / "wav"):
        assert [u.id for u in EmoDBDataModule(root=str(root)).utterances()] == ["wav/03a01Fa"]
    monkeypatch.chdir(tmp_path / "emo" / "wav")
    assert [u.id for u in EmoDBDataModule(root=".").utterances()] == ["wav/03a01Fa"]


def test_missing_folder(tmp_path):
    root = tmp_path / "nowhere"
    command = re.escape(f"psegan data download ravdess --root {root}")
    with pytest.raises(PseganError, match=f"no such folder; download .*zenodo.*{command}"):
        RAVDESSDataModule(root=str(root)).setup("fit")
    with pytest.raises(PseganError, match="no such folder; download .*bilderbar.* data download emodb"):
        EmoDBDataModule(root=str(root)).setup("fit")


def test_folders_that_are_not_the_corpus(tmp_path):
    write(tmp_path / "e" / "wav" / "03a01Fa.wav", tone(0.1))
    write(tmp_path / "flat" / "03-01-01-01-01-01-01.wav", tone(0.1))
    write(tmp_path / "crema" / "1001_DFA_ANG_XX.wav", tone(0.1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("e", "flat", "crema", "empty", "file"):
        message = f"{name}: holds no recordings of RAVDESS .Actor_01 to Actor_24 .*name another folder or download"
        with pytest.raises(PseganError, match=message):
            RAVDESSDataModule(root=str(tmp_path / name)).setup("fit")
    with pytest.raises(PseganError, match="holds no recordings of Emo-DB .wav/ with"):
        EmoDBDataModule(root=str(tmp_path / "flat")).setup("fit")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("Actor_01/noise.wav", "noise.wav: not a RAVDESS name .*modality-channel"),
        ("Actor_01/03-02-01-01-01-01-01.wav", "not a RAVDESS name .*, or song"),
        ("Actor_01/01-01-01-01-01-01-01.wav", "not a RAVDESS name .*, or song .* or of a video"),
        ("Actor_01/03-01-09-01-01-01-01.wav", "not a RAVDESS name"),
        ("Actor_01/03-01-01-02-01-01-01.wav", "not a RAVDESS name"),
        ("Actor_01/03-01-01-01-01-01-25.wav", "not a RAVDESS name"),
        ("Actor_01/03-01-01-01-01-01-02.wav", "is of actor 02, but lies in Actor_01"),
        ("Actor_01/03-01-01-01-01-01-01.flac", "is there twice"),
    ],
)
def test_ravdess_files_that_do_not_belong(tmp_path, file, message):
    write(tmp_path / "Actor_01/03-01-01-01-01-01-01.wav", tone(0.1))
    write(tmp_path / file, tone(0.1))
    (tmp_path / "Actor_01/._03-01-01-01-01-01-01.wav").touch()  # litter of an operating system is passed over
    (tmp_path / "Actor_01/notes.txt").touch()
    with pytest.raises(PseganError, match=message) as caught:
        RAVDESSDataModule(root=str(tmp_path)).utterances()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["xx", "04a01Fa", "03a03Fa", "03a01Qa"])
def test_emodb_files_that_do_not_belong(tmp_path, name):
    write(tmp_path / "wav/03a01Nc.wav", tone(0.1))
    write(tmp_path / f"wav/{name}.wav", tone(0.1))
    with pytest.raises(PseganError, match=f"{name}.wav: not an Emo-DB name .*03a01Fa"):
        EmoDBDataModule(root=str(tmp_path)).utterances()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "random"}, "split is 'random'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"crop_seconds": 0.0}, "crop_seconds is 0"),
        ({"crop_seconds": None, "pad_seconds": -1.0}, "pad_seconds is -1"),
        ({"pad_seconds": 16.7}, "set crop_seconds to null"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(PseganError, match=message):
        RAVDESSDataModule(root="nowhere", **kwargs)


def test_published_48k_files(corpora_root):
    if not (corpora_root / "ravdess_48k").is_dir():
        pytest.skip("no published RAVDESS files")
    published = RAVDESSDataModule(root=str(corpora_root / "ravdess_48k"))
    copies = {u.id: u for u in RAVDESSDataModule(root=str(corpora_root / "ravdess")).utterances()}
    for utterance in published.utterances():
        waveform = published.dataset([utterance])[0][0]
        copy = published.dataset([])
        reference = copy.load(copies[utterance.id])
        assert abs(len(waveform) - len(reference)) <= 1
        n = min(len(waveform), len(reference))
        assert float((waveform[:n] - reference[:n]).norm() / reference.norm()) < 0.02


@pytest.mark.parametrize(("name", "module"), [("ravdess", RAVDESSDataModule), ("emodb", EmoDBDataModule)])
def test_real_corpora(corpora_root, name, module):
    data = module(root=str(corpora_root / name))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.waveform.shape == (16, int(batch.length.max())) and int(batch.length.max()) <= 3 * RATE
    assert 0 < float(batch.waveform.abs().max()) <= 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_file_is_one_line_from_workers_too(ravdess, num_workers):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", num_workers=num_workers)
    path = module.split_utterances("test")[3].path
    whole = write(path.with_suffix(".wav"), tone(0.1)).read_bytes()
    for content, message in ((b"no audio", "cannot be read as audio"), (whole[:-1_600], "is cut short .800 of 1600")):
        path.write_bytes(content)
        with pytest.raises(PseganError, match=message) as caught:
            list(module.test_dataloader())
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    path.with_suffix(".wav").unlink()
    module = RAVDESSDataModule(
        root=str(ravdess), split="speaker-disjoint", num_workers=num_workers, crop_seconds=None, pad_seconds=0.05
    )
    with pytest.raises(PseganError, match="more than pad_seconds") as caught:
        list(module.val_dataloader())
    assert "\n" not in str(caught.value)


def test_trainer_predicts_every_test_utterance_in_order(ravdess):
    module = RAVDESSDataModule(root=str(ravdess), split="speaker-disjoint", num_workers=1)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    ids = trainer.predict(Names(), datamodule=module)
    assert [id for batch in ids for id in batch] == [u.id for u in module.split_utterances("test")]


class Names(LightningModule):
    """Predicts the names of a batch."""

    def predict_step(self, batch, index):
        return batch.to("cpu").id
