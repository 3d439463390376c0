from typing import Dict, List, Optional

import torch
from torch import Tensor
from torch.nn import Parameter


class ModalityFusion(torch.nn.Module):
    r"""The sum of modalities with learned weights, a softmax over one logit
    per modality (Eq. 19 of `"DiffMM" <https://arxiv.org/abs/2406.11781>`_).
    Where an item lacks a modality, its weights are renormalized over those it
    has.

    Args:
        modalities ([str]): The names of the modalities.

    Shapes:
        - **input:** a dictionary of features :math:`(|\mathcal{I}|, F)`, and
          one of masks :math:`(|\mathcal{I}|)` *(optional)*
        - **output:** :math:`(|\mathcal{I}|, F)`
    """
    def __init__(self, modalities: List[str]):
        super().__init__()
        self.modalities = list(modalities)
        self.logits = Parameter(torch.empty(len(self.modalities)))
        self.reset_parameters()

    def reset_parameters(self):
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.constant_(self.logits, 1 / len(self.modalities))

    @property
    def weight(self) -> Tensor:
        r"""The weight of every modality; they sum up to 1."""
        return self.logits.softmax(dim=0)

    def forward(self, x_dict: Dict[str, Tensor],
                mask_dict: Optional[Dict[str, Tensor]] = None) -> Tensor:
        weights = list(self.weight)
        if mask_dict:
            for i, m in enumerate(self.modalities):
                has = mask_dict.get(m)
                ones = torch.ones_like(x_dict[m][:, :1])
                weights[i] = weights[i] * \
                    (ones if has is None else has.view(-1, 1))
            total = sum(weights).clamp(min=1e-12)
            weights = [w / total for w in weights]
        return sum(w * x_dict[m]
                   for w, m in zip(weights, self.modalities, strict=True))

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.modalities})'
