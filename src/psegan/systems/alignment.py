"""Two recordings of the same words, aligned in time."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from psegan.common.errors import PseganError
from psegan.models.content import STRIDE, normalised_bands


def alignment(source: Tensor, target: Tensor) -> Tensor:
    """Where in the source each code of the target is said, by dynamic time warping, ``(N',)``.

    Args:
        source, target: what is said in recordings of the same words, ``(C, N')``.

    Raises:
        PseganError: librosa is missing.
    """
    try:
        import librosa
    except ImportError:
        raise PseganError(
            "aligning recordings of one sentence needs librosa; pip install 'psegan[judges]', or set data.init_args.parallel "
            "to 0"
        ) from None

    _, path = librosa.sequence.dtw(source.numpy(), target.numpy(), metric="euclidean")
    places = np.zeros(target.shape[1], dtype=np.int64)
    for i, j in path[::-1]:
        places[j] = i
    return torch.from_numpy(places)


def sounds(mel: Tensor, said: Tensor) -> Tensor:
    """What recordings are aligned by: spectrum and what the content matcher hears, either of length 1, ``(80 + C, N')``.

    Args:
        mel: scaled log-mel ``(80, N)``.
        said: the content matcher's features ``(C, N')``; what all frames have in common is no sound.
    """
    bands = normalised_bands(mel[None], torch.tensor([mel.shape[1]]))[0, :, ::STRIDE]
    return torch.cat([F.normalize(x, dim=0) for x in (bands, said - said.mean(1, keepdim=True))])
