import logging
import math
import time
from contextlib import AbstractContextManager
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffmm_pyg.errors import ConfigError, MissingExtraError, RunError
from diffmm_pyg.nn.models import Phase, Recommender
from diffmm_pyg.runs import Run, check_out, free_folder, save_run, to_run
from diffmm_pyg.training.best import Best
from diffmm_pyg.training.splits import Splits
from diffmm_pyg.utils import RowEmbedding, UserEmbedding, keyed_generator
from diffmm_pyg.utils.checks import check_choice
from diffmm_pyg.utils.interrupt import uninterrupted
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
    watch_test: bool = False,
    out: Optional[str] = None,
    overwrite: bool = False,
    progress: bool = True,
    origin: Optional[Dict[str, Any]] = None,
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
        seed (int, optional): The seed of all random draws (from Python, but
            for those of the initial parameters). (default: :obj:`0`)
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
        watch_test (bool, optional): If set to :obj:`True`, the metrics on
            test are recorded after every epoch, too; nothing is chosen by
            them. (default: :obj:`False`)
        out (str, optional): The folder to write the run to.
            (default: :obj:`None`)
        overwrite (bool, optional): If set to :obj:`True`, a run in
            :obj:`out` is replaced. (default: :obj:`False`)
        progress (bool, optional): If set to :obj:`False`, shows no progress
            bar. (default: :obj:`True`)
        origin (Dict, optional): What the run is to record of where it comes
            from. (default: :obj:`None`)

    Raises:
        ConfigError: If an argument has no usable value.
        DataError: If :obj:`data` does not hold what it must hold.
        RunError: If :obj:`out` cannot be used, or the loss is not finite.
    """
    config = dict(epochs=epochs, batch_size=batch_size, lr=lr,
                  patience=patience, top_k=top_k, seed=seed,
                  precision=precision, protocol=protocol)
    check_config(config)
    if out is not None:
        check_out(out, overwrite)
    splits = Splits(data, protocol, top_k, watch_test)
    accelerator, place = _accelerator(device)
    model, splits = model.to(place), splits.to(place)
    phases = model.phases(splits.train)
    epochs = epochs if len(phases) > 0 else 1
    optimizers = [
        accelerator.prepare(torch.optim.Adam(p.parameters, lr, fused=True))
        for p in phases
    ]
    best = Best(splits.selection_metric)
    history: List[Dict[str, float]] = []
    bar = tqdm(total=epochs, unit='epoch', disable=None if progress else True)
    try:
        for epoch in range(epochs):
            start = time.perf_counter()
            row: Dict[str, float] = {'epoch': epoch + 1}
            model.train()
            for i, (phase, optimizer) in enumerate(
                    zip(phases, optimizers, strict=True)):
                row.update(_run_phase(
                    phase, optimizer, (seed, epoch, i), batch_size,
                    accelerator, place, precision, bar))
            embeddings = _embed(model, splits.train, place, precision, epoch)
            for name in splits.watched:
                metrics = splits.evaluate(name, *embeddings)
                row.update({f'{name}/{k}': v for k, v in metrics.items()})
            row['seconds'] = time.perf_counter() - start
            history.append(row)
            best.update(epoch, row, model, splits.train, embeddings)
            _report(bar, row, best)
            if protocol == 'strict' and epoch - best.epoch >= patience:
                break
    except KeyboardInterrupt:
        if best.epoch < 0:
            raise KeyboardInterrupt(
                'interrupted before there was anything to keep') from None
        logger.warning('Interrupted in epoch %d; epoch %d, the best so far, '
                       'is kept', len(history) + 1, best.epoch + 1)
    finally:
        bar.close()

    with uninterrupted():
        embeddings = best.restore(model, splits.train)
        model.data = splits.train
        run = to_run(model, splits.train, splits.labels, config, {
            **{name: splits.evaluate(name, *embeddings)
               for name in splits.labels},
            'best_epoch': best.epoch + 1,
            'protocol': protocol,
            'cold_users': splits.cold_users(),
        }, history, *embeddings, origin or {})
        if out is not None:
            save_run(run, out if overwrite else free_folder(out), overwrite)
    return run


def check_config(config: Dict[str, Any]) -> None:
    r"""Checks arguments of :meth:`~diffmm_pyg.fit`.

    Args:
        config (Dict[str, Any]): The arguments, by name.

    Raises:
        ConfigError: If one of them has no usable value.
    """
    for name in ['epochs', 'batch_size', 'patience', 'top_k']:
        if not 1 <= config[name] < 2**31:
            raise ConfigError(f"'{name}' must lie in 1..{2**31 - 1} "
                              f"(got {config[name]})")
    if not 0 <= config['lr'] < math.inf:
        raise ConfigError(f"'lr' must be finite and not negative "
                          f"(got {config['lr']})")
    if not 0 <= config['seed'] < 2**32:
        raise ConfigError(f"'seed' must lie in 0..{2**32 - 1} "
                          f"(got {config['seed']})")
    check_choice('precision', config['precision'], ['fp32', 'bf16'])
    check_choice('protocol', config['protocol'], ['strict', 'paper'])


def _accelerator(device: Optional[str]) -> Tuple[Any, torch.device]:
    try:
        from accelerate import Accelerator
    except ImportError as e:
        raise MissingExtraError('accelerate', 'train', 'to train') from e
    if device is not None and device.split(':')[0] not in ['cpu', 'cuda']:
        raise ConfigError(f"'device' must be 'cpu', 'cuda' or 'cuda:N' "
                          f"(got '{device}')")
    place = None
    try:
        if device is not None:
            place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(f"There is no device '{device}' that torch can use "
                          f"here; 'diffmm-pyg doctor' shows what there "
                          f"is") from e
    # Its state is that of the process: what differs between trainings, place
    # and precision, is therefore not its affair.
    accelerator = Accelerator(device_placement=False)
    if accelerator.num_processes > 1:
        raise ConfigError(f"A training is one process; start it without "
                          f"'torchrun' (got {accelerator.num_processes})")
    return accelerator, accelerator.device if place is None else place


def _autocast(device: torch.device,
              precision: str) -> AbstractContextManager[Any]:
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
        accelerator.backward(losses['loss'])
        optimizer.step()
        optimizer.zero_grad()  # Gradients are not to outlive their phase.
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.) + value.detach()
        bar.set_description(f'{phase.name} {step + 1}/{len(batches)}')
    means = {f'{phase.name}/{name}': float(total) / len(batches)
             for name, total in totals.items()}
    if not math.isfinite(means[f'{phase.name}/loss']):
        raise RunError(f"The loss of phase '{phase.name}' is not finite in "
                       f"epoch {key[1] + 1}; lower 'lr' (or look for extreme "
                       f"features), and train again")
    return means


@torch.no_grad()
def _embed(model: Recommender, data: HeteroData, device: torch.device,
           precision: str, epoch: int) -> Tuple[UserEmbedding, Tensor]:
    model.eval()
    with _autocast(device, precision):
        user_emb, item_emb = model.embed(data)
    tensors = [item_emb]
    if isinstance(user_emb, RowEmbedding):
        tensors += user_emb.tensors.values()
    else:
        user_emb = user_emb.float()
        tensors.append(user_emb)
    for emb in tensors:
        if not torch.isfinite(emb).all():
            raise RunError(f"The embeddings are not finite after epoch "
                           f"{epoch + 1}; lower 'lr' (or look for extreme "
                           f"features), and train again")
    return user_emb, item_emb.float()


def _report(bar: tqdm, row: Dict[str, float], best: Best) -> None:
    shown = {name: value for name, value in row.items()
             if name.endswith('/loss') or name == best.metric}
    bar.set_postfix({name: f'{value:.4g}' for name, value in shown.items()})
    bar.update()
    logger.info('epoch %d: %s', row['epoch'], ', '.join(
        f'{name} {value:.4f}' for name, value in shown.items()))
