from pytorch_metric_learning.distances import CosineSimilarity
from torch import nn

class ContrastiveLoss(nn.Module):
    def __init__(self, pos_margin: float, neg_margin: float, *, distance: CosineSimilarity) -> None: ...

class TripletMarginLoss(nn.Module):
    def __init__(self, margin: float, *, distance: CosineSimilarity) -> None: ...

class MultiSimilarityLoss(nn.Module):
    def __init__(self, *, alpha: float, beta: float, base: float) -> None: ...

class ProxyAnchorLoss(nn.Module):
    def __init__(self, num_classes: int, embedding_size: int, margin: float, alpha: float) -> None: ...

class ArcFaceLoss(nn.Module):
    def __init__(self, num_classes: int, embedding_size: int, margin: float, scale: float) -> None: ...

class NormalizedSoftmaxLoss(nn.Module):
    def __init__(self, num_classes: int, embedding_size: int, temperature: float) -> None: ...
