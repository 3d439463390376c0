r"""What DiffMM is compared with to tell what its diffusion contributes: the
same model without generated edges, with other ones in their place, or without
embeddings in the ranking.
"""
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from diffmm_pyg.data import observed_rows
from diffmm_pyg.diffusion import GraphDiffusion
from diffmm_pyg.nn.models import DiffMM, Phase
from diffmm_pyg.nn.models.diffmm_ranking import other_embeddings
from diffmm_pyg.nn.models.ease import ease_weights
from diffmm_pyg.typing import EdgesDict
from diffmm_pyg.utils import SparseRows, inner_product_topk, keyed_generator
from diffmm_pyg.utils.item_gram import interaction_gram
from diffmm_pyg.utils.row_embedding import RowEmbedding
from diffmm_pyg.utils.score_fusion import Embeddings, concat_embeddings
from torch_geometric.data import HeteroData

NUM_ROUNDS = 40  # Every edge may swap its item in half of them.
EASE_REG = 50.


class NoEdges(GraphDiffusion):
    r"""Generates graphs without edges."""
    def generate(self, rows: SparseRows, *args: Any,
                 **kwargs: Any) -> EdgesDict:
        empty = rows.col.new_empty(2, 0)
        weight = self.process.betas.new_empty(0)
        return {m: (empty, weight) for m in self.modalities}


class EASEEdges(GraphDiffusion):
    r"""Generates, for all modalities alike, edges of weight 1 to the items
    that :class:`~diffmm_pyg.nn.models.EASE` ranks first among the unseen.
    """
    def generate(self, rows: SparseRows, k: int = 1, *args: Any,
                 **kwargs: Any) -> EdgesDict:
        gram = interaction_gram(rows)
        weight = ease_weights(gram, EASE_REG).to(gram.dtype)
        col = inner_product_topk(RowEmbedding.from_rows(rows), weight.t(), k,
                                 exclude=rows)[1]
        return dict.fromkeys(self.modalities, edges_to(col))


class RandomDiffusion(GraphDiffusion):
    r"""A diffusion that has a key for draws beside its parameters."""
    key = 0

    def reset_parameters(self):
        r"""Resets all learnable parameters of the module, and the draws."""
        super().reset_parameters()
        self.key = int(torch.randint(2**31, ()))


class UniformEdges(RandomDiffusion):
    r"""Generates edges of weight 1 to random items, drawn once."""
    def generate(self, rows: SparseRows, k: int = 1, *args: Any,
                 **kwargs: Any) -> EdgesDict:
        generator = keyed_generator(self.key, 0, device=rows.col.device)
        size, device = (rows.num_rows, rows.num_cols), rows.col.device
        return {m: edges_to(torch.rand(size, generator=generator,
                                       device=device).topk(k).indices)
                for m in self.modalities}


def edges_to(col: Tensor) -> Tuple[Tensor, Tensor]:
    r"""Returns the edges of weight 1 from every row to its items
    :obj:`[N, k]`.
    """
    row = torch.arange(col.size(0), device=col.device)
    edge_index = torch.stack([row.repeat_interleave(col.size(1)),
                              col.reshape(-1)])
    return edge_index, torch.ones(col.numel(), device=col.device)


class RewiredEdges(RandomDiffusion):
    r"""Generates as many edges as its denoisers do, the same number for every
    row and for every item, and the same candidates, but between random rows
    and items. The edges of a row have the weights that they would have had.
    The scores of a row are those of another, drawn once.
    """
    def generate(self, rows: SparseRows, k: int = 1, candidates: str = 'all',
                 *args: Any, **kwargs: Any) -> EdgesDict:
        edges = super().generate(rows, k, candidates, *args, **kwargs)
        generator = keyed_generator(self.key, 0, device=rows.col.device)
        return {m: (rewire(edge_index, rows, candidates, generator), weight)
                for m, (edge_index, weight) in edges.items()}

    def score_embeddings(
            self, rows: SparseRows) -> Dict[str, Tuple[Tensor, Tensor]]:
        embeddings = super().score_embeddings(rows)
        generator = keyed_generator(self.key, 1, device=rows.col.device)
        perm = torch.randperm(rows.num_rows, generator=generator,
                              device=rows.col.device)
        return {m: (row_emb[perm], item_emb)
                for m, (row_emb, item_emb) in embeddings.items()}


