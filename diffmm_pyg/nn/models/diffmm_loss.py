from typing import TYPE_CHECKING, Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.nn.loss import bpr_loss, contrastive_loss
from diffmm_pyg.nn.models.diffmm_output import DiffMMOutput

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def diffmm_loss(
    model: 'DiffMM',
    out: DiffMMOutput,
    user: Tensor,
    pos_item: Tensor,
    neg_item: Tensor,
    batch_size: Optional[int] = None,
    mask_dict: Optional[Dict[str, Tensor]] = None,
    generator: Optional[torch.Generator] = None,
) -> Dict[str, Tensor]:
    r"""The loss of :class:`~diffmm_pyg.nn.DiffMM` and its parts: BPR, the
    squared norms of the ID embeddings, and the contrastive loss.
    """
    # Gradients of `x[index]` add up duplicates in an order that threads draw.
    x = F.embedding(user, out.user)
    pos, neg = (F.embedding(i, out.item) for i in (pos_item, neg_item))
    bpr = bpr_loss((x * pos).sum(dim=-1), (x * neg).sum(dim=-1), batch_size)
    reg = model.reg_weight * (model.user_embedding.weight.square().sum() +
                              model.item_embedding.weight.square().sum())
    loss, parts = bpr + reg, {'bpr': bpr.detach(), 'reg': reg.detach()}
    if model.ssl_weight > 0:
        ssl = model.ssl_weight * contrastive_loss(
            (out.user, out.item), out.views, user, pos_item,
            model.temperature, model.anchor, mask_dict, model.num_contrasts,
            generator)
        loss, parts['ssl'] = loss + ssl, ssl.detach()
    return {'loss': loss, **parts}
