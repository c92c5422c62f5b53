"""How well descriptors name the class: by their neighbours, and by a softmax layer on top."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.neighbors import KNeighborsClassifier

from pspsearch_build.evaluation.retrieval import Descriptors, Labels

NEIGHBOURS = 5
SOFTMAX_SCALE = 16.0
"""The scale of unit descriptors; without it, the regularisation would hold every probability near the average."""


@dataclass(frozen=True, slots=True)
class Classification:
    """How the test rows were classified."""

    right: NDArray[np.float64]
    """1 for each row with the right class, else 0; its mean is the accuracy."""
    precision: float
    """A mean over the classes of the test rows, like recall and F1; a class that is never named counts as 0."""
    recall: float
    f1: float
    labels: Labels
    """Every class that occurs, in ascending order."""
    confusion: NDArray[np.int64]
    """How many rows of each true class (down) were given each class (across)."""


def classify_by_neighbours(
    train: Descriptors, train_labels: Labels, test: Descriptors, labels: Labels
) -> Classification:
    """Classifies by the vote of the NEIGHBOURS nearest train rows, or of all if fewer; nearer ones count more."""
    count = min(NEIGHBOURS, len(train))
    voters = KNeighborsClassifier(count, weights="distance", algorithm="brute", metric="cosine")
    return _judge(voters.fit(train, train_labels).predict(test), labels, train_labels)


def classify_by_softmax(train: Descriptors, train_labels: Labels, test: Descriptors, labels: Labels) -> Classification:
    """Classifies by a linear layer fitted to the train rows."""
    weight, bias = fit_softmax(train, train_labels)
    named = np.unique(train_labels)[np.argmax(test @ weight.T + bias, axis=1)]
    return _judge(named, labels, train_labels)


def fit_softmax(descriptors: Descriptors, labels: Labels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fits the layer; returns its weight [classes, dimension] and bias [classes]. At least two classes must occur."""
    layer = LogisticRegression(max_iter=1000).fit(SOFTMAX_SCALE * descriptors, labels)
    weight, bias = SOFTMAX_SCALE * layer.coef_, layer.intercept_
    if len(weight) == 1:  # scikit-learn fits only the second of two classes, relative to the first
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.array([0.0, *bias])
    return np.ascontiguousarray(weight, np.float32), bias.astype(np.float32)


def _judge(named: Labels, labels: Labels, train_labels: Labels) -> Classification:
    occurring = np.unique(labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, named, labels=occurring, average="macro", zero_division=0.0
    )
    every = np.union1d(labels, train_labels)
    right = (named == labels).astype(np.float64)
    confusion = confusion_matrix(labels, named, labels=every)
    return Classification(right, float(precision), float(recall), float(f1), every, confusion)
