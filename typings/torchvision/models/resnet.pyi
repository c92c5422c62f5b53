from torch import Tensor, nn

class BasicBlock(nn.Module):
    bn2: nn.BatchNorm2d

class Bottleneck(nn.Module):
    bn3: nn.BatchNorm2d

class ResNet(nn.Module):
    conv1: nn.Conv2d
    maxpool: nn.MaxPool2d
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential
    fc: nn.Linear
    def __call__(self, x: Tensor) -> Tensor: ...
