#!/usr/bin/env python3
"""Times the same training step as tools/step_bench in PyTorch, the yardstick of tools/compare_step.py.

The networks are written down here from the paper (arXiv 1609.04802, figure 4); a step runs from
zero_grad to the end of Adam's step. Debian's package python3-torch is enough.
"""

import argparse
import json
import resource
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    print("pytorch_baseline.py: this Python has no torch; install python3-torch and use "
          "/usr/bin/python3", file=sys.stderr)
    sys.exit(2)

LEARNING_RATE = 1e-4
ADVERSARIAL_WEIGHT = 1e-3


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


class Discriminator(nn.Module):
    def __init__(self, crop):
        super().__init__()
        layers = []
        channels_in = 3
        for channels in (64, 128, 256, 512):
            for stride in (1, 2):
                first = channels_in == 3
                layers.append(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=first))
                if not first:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.LeakyReLU(0.2))
                channels_in = channels
        self.features = nn.Sequential(*layers)
        side = -(-crop // 16)
        self.fc1 = nn.Linear(512 * side * side, 1024)
        self.fc2 = nn.Linear(1024, 1)

    def forward(self, x):
        features = self.features(x).flatten(1)
        return self.fc2(functional.leaky_relu(self.fc1(features), 0.2))


def labelled(logits, label):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


class Workload:
    def __init__(self, args):
        layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
        torch.manual_seed(1)
        small = args.crop // args.scale
        self.lr = torch.rand(args.batch, 3, small, small).contiguous(memory_format=layout)
        self.hr = (torch.rand(args.batch, 3, args.crop, args.crop) * 2 - 1).contiguous(
            memory_format=layout)
        self.generator = Generator(args.blocks, args.channels, args.scale).to(memory_format=layout)
        self.adam = torch.optim.Adam(self.generator.parameters(), LEARNING_RATE)
        self.discriminator = None
        if args.mode == "srgan":
            self.discriminator = Discriminator(args.crop).to(memory_format=layout)
            self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), LEARNING_RATE)

    def step(self):
        """One step; returns phase times in ms and the loss."""
        times = {}
        last = time.perf_counter()

        def cut(phase):
            nonlocal last
            now = time.perf_counter()
            times[phase] = (now - last) * 1e3
            last = now

        self.adam.zero_grad(set_to_none=True)
        sr = self.generator(self.lr)
        cut("generator_forward")
        if self.discriminator:
            self.train_discriminator(sr, cut)
        loss = functional.mse_loss(sr, self.hr)
        cut("pixel_loss")
        if self.discriminator:
            self.discriminator.requires_grad_(False)
            loss = loss + ADVERSARIAL_WEIGHT * labelled(self.discriminator(sr), 1.0)
            cut("adversarial_loss")
        loss.backward()
        cut("generator_backward")
        self.adam.step()
        cut("generator_optimiser")
        return times, loss.item()

    def train_discriminator(self, sr, cut):
        self.discriminator.requires_grad_(True)
        self.discriminator_adam.zero_grad(set_to_none=True)
        loss = (labelled(self.discriminator(self.hr), 1.0)
                + labelled(self.discriminator(sr.detach()), 0.0))
        loss.backward()
        cut("discriminator_gradients")
        self.discriminator_adam.step()
        cut("discriminator_optimiser")


def quantile(values, q):
    """Linear between neighbours, as in tools/statistics.cpp."""
    values = sorted(values)
    position = q * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (position - below)


def spread(values):
    return {"median_ms": round(quantile(values, 0.5), 4), "min_ms": round(min(values), 4),
            "p5_ms": round(quantile(values, 0.05), 4), "p95_ms": round(quantile(values, 0.95), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layout", choices=["contiguous", "channels_last"], default="contiguous")
    parser.add_argument("--mode", choices=["srresnet", "srgan"], default="srresnet")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--scale", type=int, choices=[2, 4], default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    if min(args.batch, args.blocks, args.channels, args.threads, args.steps) < 1 or args.warmup < 0:
        parser.error("sizes, threads and steps must be at least 1")
    if args.crop % args.scale:
        parser.error(f"--crop {args.crop} is no multiple of --scale {args.scale}")

    torch.set_num_threads(args.threads)
    workload = Workload(args)
    steps, phases, loss = [], {}, float("nan")
    for number in range(args.warmup + args.steps):
        times, loss = workload.step()
        if number >= args.warmup:
            steps.append(sum(times.values()))
            for phase, ms in times.items():
                phases.setdefault(phase, []).append(ms)
    if not abs(loss) < float("inf"):
        sys.exit(f"pytorch_baseline.py: the loss became {loss}; the timing is void")

    result = {"tool": "pytorch_baseline", "torch": torch.__version__, "layout": args.layout,
              "mode": args.mode, "precision": "fp32", "threads": args.threads, "batch": args.batch,
              "blocks": args.blocks, "channels": args.channels, "crop": args.crop,
              "scale": args.scale, "warmup": args.warmup, "steps": args.steps,
              "generator_parameters": sum(p.numel() for p in workload.generator.parameters())}
    result.update(spread(steps))
    result["images_per_second"] = args.batch * 1e3 / result["median_ms"]
    result["phases"] = {phase: spread(values) for phase, values in phases.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["memory"] = {"process_peak_bytes": peak}
    result["last_loss"] = loss
    result["step_ms"] = [round(ms, 4) for ms in steps]
    print(f"torch {torch.__version__} {args.layout}, {args.mode}: median {result['median_ms']:.3f} ms, "
          f"min {result['min_ms']:.3f} ms, {result['images_per_second']:.2f} images/s")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
