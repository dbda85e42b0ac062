"""The page that shows how psegan sounds holds audio, and holds what it says of it."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import soundfile

PAGE = Path("docs/listen.html")


def test_the_page_is_self_contained_and_audible(from_repository):
    page = PAGE.read_text()
    assert len(page) < 1_500_000
    assert not re.search(r'src="(?!data:)', page)
    clips = [
        soundfile.read(io.BytesIO(base64.b64decode(found))) for found in re.findall(r"audio/flac;base64,([^\"]+)", page)
    ]
    assert len(clips) == 9
    assert {rate for _, rate in clips} == {16000}
    assert all(0.1 < np.abs(samples).max() <= 1 and len(samples) > 16000 for samples, _ in clips)
