"""The demo's own attacker and classifiers learn each attribute of the synthetic corpus."""

import pytest

from psegan.evaluation.specification import Evaluation
from psegan.training import command as training


@pytest.mark.parametrize("attribute", ["emotion", "speaker", "gender", "content"])
def test_the_synthetic_corpus_is_learnable(attribute, from_repository, tmp_path):
    demo = Evaluation.read("experiments/evaluate/demo.yaml")
    how = demo.architectures["cnn"] if attribute == "emotion" else demo.classifiers[attribute]
    configs = [f"--config={config}" for config in (*how.config, demo.corpus)]
    data = {f"data.init_args.{key}": value for key, value in demo.data.items()}
    options = [f"--{key}={value}" for key, value in {**how.set, **data}.items()]
    options.append(f"--model.init_args.attribute={attribute}")
    run = [*configs, *options, f"--run.dir={tmp_path}", "--run.loggers=[]", "--trainer.enable_progress_bar=false"]
    training.main(["fit", *run])
    tested = training.main(["test", *run, "--ckpt_path=last"])
    assert tested.trainer.callback_metrics["test/accuracy"] >= 0.9
