"""An 18-layer residual video classifier (R3D-18, https://arxiv.org/abs/1711.11248), from the stem to the class scores.

Every convolution pads its depth with zeros on both sides, so a clip of one frame meets the centre tap alone.
"""

from torch import Tensor, nn

from flatconv.examples.seeding import seeded


class BasicBlock(nn.Module):
    """y = relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(channels_out)
        self.conv2 = nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm3d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C', D/stride, H/stride, W/stride), each rounded up."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        z: Tensor = self.relu(y)
        return z


class R3D18(nn.Module):
    """A stem, four stages of two blocks, and a linear classifier on the mean over D, H and W."""

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(4):
            wider = width * 2**stage
            blocks += [BasicBlock(channels, wider, stride=1 if stage == 0 else 2), BasicBlock(wider, wider, stride=1)]
            channels = wider
        self.stages = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, D, H, W) -> (N, num_classes), for any D, H and W."""
        features = self.pool(self.stages(self.stem(x))).flatten(1)
        scores: Tensor = self.classifier(features)
        return scores


def r3d18(num_classes: int = 101, width: int = 16, seed: int = 0) -> R3D18:
    """An R3D-18 video classifier with random weights, in eval mode.

    Shapes: (N, 3, D, H, W) -> (N, num_classes), for any D, H and W

    Args:
        num_classes: the number of scores.
        width: channels after the stem; 64 in the paper (33 million parameters), less here to be quick.
        seed: of the random weights.
    """
    with seeded(seed):
        model = R3D18(num_classes, width)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm3d):
                # A fresh batch norm is the identity, which would hide a mistake with its statistics or its shift.
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.1)
                assert isinstance(module.running_mean, Tensor)
                assert isinstance(module.running_var, Tensor)
                nn.init.normal_(module.running_mean, 0.0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()
