"""``psegan export``: from a checkpoint of a training to weights that ship, with a card."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.errors import PseganError

if TYPE_CHECKING:  # heavy, and not needed for --help
    from psegan.weights import PretrainedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``psegan export``."""
    parser.add_argument("checkpoint", help="that psegan fit wrote: of a protecting system, a vocoder or a classifier")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="new folder for the weights")
    parser.add_argument(
        "--vocoder", metavar="SPEC", help="of a protecting system: name, folder or .ckpt (default: vocos)"
    )
    parser.add_argument("--half", action="store_true", help="store 16-bit floats, at half the size")
    parser.add_argument("--card", metavar="FILE", help="text of the card (README.md)")


def main(args: argparse.Namespace) -> int:
    """Export one checkpoint; returns the exit status.

    Raises:
        PseganError: the checkpoint is missing or holds nothing that ships, or the folder exists.
    """
    from psegan.models.state import weights_hash
    from psegan.weights import PretrainedModel

    card = None
    if args.card is not None:
        try:
            card = Path(args.card).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            raise PseganError(
                f"{args.card}: cannot be read ({reason}); give a text file, or leave --card out"
            ) from None
    model = exported(args.checkpoint, args.vocoder)
    model.save_pretrained(args.out, card, args.half)
    written = PretrainedModel.from_pretrained(args.out)
    names = ", ".join(name for name, _ in written.named_children())
    print(f"{args.out}: {names} of {written.about['system']}, {weights_hash(written)}")
    return 0


def exported(checkpoint: str, vocoder: str | dict[str, Any] | None = None) -> "PretrainedModel":
    """What ships of a checkpoint's networks, with what they were trained on; a protecting system speaks through a vocoder.

    Args:
        checkpoint: that ``psegan fit`` wrote.
        vocoder: see :func:`psegan.weights.load_vocoder`.

    Raises:
        PseganError: the checkpoint is missing, holds nothing that ships, or nothing is known of what it was trained on.
    """
    from psegan.lineage import VOCODER, lineage
    from psegan.protection.protector import Protector
    from psegan.weights import DEFAULT_VOCODER, PretrainedModel, load_system

    system = load_system(checkpoint)
    parts, about = system.parts(), system.about()
    trained_on = lineage(checkpoint, "itself")
    if Protector.is_of(parts):
        vocoder = vocoder or DEFAULT_VOCODER
        model: PretrainedModel = Protector.load(checkpoint, vocoder)
        trained_on += lineage(vocoder, VOCODER) if isinstance(vocoder, str) else []  # a class has no weights
    else:
        model = PretrainedModel.assemble(parts, about)
    model.about["trained_on"] = [one.plain() for one in trained_on]
    return model
