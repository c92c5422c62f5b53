from torch import Tensor, nn

class InvertedResidual(nn.Module):
    conv: nn.Sequential
    use_res_connect: bool

class MobileNetV2(nn.Module):
    features: nn.Sequential
    def __call__(self, x: Tensor) -> Tensor: ...
