"""Collects the predictions of a classifier batch by batch."""

import torch
from torch import Tensor

from psegan.metrics.predictions import ClassPredictions
from psegan.systems.classifier import Classifier


class PredictionCollector:
    """Predictions of one classifier, which is in evaluation mode, since the last :meth:`collected`."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def add(self, features: Tensor, lengths: Tensor, target: Tensor) -> None:
        """Classify a batch of what :meth:`Classifier.features` returns, whose true classes are ``target (B,)``."""
        with torch.autocast(features.device.type, enabled=False):  # scores must not depend on training's precision
            embedding = self.classifier.embed(features.float(), lengths)
            probability = self.classifier.classify(embedding).softmax(-1)
        self._batches.append((probability.cpu(), embedding.cpu(), target.cpu()))

    def collected(self) -> ClassPredictions:
        """Return the predictions and forget them; there are none on a process that got no utterance."""
        head = self.classifier.head
        empty = torch.empty(0, head.out_features), torch.empty(0, head.in_features), torch.empty(0, dtype=torch.int64)
        probability, embedding, target = (torch.cat(parts) for parts in zip(empty, *self._batches, strict=True))
        self._batches.clear()
        return ClassPredictions(probability.double().numpy(), embedding.double().numpy(), target.numpy())
