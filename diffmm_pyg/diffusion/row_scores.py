from typing import TYPE_CHECKING, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.diffusion.batch_share import BatchShare
from diffmm_pyg.diffusion.reverse import HiddenReverse
from diffmm_pyg.utils.affine_embeddings import affine_embeddings
from diffmm_pyg.utils.processes import SINGLE, current_processes
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import (
    MAX_BLOCK_NUMEL,
    inner_product_topk,
    map_blocks,
)
from torch_geometric.nn.pool.select.topk import topk

if TYPE_CHECKING:
    from diffmm_pyg.diffusion.graph_diffusion import GraphDiffusion


class RowScores:
    r"""Denoises blocks of rows and scores items for them. What all blocks
    share is computed once.

    Args:
        diffusion (GraphDiffusion): The diffusion model.
        noise_step (int, optional): If set, rows are noised to this timestep
            first. (default: :obj:`None`)
        seed (int, optional): The seed of that noise. (default: :obj:`0`)
    """
    def __init__(self, diffusion: 'GraphDiffusion',
                 noise_step: Optional[int] = None, seed: int = 0):
        self.reverse = HiddenReverse(diffusion.denoiser, diffusion.process,
                                     diffusion.sampler)
        self.log_prob = diffusion.likelihood == 'multinomial'
        self.noise_step, self.seed = noise_step, seed

    def __call__(self, rows: SparseRows, start: int, end: int,
                 block_size: int) -> 'RowBlockScores':
        part, first, share = rows.narrow(start, end), start, None
        if self.noise_step is not None:
            # Which is drawn for the whole block, if memory is for a part only.
            first = start - start % block_size
            last = max(end, min(first + block_size, rows.num_rows))
            share = BatchShare(rows.narrow(first, last), start - first,
                               end - first, 1.)
        hidden = self.reverse(part, self.noise_step, seed=(self.seed, first),
                              share=share)
        return RowBlockScores(self, part, hidden)

    def top_edges(self, rows: SparseRows, k: int, candidates: str,
                  scale: Optional[float],
                  block_size: int) -> List[Tuple[Tensor, Tensor]]:
        r"""Returns the edges of :meth:`RowBlockScores.topk` and their
        weights, or ones if there is no :obj:`scale`, per modality.
        """
        ones = torch.ones_like(self.reverse.process.betas[:1])
        processes = current_processes()
        if self.noise_step is not None or torch.is_grad_enabled():
            processes = SINGLE  # Blocks draw, and gradients do not travel.
        first, last = processes.share(rows.num_rows)

        def block(start: int, end: int) -> List[Tuple[Tensor, Tensor]]:
            start, end = first + start, first + end
            part = self(rows, start, end, block_size)
            edges = []
            for m in range(part.hidden.size(1)):
                edge_index = part.topk(m, k, candidates)
                if scale is not None:
                    weight = part.edge_weight(m, edge_index, scale)
                else:
                    weight = ones.expand(edge_index.size(1))
                row, col = edge_index
                edges.append((torch.stack([row + start, col]), weight))
            return edges

        blocks = map_blocks(block, last - first, block_size)
        return [(processes.concat(torch.cat([x[0] for x in edges], dim=1), 1),
                 processes.concat(torch.cat([x[1] for x in edges])))
                for edges in zip(*blocks, strict=True)]

    def embeddings(self, rows: SparseRows,
                   block_size: int) -> List[Tuple[Tensor, Tensor]]:
        r"""Returns embeddings of rows and items whose inner products are the
        denoised values, per modality.
        """
        hidden = torch.cat(map_blocks(
            lambda start, end: self(rows, start, end, block_size).hidden,
            rows.num_rows, block_size))
        denoiser = self.reverse.denoiser
        weight, bias = denoiser.weight_out, denoiser.bias_out
        return [affine_embeddings(hidden[:, m], weight[:, m], bias[:, m])
                for m in range(hidden.size(1))]

    def edge_weights(self, rows: SparseRows, edge_index: Tensor, scale: float,
                     block_size: int) -> List[Tensor]:
        r"""Returns :meth:`RowBlockScores.edge_weight` of edges
        :obj:`[2, E]`, in any order, per modality.
        """
        perm = edge_index[0].argsort(stable=True)
        edge_index = edge_index[:, perm]
        ptr = torch.searchsorted(
            edge_index[0].contiguous(),
            torch.arange(rows.num_rows + 1, device=perm.device))

        def block(start: int, end: int) -> List[Tensor]:
            part = self(rows, start, end, block_size)
            edges = edge_index[:, ptr[start]:ptr[end]].clone()
            edges[0] -= start
            return [part.edge_weight(m, edges, scale)
                    for m in range(part.hidden.size(1))]

        blocks = map_blocks(block, rows.num_rows, block_size)
        weights = (torch.cat(x) for x in zip(*blocks, strict=True))
        return [torch.zeros_like(x).index_put((perm, ), x) for x in weights]


class RowBlockScores:
    r"""The scores of all items for a block of rows, made as they are needed:
    denoised values, or log-probabilities.
    """
    def __init__(self, scores: RowScores, rows: SparseRows, hidden: Tensor):
        self.rows, self.hidden = rows, hidden  # [N, M, H]
        self.denoiser = scores.reverse.denoiser
        self.log_prob = scores.log_prob

    def topk(self, modality: int, k: int, candidates: str) -> Tensor:
        r"""Returns edges :obj:`[2, E]` to the best :obj:`k` candidates of
        every row, by row and descending score.
        """
        if candidates == 'observed':
            edge_index = self.rows.edge_index
            score = self.edge_score(modality, edge_index).detach()
            return edge_index[:, topk(score, k, edge_index[0])]

        value, index = inner_product_topk(
            self.hidden[:, modality].detach(),
            self.denoiser.weight_out[:, modality].detach(), k,
            bias=self.denoiser.bias_out[:, modality].detach(),
            exclude=self.rows if candidates == 'unseen' else None)
        row = torch.arange(value.size(0), device=value.device)
        edge_index = torch.stack([row.repeat_interleave(k), index.view(-1)])
        if candidates == 'all':
            return edge_index
        return edge_index[:, value.view(-1) > float('-inf')]

    def edge_score(self, modality: int, edge_index: Tensor) -> Tensor:
        r"""Returns the scores of edges :obj:`[2, E]`."""
        hidden = self.hidden[:, modality]
        weight = self.denoiser.weight_out[:, modality]
        bias = self.denoiser.bias_out[:, modality]
        row, col = edge_index
        score = torch.cat([
            (hidden[r] * weight[c]).sum(dim=-1) + bias[c]
            for r, c in zip(row.split(2**14), col.split(2**14), strict=True)
        ])
        if self.log_prob:
            size = max(1, MAX_BLOCK_NUMEL // weight.size(0))
            lse = torch.cat([
                torch.addmm(bias, h, weight.t()).logsumexp(dim=1)
                for h in hidden.split(size)
            ])
            score = score - lse[row]
        return score

    def edge_weight(self, modality: int, edge_index: Tensor,
                    scale: float) -> Tensor:
        r"""Returns the positive weights of edges :obj:`[2, E]`: the softplus
        of their scores, or their probabilities, times :obj:`scale`.
        """
        score = self.edge_score(modality, edge_index)
        weight = score.exp() if self.log_prob else F.softplus(score)
        # Positive in floating point, too, as normalization needs it.
        return (scale * weight).clamp(min=torch.finfo(score.dtype).tiny)
