"""The data sets that `on` knows by name: the shape of an image and the number of classes."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images of one shape, channels first, each of one class."""

    name: str
    shape: Shape
    classes: int


DATA_SETS: dict[str, DataSet] = {
    d.name: d
    for d in (
        DataSet("cifar10", Shape((3, 32, 32)), 10),
        DataSet("cifar100", Shape((3, 32, 32)), 100),
        DataSet("svhn", Shape((3, 32, 32)), 10),
        DataSet("imagenet", Shape((3, 224, 224)), 1000),
        DataSet("mnist", Shape((1, 28, 28)), 10),
        DataSet("digits", Shape((1, 8, 8)), 10),
        DataSet("fake", Shape((3, 32, 32)), 10),
    )
}
