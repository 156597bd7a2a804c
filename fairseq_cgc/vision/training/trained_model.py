"""A model to evaluate, with its classes and crops, and images that fit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fairseq_cgc.core import UserError
from fairseq_cgc.vision.data.dataset import Dataset
from fairseq_cgc.vision.data.sources import (
    accepted_outputs,
    open_data,
    open_objectnet,
    read_mapping,
)
from fairseq_cgc.vision.data.transforms import Crops
from fairseq_cgc.vision.registry import create_model
from fairseq_cgc.vision.training.checkpoints import Checkpoint, load_checkpoint
from fairseq_cgc.vision.weights import load_weights, read_weights


@dataclass(frozen=True)
class TrainedModel:
    """A model to evaluate, on the CPU, and how its images are cut."""

    model: nn.Module
    name: str
    outputs: int
    channels: int
    classes: tuple[str, ...] | None
    """Their names, where they are known."""
    crops: Crops

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TrainedModel:
        """The model of a checkpoint; raises :class:`UserError` if weights and settings disagree."""
        settings, classes = checkpoint.settings, checkpoint.classes
        model = checkpoint.create_model()
        return cls(
            model, settings.model, len(classes), checkpoint.channels, classes, settings.crops
        )

    def check_data(self, dataset: Dataset, source: str, *, mapped: bool = False) -> None:
        """Check that the data set of ``--data source`` fits the model.

        With ``mapped``, labels stand for sets of outputs, and the classes may differ.

        Raises:
            UserError: naming the difference in classes or channels.
        """
        if not mapped and len(dataset.classes) != self.outputs:
            raise UserError(
                f"--data {source} has {len(dataset.classes)} classes, but the model has "
                f"{self.outputs} outputs"
            )
        if not mapped and self.classes is not None:
            for ours, theirs in zip(dataset.classes, self.classes, strict=True):
                if ours != theirs:
                    raise UserError(
                        f"--data {source} has class {ours!r} where the model was trained on "
                        f"{theirs!r}"
                    )
        if dataset.channels != self.channels:
            raise UserError(
                f"--data {source} has {dataset.noun} of {dataset.channels} channels, but the model "
                f"takes {self.channels}"
            )


def load_trained(path: Path) -> TrainedModel:
    """A model of ``fairseq-cgc train-image``; errors are those of :func:`load_checkpoint`."""
    return TrainedModel.of(load_checkpoint(path))


def load_weights_of(name: str, path: Path, crops: Crops) -> TrainedModel:
    """The model ``name`` with a state dict, which has its numbers of classes and channels.

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
    # A training may begin without some of them, an evaluation would measure random numbers.
    missing = [key for key in model.state_dict() if key not in state and "batches" not in key]
    if missing:
        raise UserError(
            f"--weights {path} lacks {missing[0]} and {len(missing) - 1} more of {name}"
        )
    load_weights(model, path)
    return TrainedModel(model, name, outputs, channels, None, crops)


def evaluation_images(
    trained: TrainedModel,
    source: str,
    *,
    split: str,
    objectnet: Path | None = None,
    skip_broken: bool = False,
) -> tuple[Dataset, Tensor | None]:
    """The images on which to evaluate a model.

    Args:
        trained: the model.
        source, skip_broken: as for :func:`open_data`; for ObjectNet, the folder of its images.
        split: ``train`` or ``val``.
        objectnet: the file of the mapping, for ObjectNet's protocol.

    Returns:
        The images, and for ObjectNet the right outputs of each label.

    Raises:
        UserError: if the images cannot be read, or are not of the model's classes.
    """
    accepted = None
    if objectnet is None:
        images = open_data(source, trained.crops, skip_broken=skip_broken).split(split)
    else:
        mapping = read_mapping(objectnet, trained.outputs)
        images = open_objectnet(Path(source), mapping, trained.crops, skip_broken=skip_broken)
        accepted = accepted_outputs(images.classes, mapping, trained.outputs)
    trained.check_data(images, source, mapped=objectnet is not None)
    return images, accepted
