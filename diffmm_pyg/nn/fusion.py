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

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.constant_(self.logits, 1 / len(self.modalities))

    @property
    def weight(self) -> Tensor:
        r"""The weight of every modality; they sum up to 1."""
        return self.logits.softmax(dim=0)

    def weights(
        self,
        mask_dict: Optional[Dict[str, Tensor]] = None,
    ) -> Dict[str, Tensor]:
        r"""Returns the weight of every modality: scalars, or, where items
        lack modalities, one weight per item, of shape
        :math:`(|\mathcal{I}|, 1)`, that is 0 where it lacks the modality.
        """
        weights = dict(zip(self.modalities, self.weight, strict=True))
        shares = self.shares(mask_dict)
        return {m: w * shares[m] if m in shares else w
                for m, w in weights.items()}

    def shares(
        self,
        mask_dict: Optional[Dict[str, Tensor]] = None,
    ) -> Dict[str, Tensor]:
        r"""Returns, where items lack modalities, the factors of shape
        :math:`(|\mathcal{I}|, 1)` by which their weights grow for those they
        have, and vanish for the others.
        """
        if not mask_dict:
            return {}
        weight = self.weight
        ones = torch.ones_like(next(iter(mask_dict.values())))
        masks = torch.stack([mask_dict.get(m, ones) for m in self.modalities],
                            dim=1).to(weight.dtype)
        # An item without any modality keeps zeros.
        total = (masks @ weight).clamp(min=1e-12).view(-1, 1)
        return dict(zip(self.modalities, (masks / total).split(1, dim=1),
                        strict=True))

    def node_weights(
        self,
        num_users: int,
        mask_dict: Optional[Dict[str, Tensor]] = None,
    ) -> Dict[str, Tensor]:
        r"""Returns the weight of every modality for all nodes, users first:
        scalars, or, where items lack modalities, one weight per node, of
        shape :math:`(|\mathcal{U}| + |\mathcal{I}|, 1)`.
        """
        weights = self.weights()
        if not mask_dict:
            return weights
        num_items = next(iter(mask_dict.values())).size(0)
        return {
            m: torch.cat([weights[m].expand(num_users, 1),
                          weight.expand(num_items, 1)])
            for m, weight in self.weights(mask_dict).items()
        }

    def forward(self, x_dict: Dict[str, Tensor],
                mask_dict: Optional[Dict[str, Tensor]] = None) -> Tensor:
        r"""Sums the features of all modalities."""
        weights = self.weights(mask_dict)
        terms = [weights[m] * x_dict[m] for m in self.modalities]
        return sum(terms[1:], terms[0])

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.modalities})'
