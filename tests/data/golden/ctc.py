"""Writes ctc.safetensors: CTC losses and gradients from PyTorch. Needs torch and safetensors; run it in this folder."""

import torch
from safetensors.torch import save_file

torch.manual_seed(1)
tensors = {}
# (steps, classes, labels, how peaked): long and flat; short and peaked; barely feasible, with repeats.
for name, steps, classes, count, scale in [("long", 300, 29, 90, 1), ("peaked", 120, 29, 20, 6), ("tight", 60, 12, 52, 2)]:
    labels = torch.randint(1, classes, (count,))
    if name == "tight":
        labels[10] = labels[9]
        labels[30] = labels[29]
    logits = (scale * torch.randn(steps, classes)).float().double().requires_grad_()
    log_probs = logits.log_softmax(-1)
    loss = torch.nn.functional.ctc_loss(log_probs[:, None], labels[None], [steps], [count], blank=0, reduction="sum")
    loss.backward()
    assert loss.isfinite()
    tensors[name + ".log_probs"] = log_probs.detach().float()
    tensors[name + ".labels"] = labels.int()
    tensors[name + ".loss"] = loss.detach().double().reshape(1)
    tensors[name + ".gradient"] = logits.grad.float()
save_file(tensors, "ctc.safetensors", {"torch": torch.__version__})
