"""The contracting path of the 2015 U-Net, an encoder that is trained from scratch."""

from torch import Tensor, nn


class ContractingPath(nn.Module):
    """Pairs of 3x3 convolutions with ReLU between 2x2 max poolings: 64, 128, ... channels.

    Args:
        in_channels: of the images.
        depth: poolings.
        dropout: probability, at the end of the last two levels; the finer of the two features is
            handed out before it.
    """

    NAME = "unet"
    """What params.yaml calls it."""

    def __init__(self, in_channels: int, depth: int, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [64 * 2**level for level in range(depth + 1)]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(before, width, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            )
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of strides 1, 2, 4, ... of images (N, C, H, W)."""
        features: list[Tensor] = []
        x = image
        for at, level in enumerate(self.levels):
            x = level(x if at == 0 else self.pool(x))
            features.append(x)
            if at >= len(self.levels) - 2:
                x = self.dropout(x)
        features[-1] = x
        return features
