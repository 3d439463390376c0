from typing import Any, Dict, List, Literal, Optional, Tuple, get_args

import torch
from torch import Tensor

from diffmm_pyg.data import check_edges
from diffmm_pyg.diffusion.batch_share import BatchShare
from diffmm_pyg.diffusion.corruption import CORRUPTIONS, check_mask
from diffmm_pyg.diffusion.denoiser import Denoiser
from diffmm_pyg.diffusion.fit import fit
from diffmm_pyg.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_pyg.diffusion.objective import OBJECTIVES, msi_matrices
from diffmm_pyg.diffusion.row_scores import RowScores
from diffmm_pyg.diffusion.sampled_objective import SAMPLED_OBJECTIVES
from diffmm_pyg.typing import EdgesDict
from diffmm_pyg.utils.checks import check_choice, check_k, check_range
from diffmm_pyg.utils.hyper_parameters import hyper_parameter_values
from diffmm_pyg.utils.random import keyed_generator
from diffmm_pyg.utils.sparse_rows import SparseRows

Candidates = Literal['all', 'unseen', 'observed']
Weighting = Literal['binary', 'score']
Sampler = Literal['posterior', 'softmax', 'direct']

SAMPLERS: Dict[str, List[Sampler]] = {  # The default one first.
    'gaussian': ['posterior'],
    'multinomial': ['direct', 'softmax'],
}

ROW_BLOCK_SIZE = 2048  # The number of rows that are denoised at a time.


