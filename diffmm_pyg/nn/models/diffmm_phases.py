from typing import TYPE_CHECKING, Dict, List

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.data import (
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.diffusion.corruption import training_rows
from diffmm_pyg.nn.models.diffmm_graphs import SampledGraph, WholeGraph
from diffmm_pyg.nn.models.recommender import Key, Phase
from diffmm_pyg.transforms import add_denoised_edges
from diffmm_pyg.utils import NegativeSampler, keyed_generator
from torch_geometric.data import HeteroData

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


def diffmm_phases(model: 'DiffMM', data: HeteroData) -> List[Phase]:
    r"""Returns the two phases of an epoch of :class:`~diffmm_pyg.nn.DiffMM`:
    the denoisers over all users that they can learn from, then, on graphs
    generated anew and written to :obj:`data`, the recommender once over all
    interactions.
    """
    model.check(data)
    rows = observed_rows(data)
    user, item = rows.edge_index
    x_dict, mask_dict = modality_features(data), modality_masks(data)
    trained = training_rows(model.diffusion, rows)
    sampler = NegativeSampler(rows)
    graph = (WholeGraph if model.num_neighbors is None else
             SampledGraph)(model, data)
    # What an epoch begins with:
    feat_dict: Dict[str, Tensor] = {}

    @torch.no_grad()
    def project(key: Key) -> None:
        for m, encoder in model.encoders.items():
            x = encoder(x_dict[m])
            feat_dict[m] = F.normalize(x) if model.normalize_msi else x

    def diffusion_loss(index: Tensor, batch_size: int,
                       key: Key) -> Dict[str, Tensor]:
        users = trained[index % trained.numel()]
        return model.diffusion.loss(rows.select(users), feat_dict,
                                    model.item_embedding.weight, mask_dict,
                                    seed=key)

    @torch.no_grad()
    def regenerate(key: Key) -> None:
        edges = model.diffusion.generate(rows, model.k, model.candidates,
                                         model.weighting, model.weight_scale)
        add_denoised_edges(data, edges)
        data.edge_dropout_key = torch.tensor(key)
        graph.update()

    def ranking_loss(index: Tensor, batch_size: int,
                     key: Key) -> Dict[str, Tensor]:
        generator = keyed_generator(*key, device=user.device)
        u, pos = user[index], item[index]
        neg = sampler.other_than(pos, u, generator)
        return graph.loss(u, pos, neg, batch_size, generator)

    denoisers = list(model.diffusion.parameters())
    others = [param for name, param in model.named_parameters()
              if not name.startswith('diffusion.')]
    return [
        Phase('diffusion', denoisers, model.denoiser_passes * trained.numel(),
              diffusion_loss, begin=project),
        Phase('ranking', others, user.numel(), ranking_loss,
              begin=regenerate),
    ]
