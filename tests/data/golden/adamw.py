"""Writes adamw.safetensors: ten steps of PyTorch's AdamW. Needs torch and safetensors; run it in this folder."""

import torch
from safetensors.torch import save_file

torch.manual_seed(2)
start, gradients = torch.randn(30), torch.randn(10, 30) * 10 ** torch.linspace(-4, 1, 30)
tensors = {"start": start, "gradients": gradients}
for name, weight_decay in [("decay", 0.05), ("plain", 0.0)]:
    values = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([values], lr=0.01, betas=(0.9, 0.98), eps=1e-8, weight_decay=weight_decay)
    steps = []
    for gradient in gradients:
        values.grad = gradient.clone()
        optimizer.step()
        steps.append(values.detach().clone())
    tensors[name] = torch.stack(steps)
save_file(tensors, "adamw.safetensors", {"torch": torch.__version__})