class GraphDiffusion(torch.nn.Module):
    r"""The modality-aware graph diffusion of `"DiffMM: Multi-Modal Diffusion
    Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_: for every
    modality, a diffusion model over rows of interactions whose samples, of
    every row the best :math:`k`, are the edges of a new graph.

    Args:
        num_items (int): The length of a row.
        modalities ([str]): The names of the modalities.
        hidden_channels (int, optional): The width of the denoisers.
            (default: :obj:`1000`)
        time_channels (int, optional): The size of their time code.
            (default: :obj:`10`)
        dropout (float, optional): The dropout probability of their input.
            (default: :obj:`0.5`)
        normalize (bool, optional): If set to :obj:`True`, their input has
            unit norm. (default: :obj:`False`)
        likelihood (str, optional): :obj:`"gaussian"`, which trains
            predictions by their squared error, or :obj:`"multinomial"`, which
            trains them as logits over items. (default: :obj:`"gaussian"`)
        sampler (str, optional): How samples are drawn: :obj:`"posterior"`,
            the mean of the posterior at every step (gaussian only);
            :obj:`"softmax"`, the same with the expected row
            :math:`|x_0| \, \mathrm{softmax}(\hat{x})` as the prediction, and
            :obj:`"direct"`, a single prediction at :math:`t = 0` (multinomial
            only). If set to :obj:`None`, :obj:`"posterior"` or
            :obj:`"direct"`. (default: :obj:`None`)
        corruption (str, optional): What is done to the rows in training:
            Gaussian :obj:`"noise"` is added to them, or some of their ones
            are hidden (:obj:`"mask"`, multinomial only) and predicted from
            the others, as in `"Autoregressive Diffusion Models"
            <https://arxiv.org/abs/2110.02037>`_. Arguments from
            :obj:`num_steps` to :obj:`loss_weighting` are about noise.
            (default: :obj:`"noise"`)
        msi_weight (float, optional): The weight :math:`\lambda_{\text{msi}}`
            of the modality-aware signal injection. (default: :obj:`0.1`)
        num_steps (int, optional): The number of steps :math:`T`.
            (default: :obj:`5`)
        noise_scale (float, optional): The scale of the noise.
            (default: :obj:`0.1`)
        noise_min (float, optional): Its smallest variance before scaling.
            (default: :obj:`1e-4`)
        noise_max (float, optional): Its largest variance before scaling.
            (default: :obj:`0.02`)
        first_beta (float, optional): What replaces the first beta, see
            :class:`~diffmm_pyg.diffusion.GaussianDiffusion`.
            (default: :obj:`None`)
        loss_weighting (str, optional): The weight of a timestep in the loss,
            :obj:`"snr"` or :obj:`"uniform"`. (default: :obj:`"snr"`)
        num_sampled_items (int, optional): If set, :meth:`loss` is estimated
            from this number :math:`S` of items, drawn for every batch, and
            its cost does not multiply rows by items. Noise, if any, falls on
            these items only, scaled by :math:`\sqrt{|\mathcal{I}| / S}`: an
            approximation, as the covariance of what it adds to the hidden
            layers is right only on average over draws. (default: :obj:`None`)

    Raises:
        ValueError: If an argument has no usable value.
    """
    def __init__(
        self,
        num_items: int,
        modalities: List[str],
        hidden_channels: int = 1000,
        time_channels: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
        likelihood: Literal['gaussian', 'multinomial'] = 'gaussian',
        sampler: Optional[Sampler] = None,
        corruption: Literal['noise', 'mask'] = 'noise',
        msi_weight: float = 0.1,
        num_steps: int = 5,
        noise_scale: float = 0.1,
        noise_min: float = 1e-4,
        noise_max: float = 0.02,
        first_beta: Optional[float] = None,
        loss_weighting: Literal['snr', 'uniform'] = 'snr',
        num_sampled_items: Optional[int] = None,
    ):
        super().__init__()
        check_choice('likelihood', likelihood, list(SAMPLERS))
        sampler = sampler or SAMPLERS[likelihood][0]
        check_choice('sampler', sampler, SAMPLERS[likelihood])
        check_choice('corruption', corruption, list(CORRUPTIONS))
        if num_sampled_items is not None:
            check_range('num_sampled_items', num_sampled_items, 1,
                        num_items + 1)

        self.likelihood = likelihood
        self.sampler = sampler
        self.corruption = corruption
        self.msi_weight = msi_weight
        self.num_sampled_items = num_sampled_items
        self.process = GaussianDiffusion(num_steps, noise_scale, noise_min,
                                         noise_max, first_beta,
                                         loss_weighting)
        self.denoiser = Denoiser(num_items, modalities, hidden_channels,
                                 time_channels, dropout, normalize)
        if corruption == 'mask':
            check_mask(self)

    @property
    def modalities(self) -> List[str]:
        return self.denoiser.modalities

    def hyper_parameters(self) -> Dict[str, Any]:
        r"""Returns all arguments with a default value, by name."""
        return hyper_parameter_values(type(self), self, self.denoiser,
                                      self.process)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        self.denoiser.reset_parameters()

    fit = fit

    def loss(
        self,
        rows: SparseRows,
        features: Optional[Dict[str, Tensor]] = None,
        item_embedding: Optional[Tensor] = None,
        masks: Optional[Dict[str, Tensor]] = None,
        seed: Tuple[int, ...] = (0, ),
        timestep: Optional[Tensor] = None,
        noise: Optional[Tensor] = None,
        mask: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        r"""Computes the training loss of a batch of rows, summed over
        modalities, which share timesteps, noise, dropout and what is hidden.
        Processes that share their work take each row once.

        Args:
            rows (SparseRows): The clean rows, :math:`(N, |\mathcal{I}|)`.
            features (Dict[str, torch.Tensor], optional): The projected
                features :math:`\mathbf{P}^m` of the items, of shape
                :math:`(|\mathcal{I}|, F)`. Without them, no signal is
                injected. (default: :obj:`None`)
            item_embedding (torch.Tensor, optional): The embeddings
                :math:`\mathbf{E}` of the items, of shape
                :math:`(|\mathcal{I}|, F)`; the features themselves if not
                given. (default: :obj:`None`)
            masks (Dict[str, torch.Tensor], optional): The items
                :math:`(|\mathcal{I}|)` that have a modality; the others are
                left out of its MSI loss. (default: :obj:`None`)
            seed (Tuple[int], optional): The key of the random draws.
                (default: :obj:`(0, )`)
            timestep, noise, mask (torch.Tensor, optional): Timesteps
                :math:`(N)`, noise :math:`(N, |\mathcal{I}|)` and entries that
                dropout keeps :math:`(N, |\mathcal{I}|)`, in place of draws.
                Where items are hidden, :obj:`mask`, a boolean, says which
                stay, and nothing else can be given. (default: :obj:`None`)

        Returns:
            :obj:`loss`, and its parts :obj:`elbo` (a bound for noise with the
            weights of its SNR) and :obj:`msi` without a gradient.

        Raises:
            ValueError: If an argument has no usable value.
        """
        generator = keyed_generator(*seed, device=rows.col.device)
        share = BatchShare.of(rows)
        x = CORRUPTIONS[self.corruption](self, share, generator, seed,
                                         timestep, noise, mask)
        rows, denoiser = x.target, self.denoiser
        if features is None:  # Where all items look the same.
            features = dict.fromkeys(
                self.modalities, denoiser.bias_out.new_zeros(rows.num_cols, 1))
        args = (*msi_matrices(self.modalities, rows, features, item_embedding,
                              masks),
                share.factor * x.weight, share.factor * self.msi_weight)
        if x.items is None:
            return OBJECTIVES[self.likelihood](denoiser, x.hidden, rows, *args)
        objective = SAMPLED_OBJECTIVES[self.likelihood]
        return objective(denoiser, x.hidden, x.items, *args)

    def generate(
        self,
        rows: SparseRows,
        k: int = 1,
        candidates: Candidates = 'all',
        weighting: Weighting = 'score',
        weight_scale: float = 1.0,
        noise_step: Optional[int] = None,
        seed: int = 0,
        differentiable: bool = False,
    ) -> EdgesDict:
        r"""Denoises :obj:`rows` and returns, for every modality, the edges to
        the :obj:`k` items of every row with the largest denoised values,
        exactly: a search of rows times items times hidden channels, in blocks.
        Processes that share their work search for each row once, and all get
        all edges.

        Args:
            rows (SparseRows): The rows to start from.
            k (int, optional): The number of edges per row; a row with fewer
                candidates gets fewer, and all rows without entries get the
                same. (default: :obj:`1`)
            candidates (str, optional): The items that edges may lead to:
                :obj:`"all"`, those :obj:`"unseen"` in the row, or those
                :obj:`"observed"` in it. (default: :obj:`"all"`)
            weighting (str, optional): The weight of an edge: 1
                (:obj:`"binary"`), or a positive map of the denoised value
                (:obj:`"score"`), see :meth:`score_edges`.
                (default: :obj:`"score"`)
            weight_scale (float, optional): The factor of these weights.
                (default: :obj:`1.0`)
            noise_step (int, optional): If set, rows are noised to this
                timestep first. (default: :obj:`None`)
            seed (int, optional): The seed of that noise. (default: :obj:`0`)
            differentiable (bool, optional): If set to :obj:`True`, gradients
                flow from the weights into the denoisers.
                (default: :obj:`False`)

        Returns:
            A dictionary from modalities to :obj:`(edge_index, edge_weight)`,
            sorted by row and descending weight.

        Raises:
            ValueError: If an argument has no usable value.
        """
        check_choice('candidates', candidates, get_args(Candidates))
        check_choice('weighting', weighting, get_args(Weighting))
        check_k(k, rows.num_cols)
        if noise_step is not None:
            check_range('noise_step', noise_step, 0, self.process.num_steps)
            if self.corruption == 'mask':
                raise ValueError("'noise_step' is for denoisers that were "
                                 "trained on noise, and these hide items")

        with torch.set_grad_enabled(differentiable):
            edges = RowScores(self, noise_step, seed).top_edges(
                rows, k, candidates,
                weight_scale if weighting == 'score' else None, ROW_BLOCK_SIZE)
        return dict(zip(self.modalities, edges, strict=True))

    def score_edges(
        self,
        rows: SparseRows,
        edge_index: Tensor,
        weight_scale: float = 1.0,
        differentiable: bool = False,
    ) -> Dict[str, Tensor]:
        r"""Returns the weights :math:`(|\mathcal{E}|)` that every modality
        gives to the edges :math:`(2, |\mathcal{E}|)` from rows to items,
        *e.g.*, to re-weight or prune observed ones: the softplus of the
        denoised value, or its probability under the multinomial likelihood,
        times :obj:`weight_scale`.
        """
        check_edges(edge_index, rows.num_rows, rows.num_cols)
        with torch.set_grad_enabled(differentiable):
            weights = RowScores(self).edge_weights(
                rows, edge_index, weight_scale, ROW_BLOCK_SIZE)
        return dict(zip(self.modalities, weights, strict=True))

    @torch.no_grad()
    def score_embeddings(
            self, rows: SparseRows) -> Dict[str, Tuple[Tensor, Tensor]]:
        r"""Returns, for every modality, embeddings of the rows
        :math:`(N, H + 1)` and of the items :math:`(|\mathcal{I}|, H + 1)`
        whose inner products are the denoised values, before any softmax.
        """
        embeddings = RowScores(self).embeddings(rows, ROW_BLOCK_SIZE)
        return dict(zip(self.modalities, embeddings, strict=True))

    def __repr__(self) -> str:
        args = {'modalities': self.modalities, **self.hyper_parameters()}
        return (f"{self.__class__.__name__}({self.denoiser.num_items}, "
                f"{', '.join(f'{k}={v!r}' for k, v in args.items())})")
