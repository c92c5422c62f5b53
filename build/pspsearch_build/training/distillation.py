"""Distillation keeps what a teacher knows: pictures that it finds similar stay similar."""

import torch
from torch import Tensor


def distil_scores(student: Tensor, teacher: Tensor) -> Tensor:
    """How far the scores between a batch's pictures are from the teacher's, which may be shifted and stretched.

    Both are unit rows [count, dimension] with a count of at least 3; their dimensions may differ. A teacher's scores
    may all lie between 0.3 and 0.9, and only their order and proportions are what it knows, so they are first brought
    to the student's mean and spread. 0 means that the two agree, 1 that they have nothing in common.
    """
    pairs = torch.triu_indices(len(student), len(student), offset=1, device=student.device)
    asked, told = ((rows.float() @ rows.float().T)[pairs[0], pairs[1]] for rows in (student, teacher))
    return 1 - torch.corrcoef(torch.stack([asked, told.detach()]))[0, 1]
