"""What is evaluated: a model with its classes and crops, and images that fit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Images, Samples
from fairseq_cgc.vision.data.objectnet import accepted_outputs, open_objectnet, read_mapping
from fairseq_cgc.vision.data.sources import crops_of, open_data
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.registry import create_model
from fairseq_cgc.vision.training.checkpoints import load_checkpoint
from fairseq_cgc.vision.weights import load_weights, read_weights


@dataclass(frozen=True)
class Subject:
    """A model to evaluate.

    Attributes:
        model: on the CPU.
        name: of the architecture.
        outputs: how many.
        channels: of the images.
        classes: their names, where they are known.
        crops: how its test images are cut.
    """

    model: nn.Module
    name: str
    outputs: int
    channels: int
    classes: tuple[str, ...] | None
    crops: Crops


def load_trained(path: Path) -> Subject:
    """What ``fairseq-cgc train-image`` has trained.

    Raises:
        UserError: if the file cannot be read or is no such checkpoint.
    """
    checkpoint = load_checkpoint(path)
    return Subject(
        checkpoint.create_model(),
        checkpoint.settings.model,
        len(checkpoint.classes),
        checkpoint.channels,
        checkpoint.classes,
        crops_of(checkpoint.settings),
    )


def load_weights_of(name: str, path: Path, crops: Crops) -> Subject:
    """A model with a state dict; the numbers of classes and channels are those of the file.

    Args:
        name: of the model.
        path: as for :func:`read_weights`.
        crops: how its test images are cut.

    Raises:
        UserError: if the file cannot be read, does not fit the model, or lacks parts of it.
    """
    if crops.image_size < 1 or crops.resize < crops.image_size:
        raise UserError(
            f"--resize is {crops.resize} and --image-size {crops.image_size}, but neither may be "
            "less than 1, nor the first less than the second"
        )
    state = read_weights(path)
    try:
        outputs, channels = len(state["fc.weight"]), state["conv1.weight"].shape[1]
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"--weights {path} has no fc.weight and conv1.weight, which every model here has"
        ) from None
    model = create_model(name, outputs, in_channels=channels)
    # Training may begin without them, an evaluation would measure random numbers.
    missing = [key for key in model.state_dict() if key not in state and "batches" not in key]
    if missing:
        raise UserError(
            f"--weights {path} lacks {missing[0]} and {len(missing) - 1} more of {name}"
        )
    load_weights(model, path)
    return Subject(model, name, outputs, channels, None, crops)


def test_images(
    subject: Subject,
    source: str,
    *,
    split: str,
    objectnet: Path | None,
    skip_broken: bool = False,
) -> tuple[Images, Tensor | None]:
    """The images to evaluate a model on.

    Args:
        subject: the model.
        source: as for :func:`open_data`, or the folder of ObjectNet's images.
        split: ``train`` or ``val``.
        objectnet: the file of the mapping, for ObjectNet's protocol.
        skip_broken: as for :class:`Samples`.

    Returns:
        The images, and which outputs are right for a label if that is not the label itself.

    Raises:
        UserError: if the images cannot be read, or are not of the model's classes.
    """
    if objectnet is not None:
        mapping = read_mapping(objectnet, subject.outputs)
        images: Images = open_objectnet(
            Path(source), mapping, subject.crops, skip_broken=skip_broken
        )
        accepted = accepted_outputs(images.classes, mapping, subject.outputs)
        check_channels(images, source, subject.channels)
        return images, accepted
    images = open_data(source, subject.crops, skip_broken=skip_broken).split(split)
    check_classes(images, source, outputs=subject.outputs, classes=subject.classes)
    check_channels(images, source, subject.channels)
    return images, None


test_images.__test__ = False  # type: ignore[attr-defined]  # for pytest, which goes by the name


def check_classes(
    samples: Samples, source: str, *, outputs: int, classes: tuple[str, ...] | None
) -> None:
    """Check that a data set has a model's classes.

    Args:
        samples: the data set.
        source: what ``--data`` says.
        outputs: of the model.
        classes: their names, where they are known.

    Raises:
        UserError: naming the difference.
    """
    if len(samples.classes) != outputs:
        raise UserError(
            f"--data {source} has {len(samples.classes)} classes, but the model has "
            f"{outputs} outputs"
        )
    if classes is not None and samples.classes != classes:
        pairs = zip(samples.classes, classes, strict=True)
        ours, theirs = next(pair for pair in pairs if pair[0] != pair[1])
        raise UserError(
            f"--data {source} has class {ours!r} where the model was trained on {theirs!r}"
        )


def check_channels(samples: Samples, source: str, channels: int) -> None:
    """Check that a data set has images of as many channels as a model takes.

    Raises:
        UserError: if it has not.
    """
    if samples.channels != channels:
        raise UserError(
            f"--data {source} has {samples.noun} of {samples.channels} channels, but the model "
            f"takes {channels}"
        )
