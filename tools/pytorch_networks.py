"""The networks of the paper (arXiv 1609.04802, figure 4) in PyTorch, written down independently of Subpix, with the
tensor names of docs/weights.md. Used by pytorch_baseline.py."""

import json
import struct

import torch
from torch import nn
from torch.nn import functional

ADVERSARIAL_WEIGHT = 1e-3
VGG_SCALE = 1 / 12.75
VGG_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 512, 512, "pool", 512, 512, 512, 512)
TYPES = {"F32": torch.float32, "U8": torch.uint8, "I64": torch.int64}


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x):
        return self.prelu(functional.pixel_shuffle(self.conv(x), 2))


class Generator(nn.Module):
    def __init__(self, blocks, channels, scale):
        super().__init__()
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.head_prelu = nn.PReLU(channels)
        self.blocks = nn.Sequential(*[Block(channels) for _ in range(blocks)])
        self.trunk_conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.trunk_bn = nn.BatchNorm2d(channels)
        self.up = nn.Sequential(*[Up(channels) for _ in range({2: 1, 4: 2}[scale])])
        self.tail = nn.Conv2d(channels, 3, 9, padding=4)

    def forward(self, x):
        head = self.head_prelu(self.head(x))
        return self.tail(self.up(head + self.trunk_bn(self.trunk_conv(self.blocks(head)))))

    def fold(self):
        """For inference: batch norm folded into the convolution before it."""
        fuse = torch.nn.utils.fusion.fuse_conv_bn_eval
        self.eval()
        for block in self.blocks:
            block.conv1, block.bn1 = fuse(block.conv1, block.bn1), nn.Identity()
            block.conv2, block.bn2 = fuse(block.conv2, block.bn2), nn.Identity()
        self.trunk_conv, self.trunk_bn = fuse(self.trunk_conv, self.trunk_bn), nn.Identity()
        return self.requires_grad_(False)


class Layer(nn.Module):
    """One of the discriminator's convolutions."""

    def __init__(self, channels_in, channels, stride, norm):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=not norm)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, x):
        return functional.leaky_relu(self.bn(self.conv(x)), 0.2)


class Discriminator(nn.Module):
    def __init__(self, crop):
        super().__init__()
        layers, channels_in = [], 3
        for channels in (64, 128, 256, 512):
            for stride in (1, 2):
                layers.append(Layer(channels_in, channels, stride, norm=channels_in != 3))
                channels_in = channels
        self.blocks = nn.Sequential(*layers)
        side = -(-crop // 16)
        self.fc1 = nn.Linear(512 * side * side, 1024)
        self.fc2 = nn.Linear(1024, 1)

    def forward(self, x):
        return self.fc2(functional.leaky_relu(self.fc1(self.blocks(x).flatten(1)), 0.2))


def vgg_position(layer):
    """N of features.N.weight, and whether ReLU follows: "VGG54", "relu5_4" or "conv5_4"."""
    block, conv = int(layer[-2] if layer.startswith("VGG") else layer[-3]), int(layer[-1])
    convs = (2, 2, 4, 4, 4)
    return sum(2 * n + 1 for n in convs[:block - 1]) + 2 * (conv - 1), not layer.startswith("conv")


class Vgg(nn.Module):
    """VGG19 up to a layer, frozen; takes pictures in [-1, 1]."""

    def __init__(self, layer, tensors=None, metadata=None):
        super().__init__()
        last, relu = vgg_position(layer)
        features, channels_in = [], 3
        for width in VGG_PLAN:
            if len(features) > last:
                break
            if width == "pool":
                features.append(nn.MaxPool2d(2))
                continue
            name = f"features.{len(features)}.weight"
            if tensors is not None:
                width = tensors[name].shape[0]
            features += [nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU()]
            nn.init.kaiming_normal_(features[-2].weight)
            nn.init.zeros_(features[-2].bias)
            channels_in = width
        if not relu:
            features.pop()
        self.features = nn.Sequential(*features)
        metadata = metadata or {"channel_order": "RGB", "input_range": "0..1", "input_mean": "0.485,0.456,0.406",
                                "input_std": "0.229,0.224,0.225"}
        if tensors is not None:
            self.load_state_dict({k: v for k, v in tensors.items() if k in self.state_dict()})
        mean, std = ([float(v) for v in metadata[key].split(",")] for key in ("input_mean", "input_std"))
        white = {"0..1": 1.0, "0..255": 255.0}[metadata["input_range"]]
        scale = torch.tensor([white / 2 / s for s in std])
        shift = torch.tensor([(white / 2 - m) / s for m, s in zip(mean, std)])
        self.reverse = metadata["channel_order"] == "BGR"
        self.register_buffer("scale", scale.reshape(1, 3, 1, 1))
        self.register_buffer("shift", shift.reshape(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, x):
        return self.features((x.flip(1) if self.reverse else x) * self.scale + self.shift)


def labelled(logits, label):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def vgg_loss(vgg, sr, hr):
    with torch.no_grad():
        target = vgg(hr)
    return functional.mse_loss(VGG_SCALE * vgg(sr), VGG_SCALE * target)


def read_safetensors(path):
    """Tensors and metadata of a file."""
    with open(path, "rb") as file:
        raw = bytearray(file.read())
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        part = raw[8 + length + begin:8 + length + end]
        tensors[name] = torch.frombuffer(part, dtype=TYPES[info["dtype"]]).reshape(info["shape"])
    return tensors, metadata
