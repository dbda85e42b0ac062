"""What docs/paper.md says of the experiments is what their files say."""

from pathlib import Path

import pytest
import yaml

from psegan.models.conversion import ToAmbiguity
from psegan.models.gengan import GenGANGenerator
from psegan.speech.audio import HOP, SAMPLE_RATE


@pytest.fixture
def page(from_repository) -> str:
    return Path("docs/paper.md").read_text()


@pytest.mark.parametrize("corpus", ["ravdess", "emodb", "nemo"])
def test_the_weights_of_the_losses(corpus, page):
    own = yaml.safe_load(Path("experiments/psegan.yaml").read_text())["model"]["init_args"]
    changed = yaml.safe_load(Path(f"experiments/reproduce/{corpus}.yaml").read_text())["trainings"]["psegan"]["set"]
    terms = "distortion", "adversarial", "speaker", "content"
    weights = [changed.get(f"model.init_args.{term}_weight", own.get(f"{term}_weight")) for term in terms]
    assert "in the reproductions {:g}, {:g}, {:g} and {:g} (".format(*weights) in page


def test_gengans_noise(page):
    text = Path("experiments/gengan.yaml").read_text()
    generator = GenGANGenerator(**yaml.safe_load(text)["model"]["init_args"]["generator"]["init_args"])
    frame = HOP / SAMPLE_RATE
    noise, least = generator.noise_dim * generator.unet.stride * frame, ToAmbiguity(generator).least_frames * frame
    assert f"{generator.noise_dim} frames ({noise:.1f} s, which utterances of {least:.1f} s train)" in page
    assert f"{noise:.1f} s of noise, which utterances of {least:.1f} s train" in text
