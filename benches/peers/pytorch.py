#!/usr/bin/env python3
"""The training step of benches/training.rs in PyTorch: same network, batch and optimiser, with CTC.

    python3 benches/peers/pytorch.py [STEPS] [THREADS] [--batch-norm] [--channels-last]

Prints CPU and wall time of each step. The reference network of models/architectures/reference.toml is spelled out here.
"""

import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
steps, threads = (numbers + [5, 1][len(numbers) :])[:2]
batch_norm, channels_last = "--batch-norm" in sys.argv, "--channels-last" in sys.argv
UTTERANCES, FRAMES, BINS, CLASSES, SYMBOLS = 8, 600, 80, 32, 60
torch.set_num_threads(threads)
torch.manual_seed(1)


class Reference(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 1
        for filters, pool in [(32, None), (32, 2), (64, None), (64, 2), (128, None), (128, (1, 2)), (128, None), (128, (1, 2))]:
            layers.append(nn.Conv2d(channels, filters, 3, padding=1))
            layers += [nn.BatchNorm2d(filters)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            layers += [nn.MaxPool2d(pool)] if pool else []
            channels = filters
        self.image = nn.Sequential(*layers)
        self.t = nn.Conv1d(5 * channels, 256, 9, padding=4)
        self.norm = nn.BatchNorm1d(256) if batch_norm else nn.Identity()
        self.out = nn.Conv1d(256, CLASSES, 1)

    def forward(self, x):
        x = self.image(x)
        x = x.permute(0, 1, 3, 2).reshape(x.shape[0], -1, x.shape[2])
        return self.out(F.relu(self.norm(self.t(x)))).log_softmax(1)


network = Reference()
x = torch.randn(UTTERANCES, 1, FRAMES, BINS)
if channels_last:
    network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
labels = torch.randint(1, CLASSES, (UTTERANCES, SYMBOLS))
name = f"PyTorch {torch.__version__}{' channels-last' if channels_last else ''} threads {threads}"
for step in range(steps):
    cpu, wall = time.process_time(), time.perf_counter()
    log_probs = network(x).permute(2, 0, 1)
    lengths = torch.full((UTTERANCES,), log_probs.shape[0]), torch.full((UTTERANCES,), SYMBOLS)
    loss = F.ctc_loss(log_probs, labels, *lengths)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{name}: CPU {cpu:.3f} s, wall {wall:.3f} s", flush=True)
print(f"{name}: peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
