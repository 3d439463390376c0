from typing import TYPE_CHECKING, List

import torch

from diffmm_pyg.data import (
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.nn.models.drift import drift_embeddings
from diffmm_pyg.nn.stacked_adj import StackedAdj, denoised_adjs
from diffmm_pyg.utils.score_fusion import (
    Embeddings,
    concat_embeddings,
    standardized,
)
from diffmm_pyg.utils.sparse_rows import SparseRows
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def diffmm_embeddings(model: 'DiffMM', data: HeteroData) -> Embeddings:
    r"""Returns what :class:`~diffmm_pyg.nn.DiffMM` ranks with: its final
    embeddings, and, where they have a weight, beside them those whose inner
    products are the scores of the denoisers and of
    :class:`~diffmm_pyg.nn.models.Drift`. Each of these scores has, for every
    user, a standard deviation of its weight, that of the embeddings is one.
    """
    model.check(data)
    sizes = model.num_users, model.num_items
    rows = observed_rows(data)
    dropout = model.edge_dropout if model.dropout_at_test else 0.
    out = model(modality_features(data),
                StackedAdj.from_edge_index(rows.edge_index, *sizes),
                denoised_adjs(data, model.modalities, *sizes, dropout),
                modality_masks(data), with_views=False)
    if model.denoiser_weight == model.drift_weight == 0:
        return out.user, out.item
    return concat_embeddings([(standardized(out.user, out.item), out.item),
                              *other_embeddings(model, rows)])


def other_embeddings(model: 'DiffMM', rows: SparseRows) -> List[Embeddings]:
    r"""Returns, each times its weight, what takes part in the ranking beside
    the final embeddings.
    """
    others: List[Embeddings] = []
    if model.denoiser_weight > 0:
        weight = model.denoiser_weight / len(model.modalities)
        for user, item in model.diffusion.score_embeddings(rows).values():
            others.append((standardized(user, item, weight), item))
    if model.drift_weight > 0:
        user, item = drift_embeddings(rows)
        std = item.std(correction=0)  # That of all users, who score alike.
        factor = torch.where(std > 0, model.drift_weight / std, 0.)
        others.append((user, factor * item))
    return others
