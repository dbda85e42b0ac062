"""``psegan export``: from a checkpoint of a training to weights that ship, with a card."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psegan.common.errors import PseganError

if TYPE_CHECKING:
    from psegan.models.vocoder import Vocoder
    from psegan.protection.protector import Protector

DEFAULT_VOCODER = "vocos"
"""What a checkpoint speaks through, where nothing else is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``psegan export``."""
    parser.add_argument("checkpoint", help="that psegan fit wrote: of a protecting system, a vocoder or a classifier")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="new folder for the weights")
    parser.add_argument(
        "--vocoder",
        metavar="SPEC",
        help=f"of a protecting system: name, folder or checkpoint (default: {DEFAULT_VOCODER})",
    )
    parser.add_argument("--half", action="store_true", help="store 16-bit floats, at half the size")
    parser.add_argument("--card", metavar="FILE", help="text of the card (README.md)")


def main(args: argparse.Namespace) -> int:
    """Export one checkpoint; returns the exit status.

    Raises:
        PseganError: the checkpoint is missing or holds nothing that ships, or the folder exists.
    """
    from datamodules.base import CorpusDataModule
    from psegan.common.instantiate import find_class
    from psegan.evaluation.leakage import VOCODER, ancestry
    from psegan.weights import Shipped, read_checkpoint, weights_hash

    path = Path(args.checkpoint)
    card = None
    if args.card is not None:
        try:
            card = Path(args.card).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PseganError(f"{args.card}: cannot be read ({error}); give a text file, or leave --card out") from None
    system = read_checkpoint(path).get("psegan", {}).get("system")
    about: dict[str, Any] = {"system": system, "heard": [heard.plain() for heard in ancestry(str(path), "itself")]}
    shipped: Shipped
    if system == "VocoderGAN":
        from psegan.systems.vocoder import load_trained

        shipped = Shipped.assemble({"vocoder": load_trained(path)}, about)
    elif system == "Classifier":
        from psegan.systems.classifier import load_classifier

        about["attribute"] = read_checkpoint(path)["hyper_parameters"]["attribute"]
        shipped = Shipped.assemble({"encoder": load_classifier(path, about["attribute"]).encoder}, about)
    else:
        spec = args.vocoder or DEFAULT_VOCODER
        shipped = load_protector_of(str(path), spec)
        shipped.about.update(about)
        if not shipped.about["emotions"]:  # of a training before systems knew their names
            kind = find_class(CorpusDataModule, about["heard"][0]["data"]["class_path"], str(path), "datamodules")  # type: ignore[type-abstract]
            shipped.about["emotions"] = list(getattr(kind, "emotions", ()))
        shipped.about["heard"] += [heard.plain() for heard in ancestry(spec, VOCODER)]
    shipped.save_pretrained(args.out, card, args.half)
    written = Shipped.from_pretrained(args.out)
    print(f"{args.out}: {', '.join(name for name, _ in written.named_children())} of {system}, {weights_hash(written)}")
    return 0


def load_protector_of(checkpoint: str, vocoder: "Vocoder | str | None" = None) -> "Protector":
    """A :class:`psegan.Protector` of a training's checkpoint, or of shipped weights.

    Args:
        checkpoint: that ``psegan fit`` wrote; or name or folder of shipped weights.
        vocoder: another than the shipped one; Griffin-Lim for a checkpoint.

    Raises:
        PseganError: the weights are missing, damaged, or hold no protecting system.
    """
    from psegan.models.vocoder import GriffinLim
    from psegan.protection.protector import Protector
    from psegan.vocoders import load_vocoder

    if isinstance(vocoder, str):
        vocoder = load_vocoder(vocoder)
    if not checkpoint.endswith(".ckpt"):
        protector = Protector.from_pretrained(checkpoint)
        if vocoder is None:
            return protector
        return Protector.assemble({"conversion": protector.conversion, "vocoder": vocoder}, protector.about)
    from psegan.systems.adversarial import load_system  # Lightning takes seconds to import

    system = load_system(checkpoint)
    about = {"system": type(system).__name__, "emotions": list(system.emotions)}
    return Protector.assemble({"conversion": system.conversion, "vocoder": vocoder or GriffinLim()}, about)
