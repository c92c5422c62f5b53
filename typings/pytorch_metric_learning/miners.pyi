from pytorch_metric_learning.distances import CosineSimilarity
from torch import nn

class TripletMarginMiner(nn.Module):
    def __init__(self, margin: float, type_of_triplets: str, *, distance: CosineSimilarity) -> None: ...

class MultiSimilarityMiner(nn.Module):
    def __init__(self, *, epsilon: float) -> None: ...
