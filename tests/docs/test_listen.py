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
    peaks = [np.abs(samples).max() for samples, rate in clips if rate == 16000]
    for original, copy, protected in zip(peaks[::3], peaks[1::3], peaks[2::3], strict=True):
        assert copy > 0.1 and protected > 0.1
        assert protected < original < 1  # as its first paragraph says
