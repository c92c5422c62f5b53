"""Groups classes that look alike. Learning the groups beside the classes gives the space its coarse structure first."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from pspsearch_build.data.pictures import Picture, PictureSet
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.retrieval import Descriptors


def group_classes(pictures: PictureSet, descriptors: Descriptors, groups: int) -> PictureSet:
    """The same pictures, labelled with `groups` groups of their classes. Raises BuildError if too few classes exist.

    It groups classes by the mean descriptor of their pictures. Each group is named after all its classes, so that it is
    the same group wherever it occurs.
    """
    labels = pictures.labels
    if not 2 <= groups < len(labels):
        raise BuildError(f"{len(labels)} classes make from 2 to {len(labels) - 1} groups, not {groups}")
    places = AgglomerativeClustering(groups).fit_predict(_unit_means(descriptors, pictures.numbers))
    members = {
        group: [label for label, own in zip(labels, places, strict=True) if own == group] for group in set(places)
    }
    names = {label: "+".join(members[group]) for group in members for label in members[group]}
    return PictureSet(pictures.name, tuple(Picture(one.path, names[one.label]) for one in pictures.pictures))


def _unit_means(descriptors: Descriptors, numbers: NDArray[np.int64]) -> Descriptors:
    means = np.stack([descriptors[numbers == place].mean(axis=0) for place in range(numbers.max() + 1)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)
