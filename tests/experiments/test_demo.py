"""The demo's own classifiers learn each attribute of the synthetic corpus."""

import pytest

from psegan import training
from psegan.pipeline import Reproduction, _settings


@pytest.mark.parametrize("attribute", ["emotion", "speaker", "gender", "content"])
def test_the_synthetic_corpus_is_learnable(attribute, from_repository, tmp_path):
    demo = Reproduction.read("experiments/reproduce/demo.yaml")
    (stage,) = [stage for stage in demo.stages if stage.name == demo.classifiers[attribute]]
    configs = [f"--config={config}" for config in (*stage.config, demo.corpus)]
    options = [f"--{key}={value}" for key, value in _settings(demo, stage, None, None).items()]
    run = [*configs, *options, f"--run.dir={tmp_path}", "--run.loggers=[]", "--trainer.enable_progress_bar=false"]
    training.main(["fit", *run])
    judged = training.main(["test", *run, "--ckpt_path=last"])
    assert judged.trainer.callback_metrics["test/accuracy"] >= 0.9
