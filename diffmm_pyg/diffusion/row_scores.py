from typing import TYPE_CHECKING, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_pyg.diffusion.reverse import HiddenReverse
from diffmm_pyg.utils.sparse_rows import SparseRows
from diffmm_pyg.utils.topk import MAX_BLOCK_NUMEL, inner_product_topk
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

    def __call__(self, rows: SparseRows, offset: int) -> 'RowBlockScores':
        hidden = self.reverse(rows, self.noise_step,
                              seed=(self.seed, offset))
        return RowBlockScores(self, rows, hidden)


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
