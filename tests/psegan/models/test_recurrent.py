"""The recurrent encoder."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from psegan.models.recurrent import RecurrentEncoder
from psegan.weights import PretrainedModel


def test_both_directions_read_as_a_packed_bidirectional_gru_does():
    """Each utterance from its own ends, at every layer."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(hidden=6, channels=2, n_layers=2).eval()
    packed = nn.GRU(6, 6, 2, batch_first=True, bidirectional=True)
    for layer, (onward, returning) in enumerate(zip(encoder.onward, encoder.returning, strict=True)):
        for part, suffix in ((onward, ""), (returning, "_reverse")):
            for name, value in part.named_parameters():
                getattr(packed, name.replace("_l0", f"_l{layer}{suffix}")).data.copy_(value)
    sequence, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 1])
    states = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(packed(states)[0], batch_first=True)
    found = encoder.both_ways(sequence, lengths)
    for row, end in enumerate(lengths):
        torch.testing.assert_close(found[row, :end], expected[row, :end])


def test_a_trained_one_can_be_exported():
    shipped = PretrainedModel.assemble({"encoder": RecurrentEncoder(hidden=6, dropout=0.1)}, {}).encoder
    assert (shipped.hidden, shipped.dropout) == (6, 0.1)
