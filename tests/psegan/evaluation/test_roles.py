"""A system's role in the tables is said by the evaluation file, never by the letters of its name."""

import pytest

from psegan.evaluation.specification import Evaluation

EVALUATION = {
    "name": "test",
    "out": "runs/test",
    "corpus": "corpus.yaml",
    "architectures": {"svm": {"estimator": "psegan.evaluation.functionals.FunctionalsSVM"}},
    "systems": {"psegan": "a.ckpt", "noise": {"class_path": "psegan.protection.controls.AdditiveNoise"}},
}


def roles(**more):
    return Evaluation.parse(
        {**EVALUATION, **more}, "evaluation.yaml", {"gengan": "b.ckpt", "psegan-bare": "c.ckpt"}
    ).roles


def test_what_learnt_from_no_speech_is_a_control():
    controls = {"original": "control", "copy-synthesis": "control", "noise": "control"}
    trained = {"psegan": "system", "gengan": "system", "psegan-bare": "system"}
    assert roles() == {**controls, **trained}


@pytest.mark.parametrize("more", [{}, {"of-another-evaluation": "gengan"}])
def test_ablations_are_those_that_the_file_names(more):
    found = roles(ablations={"psegan-bare": "psegan", **more})
    assert (
        found["psegan-bare"] == "ablation of psegan"
        and found["psegan"] == "system"
        and "of-another-evaluation" not in found
    )
