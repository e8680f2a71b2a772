"""The data sets that `on` knows by name: the shape of an image, the number of classes, and of images to train with."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images of one shape, channels first, each of one class."""

    name: str
    shape: Shape
    classes: int
    images: int
    """To train with."""


DATA_SETS: dict[str, DataSet] = {
    d.name: d
    for d in (
        DataSet("cifar10", Shape((3, 32, 32)), 10, 50_000),
        DataSet("cifar100", Shape((3, 32, 32)), 100, 50_000),
        # Without the 531,131 easier images of its third part.
        DataSet("svhn", Shape((3, 32, 32)), 10, 73_257),
        DataSet("imagenet", Shape((3, 224, 224)), 1000, 1_281_167),
        DataSet("mnist", Shape((1, 28, 28)), 10, 60_000),
        # Four fifths of 1,797; every fifth is for testing.
        DataSet("digits", Shape((1, 8, 8)), 10, 1_437),
        DataSet("fake", Shape((3, 32, 32)), 10, 512),
    )
}
