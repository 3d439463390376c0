r"""An epoch of DiffMM done the straightforward way, by the dense functions of
:obj:`diffmm_pyg.testing.textbook`: what the library is compared with.
"""
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from _timing.fast_loop import Key
from diffmm_pyg.data import modality_features, modality_masks
from diffmm_pyg.diffusion import Denoiser, GaussianDiffusion
from diffmm_pyg.nn import DiffMM
from diffmm_pyg.testing import textbook
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from diffmm_pyg.utils import NegativeSampler, SparseRows, keyed_generator
from torch_geometric.data import HeteroData


class TextbookLoop:
    r"""Trains a copy of a model's parameters, densely and modality by
    modality: users' rows are dense, every denoiser has draws, a loss and a
    step of its own, sampling multiplies by all items at each of its steps,
    and InfoNCE differentiates through all logits. Negatives are drawn at
    once, and graphs are in the format whose products are the faster ones on
    a CPU, CSR. Takes the arguments, and has the pieces, of
    :class:`FastLoop`.
    """
    def __init__(
        self,
        model: DiffMM,
        data: Tuple[HeteroData, HeteroData],
        batch_size: int,
        lr: float,
        top_k: int = 20,
    ):
        train = data[0]
        self.model = model  # Only its hyper-parameters are read.
        self.batch_size = batch_size
        self.top_k = top_k
        self.sizes = train[USER].num_nodes, train[ITEM].num_nodes
        self.x_dict = modality_features(train)
        self.has_dict = modality_masks(train)
        self.rows = SparseRows.from_edge_index(train[INTERACTS].edge_index,
                                               *self.sizes)
        self.positives = SparseRows.from_edge_index(
            data[1][INTERACTS].edge_label_index, *self.sizes)
        self.num_examples = [self.sizes[0], self.rows.col.numel()]
        self.device = self.rows.col.device
        self.sampler = NegativeSampler(self.rows)
        self.adj = self._adjacency(self.rows.edge_index)
        self.adj_dict: Dict[str, Tensor] = {}
        self.feature_dict: Dict[str, Tensor] = {}
        self.schedule = make_schedule(model.diffusion.process)

        self.user = _own(model.user_embedding.weight)
        self.item = _own(model.item_embedding.weight)
        self.logits = _own(model.fusion.logits)
        self.projections = {
            m: [None if p is None else _own(p)
                for p in (encoder.lin.weight, encoder.lin.bias)]
            for m, encoder in model.encoders.items()
        }
        self.denoisers = {
            m: denoiser_params(model.diffusion.denoiser, i)
            for i, m in enumerate(model.modalities)
        }
        groups: List[List[Parameter]] = [
            list(params.values()) for params in self.denoisers.values()
        ]
        groups.append([
            self.user, self.item, self.logits,
            *(p for pair in self.projections.values() for p in pair
              if p is not None)
        ])
        self.optimizers = [torch.optim.Adam(params, lr) for params in groups]

    @torch.no_grad()
    def start_epoch(self, key: Key) -> None:
        for m, x in self.x_dict.items():
            feat = textbook.project(x, *self.projections[m])
            if self.model.normalize_msi:
                feat = F.normalize(feat)
            self.feature_dict[m] = feat

    def diffusion_step(self, index: Tensor, key: Key) -> Tensor:
        x0 = self.rows.select(index).to_dense()
        generator = keyed_generator(*key, device=self.device)
        keep = 1 - self.model.diffusion.denoiser.dropout
        total = x0.new_zeros(())
        for m, optimizer in zip(self.denoisers, self.optimizers):
            t = torch.randint(self.model.diffusion.process.num_steps,
                              (x0.size(0), ), generator=generator,
                              device=self.device)
            noise = torch.empty_like(x0).normal_(generator=generator)
            mask = None
            if keep < 1:
                mask = torch.empty_like(x0)
                mask = mask.bernoulli_(keep, generator=generator).div_(keep)
            loss = self.denoiser_loss(m, x0, t, noise, mask)
            total += _step(optimizer, loss)
        return total

    def denoiser_loss(self, m: str, x0: Tensor, t: Tensor, noise: Tensor,
                      mask: Optional[Tensor]) -> Tensor:
        r"""Returns the loss of one denoiser for given draws."""
        diffusion = self.model.diffusion
        elbo, msi = textbook.denoiser_loss(
            self.denoisers[m], x0, t, noise, self.schedule,
            self.feature_dict[m], self.item.detach(),
            likelihood=diffusion.likelihood,
            normalize=diffusion.denoiser.normalize, dropout_mask=mask,
            has=self.has_dict.get(m))
        return elbo.mean() + diffusion.msi_weight * msi.mean()

    @torch.no_grad()
    def generate(self, key: Key) -> None:
        diffusion, model = self.model.diffusion, self.model
        edges: Dict[str, List[Tuple[Tensor, Tensor]]] = {
            m: [] for m in self.denoisers}
        for index in self._users().split(self.batch_size):
            x0 = self.rows.select(index).to_dense()
            observed = None if model.candidates == 'all' else x0 > 0
            for m, params in self.denoisers.items():
                scores = textbook.sample(
                    params, x0, self.schedule, sampler=diffusion.sampler,
                    normalize=diffusion.denoiser.normalize)
                (row, item), value = textbook.topk_edges(
                    scores, model.k, candidates=model.candidates,
                    observed=observed)
                edges[m].append((torch.stack([index[row], item]), value))

        weighting = 'binary'
        if model.weighting == 'score':
            gaussian = diffusion.likelihood == 'gaussian'
            weighting = 'softplus' if gaussian else 'probability'
        for i, (m, parts) in enumerate(edges.items()):
            edge_index, value = (torch.cat(part, dim=-1)
                                 for part in zip(*parts))
            weight = textbook.edge_weights(value, weighting,
                                           model.weight_scale)
            self.adj_dict[m] = self._adjacency(
                edge_index, weight, self._edge_dropout(weight, (*key, i)))

    def ranking_step(self, index: Tensor, key: Key) -> Tensor:
        users, positives = self.rows.edge_index[:, index]
        generator = keyed_generator(*key, device=self.device)
        negatives = torch.where(self.sampler.valid(users),
                                self.sampler(users, generator), positives)
        return _step(self.optimizers[-1],
                     self.ranking_loss(users, positives, negatives))

    def ranking_loss(self, users: Tensor, positives: Tensor,
                     negatives: Tensor) -> Tensor:
        r"""Returns the recommender's loss for given draws."""
        model = self.model
        user, item, views = self.embeddings()
        loss = textbook.bpr_loss(user, item, users, positives, negatives,
                                 self.batch_size)
        loss = loss + model.reg_weight * textbook.l2_loss(self.user, self.item)
        if model.ssl_weight > 0:
            loss = loss + model.ssl_weight * textbook.contrastive_loss(
                user, item, views, users, positives, model.temperature,
                model.anchor, self.has_dict)
        return loss

    @torch.no_grad()
    def evaluate(self) -> Dict[str, float]:
        user, item, _ = self.embeddings()
        users = self._users()[self.positives.count > 0]
        out: Dict[str, float] = {}
        for index in users.split(self.batch_size):
            seen = self.rows.select(index).to_dense(torch.bool)
            scores, items = textbook.rank_items(user[index], item, seen,
                                                self.top_k)
            metrics = textbook.ranking_metrics(
                scores, items,
                self.positives.select(index).to_dense(torch.bool),
                [self.top_k])
            for name, value in metrics.items():
                part = value * index.numel() / users.numel()
                out[name] = out.get(name, 0.) + part
        return out

    def embeddings(self) -> Tuple[Tensor, Tensor, Dict[str, Any]]:
        r"""Returns the final embeddings, and the views."""
        features = {m: textbook.project(x, *self.projections[m])
                    for m, x in self.x_dict.items()}
        return textbook.diffmm_embeddings(
            self.adj, self.adj_dict, self.user, self.item, features,
            self.logits, num_layers=self.model.num_layers,
            adj_weight=self.model.adj_weight,
            residual_weight=self.model.residual_weight,
            has_dict=self.has_dict)

    def _adjacency(self, edge_index: Tensor, weight: Optional[Tensor] = None,
                   multiplier: Optional[Tensor] = None) -> Tensor:
        return textbook.normalized_adjacency(
            edge_index, *self.sizes, weight, multiplier=multiplier,
            layout=torch.sparse_csr)

    def _edge_dropout(self, weight: Tensor, key: Key) -> Optional[Tensor]:
        keep = 1 - self.model.edge_dropout
        if keep == 1:
            return None
        mask = weight.new_empty(2 * weight.numel() + sum(self.sizes))
        generator = keyed_generator(*key, device=self.device)
        return mask.bernoulli_(keep, generator=generator).div_(keep)

    def _users(self) -> Tensor:
        return torch.arange(self.sizes[0], device=self.device)


