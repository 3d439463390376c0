from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import Embedding

from diffmm_pyg.nn.loss import bpr_loss
from diffmm_pyg.nn.models.embedding_recommender import EmbeddingRecommender
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.utils import NegativeSampler, keyed_generator
from torch_geometric.data import HeteroData


class Triplets(NamedTuple):
    r"""A batch of users with a positive and a negative item each.

    Args:
        user (torch.Tensor): The indices of the users, :obj:`[N]`.
        pos_item (torch.Tensor): Those of the positives, :obj:`[N]`.
        neg_item (torch.Tensor): Those of the negatives, :obj:`[N]`.
        x_user (torch.Tensor): The embeddings of the users :obj:`[N, F]`.
        batch_size (int): The nominal number of triplets.
    """
    user: Tensor
    pos_item: Tensor
    neg_item: Tensor
    x_user: Tensor
    batch_size: int


def bpr_phase(
    model: EmbeddingRecommender,
    data: HeteroData,
    embed: Callable[[Tensor, Tensor, Key], Tuple[Tensor, Tensor]],
    user_tables: Optional[List[Embedding]] = None,
    item_tables: Optional[List[Embedding]] = None,
    weights: Optional[List[Tensor]] = None,
    extra_losses: Optional[Callable[[Triplets], Dict[str, Tensor]]] = None,
    begin: Optional[Callable[[Key], None]] = None,
) -> Phase:
    r"""Builds the phase that goes once over all interactions, each with one
    uniform negative, and minimizes :meth:`~diffmm_pyg.nn.bpr_loss`, the
    squared norms of the embeddings of a batch and of :obj:`weights` times
    :obj:`model.reg_weight`, and what else a model adds.

    Args:
        model (EmbeddingRecommender): The model.
        data (HeteroData): The training graph.
        embed (Callable): Maps the indices of users :obj:`[N]` and items
            :obj:`[2 * N]` and a key for random draws to the embeddings to
            score with.
        user_tables ([torch.nn.Embedding], optional): The tables of users;
            :obj:`model.user_embedding` if not given. (default: :obj:`None`)
        item_tables ([torch.nn.Embedding], optional): The tables of items;
            :obj:`model.item_embedding` if not given. (default: :obj:`None`)
        weights ([torch.Tensor], optional): Further parameters, of layers.
            (default: :obj:`None`)
        extra_losses (Callable, optional): Maps :class:`Triplets` to further
            terms, by name. (default: :obj:`None`)
        begin (Callable, optional): What an epoch begins with, see
            :class:`~diffmm_pyg.nn.Phase`. (default: :obj:`None`)
    """
    rows = model.interactions(data)
    user, item = rows.edge_index
    sampler = NegativeSampler(rows)
    user_tables = user_tables or [model.user_embedding]
    item_tables = item_tables or [model.item_embedding]

    def loss(index: Tensor, batch_size: int, key: Key) -> Dict[str, Tensor]:
        generator = keyed_generator(*key, device=user.device)
        users, pos = user[index], item[index]
        neg = sampler.other_than(pos, users, generator)
        items = torch.cat([pos, neg])
        x_user, x_item = embed(users, items, key)
        x_pos, x_neg = x_item.chunk(2)
        losses = {'bpr': bpr_loss((x_user * x_pos).sum(dim=-1),
                                  (x_user * x_neg).sum(dim=-1), batch_size)}
        if model.reg_weight > 0:
            losses['reg'] = model.reg_weight * squared_norm(
                [x(users) for x in user_tables] +
                [x(items) for x in item_tables]) / batch_size
        if model.reg_weight > 0 and weights:
            losses['reg_weights'] = model.reg_weight * squared_norm(weights)
        if extra_losses is not None:
            losses.update(extra_losses(
                Triplets(users, pos, neg, x_user, batch_size)))
        return total_loss(losses)

    return Phase('ranking', list(model.parameters()), user.numel(), loss,
                 begin)


def total_loss(losses: Dict[str, Tensor]) -> Dict[str, Tensor]:
    r"""Returns the terms of a loss, detached, and their sum :obj:`loss`."""
    parts = {name: value.detach() for name, value in losses.items()}
    return {'loss': torch.stack(list(losses.values())).sum(), **parts}


def squared_norm(tensors: Iterable[Tensor]) -> Tensor:
    r"""Returns the sum of the squared entries of all tensors."""
    return torch.stack([x.square().sum() for x in tensors]).sum()
