import logging
import math
import time
from contextlib import AbstractContextManager
from typing import Any, Dict, List, Literal, Optional, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from diffmm_pyg.data import check_data
from diffmm_pyg.errors import ConfigError, MissingExtraError, RunError
from diffmm_pyg.evaluation import evaluate, known_items
from diffmm_pyg.nn.models import Phase, Recommender
from diffmm_pyg.runs import Run, check_out, save_run, to_run
from diffmm_pyg.training.best import Best
from diffmm_pyg.typing import INTERACTS, ITEM, USER
from diffmm_pyg.utils import keyed_generator
from diffmm_pyg.utils.checks import check_choice
from torch_geometric.data import HeteroData

logger = logging.getLogger(__name__)


def fit(
    model: Recommender,
    data: Sequence[HeteroData],
    epochs: int = 50,
    batch_size: int = 1024,
    lr: float = 1e-3,
    patience: int = 10,
    top_k: int = 20,
    seed: int = 0,
    device: Optional[str] = None,
    precision: Literal['fp32', 'bf16'] = 'fp32',
    protocol: Literal['strict', 'paper'] = 'strict',
    out: Optional[str] = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Run:
    r"""Trains a recommender and returns the run, with the parameters and
    graphs of its best epoch.

    Args:
        model (Recommender): The model to train.
        data (Sequence[HeteroData]): The training, validation and, optionally,
            test graph, *e.g.*, a dataset of :obj:`diffmm_pyg.datasets`.
        epochs (int, optional): The largest number of epochs.
            (default: :obj:`50`)
        batch_size (int, optional): The number of users, and of interactions,
            of a batch. (default: :obj:`1024`)
        lr (float, optional): The learning rate of Adam.
            (default: :obj:`1e-3`)
        patience (int, optional): Training stops after so many epochs without
            a better validation recall. (default: :obj:`10`)
        top_k (int, optional): The number of recommendations that metrics are
            computed for. (default: :obj:`20`)
        seed (int, optional): The seed of all random draws but those of the
            initial parameters. (default: :obj:`0`)
        device (str, optional): The device to train on; by default a GPU if
            there is one. (default: :obj:`None`)
        precision (str, optional): Whether matrix products run in single
            precision (:obj:`"fp32"`) or in mixed precision
            (:obj:`"bf16"`). (default: :obj:`"fp32"`)
        protocol (str, optional): If set to :obj:`"strict"`, the best epoch is
            that of the best validation recall, and items of training and
            validation are left out at test. :obj:`"paper"` only exists to
            reproduce published numbers: it picks the epoch of the best
            **test** recall, leaves out items of training only, and never
            stops early. (default: :obj:`"strict"`)
        out (str, optional): The folder to write the run to.
            (default: :obj:`None`)
        overwrite (bool, optional): If set to :obj:`True`, a run in
            :obj:`out` is replaced. (default: :obj:`False`)
        progress (bool, optional): If set to :obj:`False`, shows no progress
            bar. (default: :obj:`True`)

    Raises:
        ConfigError: If an argument has no usable value.
        DataError: If :obj:`data` does not hold what it must hold.
        RunError: If :obj:`out` cannot be used, or the loss is not finite.
    """
    for name, value in [('epochs', epochs), ('batch_size', batch_size),
                        ('patience', patience), ('top_k', top_k)]:
        if value < 1:
            raise ConfigError(f"'{name}' must be at least 1 (got {value})")
    check_choice('precision', precision, ['fp32', 'bf16'])
    check_choice('protocol', protocol, ['strict', 'paper'])
    config = dict(epochs=epochs, batch_size=batch_size, lr=lr,
                  patience=patience, top_k=top_k, seed=seed,
                  precision=precision, protocol=protocol)
    if out is not None:
        check_out(out, overwrite)
    splits = _splits(data)
    if top_k > splits['train'][ITEM].num_nodes:
        raise ConfigError(f"'top_k' must not exceed the number of items, "
                          f"{splits['train'][ITEM].num_nodes} (got {top_k})")
    accelerator = _accelerator(device)
    place = accelerator.device if device is None else torch.device(device)

    model = model.to(place)
    splits = {name: split.to(place) for name, split in splits.items()}
    train = splits['train']
    phases = model.phases(train)
    optimizers = [
        accelerator.prepare(torch.optim.Adam(p.parameters, lr, fused=True))
        for p in phases
    ]
    selection = 'test' if protocol == 'paper' else 'val'
    if selection not in splits:
        logger.warning("There is no %s split to choose the best epoch by; "
                       "the last one is kept", selection)
    best = Best(f'{selection}/recall@{top_k}')
    history: List[Dict[str, float]] = []
    bar = tqdm(total=epochs, unit='epoch', disable=None if progress else True)
    try:
        for epoch in range(epochs):
            start = time.perf_counter()
            row: Dict[str, float] = {'epoch': epoch}
            model.train()
            for i, (phase, optimizer) in enumerate(
                    zip(phases, optimizers, strict=True)):
                row.update(_run_phase(
                    phase, optimizer, (seed, epoch, i), batch_size,
                    accelerator, place, precision, bar))
            names = ['val', 'test'] if protocol == 'paper' else ['val']
            model.eval()
            with torch.no_grad(), _autocast(place, precision):
                user_emb, item_emb = model.embed(train)
            row.update({
                f'{name}/{key}': value
                for name in names if name in splits
                for key, value in _evaluate(user_emb.float(), item_emb.float(),
                                            splits, name, top_k,
                                            protocol).items()
            })
            row['seconds'] = time.perf_counter() - start
            history.append(row)
            best.update(epoch, row, model, train, user_emb.float(),
                        item_emb.float())
            _report(bar, row, best)
            if protocol == 'strict' and epoch - best.epoch >= patience:
                break
    except KeyboardInterrupt:
        if len(history) == 0:
            raise
        logger.warning('Interrupted after %d epochs; the best one, %d, is '
                       'kept', len(history), best.epoch)
    finally:
        bar.close()

    best.restore(model, train)
    metrics: Dict[str, Any] = {
        name: _evaluate(best.user_emb, best.item_emb, splits, name, top_k,
                        protocol)
        for name in ['val', 'test'] if name in splits
    }
    metrics.update(best_epoch=best.epoch, protocol=protocol,
                   cold_users=_cold_users(splits))
    labels = {name: _labels(split) for name, split in splits.items()
              if name != 'train'}
    run = to_run(model, train, labels, config, metrics, history, best.user_emb,
                 best.item_emb)
    if out is not None:
        save_run(run, out, overwrite)
    return run


def _splits(data: Sequence[HeteroData]) -> Dict[str, HeteroData]:
    splits = dict(zip(['train', 'val', 'test'], data, strict=False))
    for split in splits.values():
        check_data(split)
    # Training writes generated edges to the graph, which is not to change.
    train = splits.pop('train').clone()
    return {'train': train, **{name: split for name, split in splits.items()
                               if _labels(split).size(1) > 0}}


def _labels(split: HeteroData) -> Tensor:
    store = split[INTERACTS]
    edge_label_index = store.get('edge_label_index',
                                 store.edge_index.new_empty(2, 0))
    if 'edge_label' in store:  # `RandomLinkSplit` adds negatives.
        edge_label_index = edge_label_index[:, store.edge_label > 0]
    return edge_label_index


def _evaluate(user_emb: Tensor, item_emb: Tensor,
              splits: Dict[str, HeteroData], name: str, top_k: int,
              protocol: str) -> Dict[str, float]:
    train = splits['train']
    also = None
    if name == 'test' and protocol == 'strict' and 'val' in splits:
        also = _labels(splits['val'])
    exclude = known_items(train[INTERACTS].edge_index, train[USER].num_nodes,
                          train[ITEM].num_nodes, also)
    return evaluate(user_emb, item_emb, _labels(splits[name]), exclude,
                    [top_k])


def _cold_users(splits: Dict[str, HeteroData]) -> Dict[str, int]:
    # Users that are evaluated, but have no training edge to learn from.
    train = splits['train']
    known = torch.zeros(train[USER].num_nodes, dtype=torch.bool,
                        device=train[INTERACTS].edge_index.device)
    known[train[INTERACTS].edge_index[0]] = True
    return {name: int((~known[_labels(split)[0].unique()]).sum())
            for name, split in splits.items() if name != 'train'}


def _accelerator(device: Optional[str]) -> Any:
    try:
        from accelerate import Accelerator
    except ImportError as e:
        raise MissingExtraError('accelerate', 'train', 'to train') from e
    return Accelerator(cpu=device is not None and device.startswith('cpu'))


def _autocast(device: torch.device, precision: str) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16,
                          enabled=precision == 'bf16')