def denoiser_params(denoiser: Denoiser, m: int) -> Dict[str, Parameter]:
    r"""Copies the parameters of one modality's network."""
    return {
        'time.weight': _own(denoiser.weight_code[m].t()),
        'time.bias': _own(denoiser.bias_code[m]),
        'in.weight': _own(denoiser.weight_in[:, m].t()),
        'in.time_weight': _own(denoiser.weight_time[m].t()),
        'in.bias': _own(denoiser.bias_in[m]),
        'out.weight': _own(denoiser.weight_out[:, m]),
        'out.bias': _own(denoiser.bias_out[:, m]),
    }


def make_schedule(process: GaussianDiffusion) -> Dict[str, Tensor]:
    r"""Returns the same process, as tensors by name."""
    betas = textbook.linear_variance_betas(
        process.num_steps, process.noise_scale, process.noise_min,
        process.noise_max, process.first_beta)
    out = textbook.noise_schedule(betas)
    if process.loss_weighting == 'uniform':
        out['loss_weight'] = torch.ones_like(betas)
    return {name: value.to(process.betas.device)
            for name, value in out.items()}


def _own(x: Tensor) -> Parameter:
    # Contiguous, as whoever wrote this on its own would have it.
    return Parameter(x.detach().clone(memory_format=torch.contiguous_format))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
