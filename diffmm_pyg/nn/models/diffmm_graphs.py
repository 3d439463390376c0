r"""What a step of DiffMM propagates over: the whole graph, or subgraphs."""
import warnings
from typing import TYPE_CHECKING, Dict, Optional

import torch
from torch import Tensor

from diffmm_pyg.data import (
    modality_features,
    modality_masks,
    observed_rows,
)
from diffmm_pyg.nn.models.diffmm_checks import check_sampling
from diffmm_pyg.nn.stacked_adj import StackedAdj, denoised_adjs
from diffmm_pyg.transforms.sampling_graph import sampling_graph
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from torch_geometric.data import HeteroData
from torch_geometric.loader import LinkLoader
from torch_geometric.sampler import NeighborSampler

if TYPE_CHECKING:
    from diffmm_pyg.nn.models.diffmm import DiffMM


class WholeGraph:
    r"""The loss of triplets by propagation over the whole graph.

    Args:
        model (DiffMM): The model.
        data (HeteroData): The graph.
    """
    def __init__(self, model: 'DiffMM', data: HeteroData):
        self.model, self.data = model, data
        self.x_dict = modality_features(data)
        self.mask_dict = modality_masks(data)
        self.denoised_adj_dict: Dict[str, StackedAdj] = {}
        self.adj = StackedAdj.from_edge_index(
            observed_rows(data).edge_index, model.num_users, model.num_items)

    def update(self) -> None:
        r"""Takes over the edges that were generated for an epoch."""
        model = self.model
        self.denoised_adj_dict = {}  # Two of them would take memory twice.
        self.denoised_adj_dict = denoised_adjs(
            self.data, model.modalities, model.num_users, model.num_items,
            model.edge_dropout)

    def loss(self, user: Tensor, pos_item: Tensor, neg_item: Tensor,
             batch_size: int, generator: torch.Generator) -> Dict[str, Tensor]:
        r"""Returns the loss of triplets and its parts; :obj:`generator` draws
        contrasts.
        """
        out = self.model(self.x_dict, self.adj, self.denoised_adj_dict,
                         self.mask_dict, with_views=self.model.ssl_weight > 0)
        return self.model.loss(out, user, pos_item, neg_item, batch_size,
                               self.mask_dict, generator)


class SampledGraph:
    r"""The same by propagation over the neighborhoods that
    :class:`torch_geometric.sampler.NeighborSampler` draws for the triplets.

    Args:
        model (DiffMM): The model.
        data (HeteroData): The graph.

    Raises:
        ConfigError: If the model needs the whole graph.
        MissingExtraError: If there is nothing to sample neighbors with.
    """
    def __init__(self, model: 'DiffMM', data: HeteroData):
        check_sampling(model)
        self.model, self.data = model, data
        self.graph = HeteroData()
        self.sampler: Optional[NeighborSampler] = None

    def update(self) -> None:
        r"""Takes over the edges that were generated for an epoch."""
        # Two of them would take memory twice:
        self.graph, self.sampler = HeteroData(), None
        self.graph = sampling_graph(self.data)
        with warnings.catch_warnings():
            # What PyG says of torch-sparse, which samples as well:
            warnings.filterwarnings('ignore', ".*without a 'pyg-lib'")
            self.sampler = NeighborSampler(self.graph,
                                           self.model.num_neighbors)

    def batch(self, user: Tensor, pos_item: Tensor, neg_item: Tensor,
              generator: torch.Generator) -> HeteroData:
        r"""Returns the subgraph around triplets, in the form of
        :class:`torch_geometric.loader.LinkNeighborLoader`.
        """
        pairs = torch.stack([user.repeat(2), torch.cat([pos_item, neg_item])])
        loader = LinkLoader(self.graph, self.sampler, (INTERACTS, pairs))
        seed = torch.randint(2**63 - 1, (), generator=generator,
                             device=generator.device)
        # Samplers know no generator but the default one:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            batch = loader(torch.arange(pairs.size(1)))
        users, items = batch[INTERACTS].edge_label_index
        del batch[INTERACTS].edge_label_index
        batch[USER].src_index = users.chunk(2)[0]
        batch[ITEM].dst_pos_index, batch[ITEM].dst_neg_index = items.chunk(2)
        return batch.to(user.device)

    def loss(self, user: Tensor, pos_item: Tensor, neg_item: Tensor,
             batch_size: int, generator: torch.Generator) -> Dict[str, Tensor]:
        r"""Returns the loss of triplets and its parts; :obj:`generator` draws
        neighbors.
        """
        batch = self.batch(user, pos_item, neg_item, generator)
        return self.model.batch_loss(batch, batch_size)
