import numpy as np
from numpy.typing import NDArray

def auc(x: NDArray[np.float64], y: NDArray[np.float64]) -> float: ...
def average_precision_score(y_true: NDArray[np.bool_], y_score: NDArray[np.float32]) -> float: ...
def confusion_matrix(
    y_true: NDArray[np.int64], y_pred: NDArray[np.int64], *, labels: NDArray[np.int64]
) -> NDArray[np.int64]: ...
def precision_recall_fscore_support(
    y_true: NDArray[np.int64],
    y_pred: NDArray[np.int64],
    *,
    labels: NDArray[np.int64],
    average: str,
    zero_division: float,
) -> tuple[float, float, float, None]: ...
def roc_auc_score(y_true: NDArray[np.bool_], y_score: NDArray[np.float32]) -> float: ...
def roc_curve(
    y_true: NDArray[np.bool_], y_score: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