def _run_phase(phase: Phase, optimizer: Any, key: Sequence[int],
               batch_size: int, accelerator: Any, device: torch.device,
               precision: str, bar: tqdm) -> Dict[str, float]:
    if phase.begin is not None:
        with _autocast(device, precision):
            phase.begin(tuple(key))
    generator = keyed_generator(*key)
    perm = torch.randperm(phase.num_examples, generator=generator).to(device)
    batches = perm.split(batch_size)
    totals: Dict[str, Tensor] = {}
    for step, index in enumerate(batches):
        with _autocast(device, precision):
            losses = phase.loss(index, batch_size, (*key, step))
        optimizer.zero_grad()
        accelerator.backward(losses['loss'])
        optimizer.step()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.) + value.detach()
        bar.set_description(f'{phase.name} {step + 1}/{len(batches)}')
    means = {f'{phase.name}/{name}': float(total) / len(batches)
             for name, total in totals.items()}
    if not math.isfinite(means[f'{phase.name}/loss']):
        raise RunError(f"The loss of phase '{phase.name}' is not finite in "
                       f"epoch {key[1]}; lower 'lr' (or look for extreme "
                       f"features), and train again")
    return means


def _report(bar: tqdm, row: Dict[str, float], best: Best) -> None:
    shown = {name: value for name, value in row.items()
             if name.endswith('/loss') or name == best.metric}
    bar.set_postfix({name: f'{value:.4g}' for name, value in shown.items()})
    bar.update()
    logger.info('epoch %d: %s', row['epoch'], ', '.join(
        f'{name} {value:.4f}' for name, value in shown.items()))
