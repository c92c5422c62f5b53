"""Keeping what a teacher knows: pictures that it holds for alike stay alike."""

import torch
from torch import Tensor


def distil_scores(student: Tensor, teacher: Tensor) -> Tensor:
    """How far the scores between the pictures of a batch are from the teacher's, up to a shift and a stretch of these.

    Both are unit rows [count, dimension], of dimensions that may differ, count at least 3. A teacher's scores may all
    lie between 0.3 and 0.9, and their order and proportions are what it knows; so they are brought to the student's
    own mean and spread first. 0 where the two agree, 1 where they have nothing in common.
    """
    pairs = torch.triu_indices(len(student), len(student), offset=1, device=student.device)
    asked, told = ((rows.float() @ rows.float().T)[pairs[0], pairs[1]] for rows in (student, teacher))
    return 1 - torch.corrcoef(torch.stack([asked, told.detach()]))[0, 1]