def rewire(edge_index: Tensor, rows: SparseRows, candidates: str,
           generator: Optional[torch.Generator] = None,
           num_rounds: int = NUM_ROUNDS) -> Tensor:
    r"""Lets random pairs of edges swap their items, which keeps the number of
    edges of every row and item, as in `"Specificity and Stability in Topology
    of Protein Networks" <https://doi.org/10.1126/science.1065103>`_. No edge
    is made twice, and none that is no candidate.

    Args:
        edge_index (torch.Tensor): The edges :obj:`[2, E]`, each of them once.
        rows (SparseRows): The rows that they were generated from.
        candidates (str): The items that edges may lead to, see
            :meth:`~diffmm_pyg.diffusion.GraphDiffusion.generate`.
        generator (torch.Generator, optional): What draws the pairs.
            (default: :obj:`None`)
        num_rounds (int, optional): The number of rounds, in each of which
            half of all pairs swap where they can.
    """
    row, col = edge_index[0], edge_index[1].clone()
    observed = rows.row * rows.num_cols + rows.col
    half = row.numel() // 2
    for _ in range(num_rounds):
        perm = torch.randperm(row.numel(), generator=generator,
                              device=row.device)
        a, b = perm[:half], perm[half:2 * half]
        new = torch.cat([row[a] * rows.num_cols + col[b],
                         row[b] * rows.num_cols + col[a]])
        _, inverse, count = new.unique(return_inverse=True,
                                       return_counts=True)
        bad = torch.isin(new, row * rows.num_cols + col)
        bad |= count[inverse] > 1
        if candidates != 'all':
            bad |= torch.isin(new, observed) == (candidates == 'unseen')
        # Where all pairs always swapped, two edges would come back in the end:
        coin = torch.rand(half, generator=generator, device=row.device) < 0.5
        good = coin & ~(bad[:half] | bad[half:])
        a, b = a[good], b[good]
        col[a], col[b] = col[b], col[a]
    return torch.stack([row, col])


class ControlledDiffMM(DiffMM):
    r"""DiffMM with another source of edges and scores. Denoisers that have a
    part in neither are not trained.
    """
    denoisers_make_edges = False

    def phases(self, data: HeteroData) -> List[Phase]:
        phases = super().phases(data)
        has_part = self.denoisers_make_edges or self.denoiser_weight > 0
        return phases if has_part else phases[1:]


class WithoutEdges(ControlledDiffMM):
    r"""DiffMM whose generated graphs have no edges but self-loops."""
    diffusion_class = NoEdges


class WithEASEEdges(ControlledDiffMM):
    r"""DiffMM whose edges are those of :class:`EASEEdges`."""
    diffusion_class = EASEEdges


class WithUniformEdges(ControlledDiffMM):
    r"""DiffMM whose edges are those of :class:`UniformEdges`."""
    diffusion_class = UniformEdges


class WithRandomEdges(ControlledDiffMM):
    r"""DiffMM whose edges and scores are those of :class:`RewiredEdges`."""
    diffusion_class = RewiredEdges
    denoisers_make_edges = True


class WithoutEmbeddings(DiffMM):
    r"""DiffMM that is trained as ever, and ranks by all but its embeddings."""
    def embed(self, data: HeteroData) -> Embeddings:
        return concat_embeddings(other_embeddings(self, observed_rows(data)))


CONTROLS = {cls.__name__: cls for cls in [
    WithoutEdges, WithEASEEdges, WithUniformEdges, WithRandomEdges,
    WithoutEmbeddings]}
