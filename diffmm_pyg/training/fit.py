import math
from typing import Any, Dict, Literal, Optional, Sequence

import torch
from tqdm import tqdm

from diffmm_pyg.errors import ConfigError, LostProcessError
from diffmm_pyg.nn.models import Recommender
from diffmm_pyg.runs import Run, check_out, describe_training, to_run
from diffmm_pyg.training.device import deterministic_algorithms, find_device
from diffmm_pyg.training.keeper import Keeper
from diffmm_pyg.training.splits import Splits
from diffmm_pyg.training.state import TrainingState
from diffmm_pyg.training.trainer import Trainer
from diffmm_pyg.utils.checks import check_choice
from diffmm_pyg.utils.interrupt import Interrupted, Signals, uninterrupted
from diffmm_pyg.utils.processes import Processes
from torch_geometric.data import HeteroData


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
    resume: bool = False,
    checkpoint_minutes: float = 10.,
    checkpoint_epochs: bool = True,
    on_nan: Literal['stop', 'skip'] = 'stop',
    deterministic: bool = False,
    progress: bool = True,
    origin: Optional[Dict[str, Any]] = None,
) -> Run:
    r"""Trains a recommender and returns the run, with the parameters and
    graphs of its best epoch.

    Ctrl-C and SIGTERM end it after the current step, with a checkpoint in
    :obj:`out` and the model of the best epoch so far, by
    :obj:`Interrupted`, a :class:`KeyboardInterrupt`.

    Where :obj:`torchrun` has started several processes that all call this
    function, they share the work of every batch, of generation and of
    evaluation, and all return the run; the first one alone writes and shows
    progress. Nothing is drawn by their number: up to rounding, the run is that
    of a single process, and a training may go on with another number.

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
            there is one, of which each of several processes takes one.
            (default: :obj:`None`)
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
            :obj:`out` is replaced when this one has finished.
            (default: :obj:`False`)
        resume (bool, optional): If set to :obj:`True`, goes on with the
            training in :obj:`out` if there is one, bit for bit as if it had
            not been interrupted. Only :obj:`epochs`, :obj:`patience`,
            :obj:`on_nan` and what tells when to write checkpoints may be
            others than before; a finished training goes on if there are more
            epochs. (default: :obj:`False`)
        checkpoint_minutes (float, optional): The time after which a
            checkpoint is written to :obj:`out` within an epoch.
            (default: :obj:`10.`)
        checkpoint_epochs (bool, optional): If set to :obj:`False`, an epoch
            does not end with a checkpoint either, but for the last one, unless
            :obj:`checkpoint_minutes` have passed: for models that take longer
            to write than to train for an epoch. (default: :obj:`True`)
        on_nan (str, optional): What to do where a loss is NaN or infinite:
            end with an error (:obj:`"stop"`), or leave the batch out and
            count it in the history (:obj:`"skip"`). The latter makes the host
            wait for the device at every step. (default: :obj:`"stop"`)
        deterministic (bool, optional): If set to :obj:`True`, torch uses
            algorithms only that give the same bits every time, which matters
            on a GPU. (default: :obj:`False`)
        progress (bool, optional): If set to :obj:`False`, shows no progress
            bar. (default: :obj:`True`)
        origin (Dict, optional): What the run is to record of where it comes
            from. (default: :obj:`None`)

    Raises:
        ConfigError: If an argument has no usable value, or is not that of the
            training to go on with.
        DataError: If :obj:`data` does not hold what it must hold.
        RunError: If :obj:`out` cannot be used, memory runs out, or the loss is
            not finite.
        LostProcessError: If another process has ended.
    """
    config = dict(epochs=epochs, batch_size=batch_size, lr=lr,
                  patience=patience, top_k=top_k, seed=seed,
                  precision=precision, protocol=protocol,
                  watch_test=watch_test, on_nan=on_nan,
                  deterministic=deterministic,
                  checkpoint_minutes=checkpoint_minutes,
                  checkpoint_epochs=checkpoint_epochs)
    check_config(config)
    if out is not None:
        check_out(out, overwrite, resume)
    elif resume:
        raise ConfigError("To go on with a training, 'out' must name its "
                          "folder")
    splits = Splits(data, protocol, top_k, watch_test)
    processes = Processes.launched()
    accelerator, place = find_device(device)
    processes.wait()  # Until all have looked at the folder.
    model, splits = model.to(place), splits.to(place)
    description = describe_training(model, splits.train, splits.labels, config,
                                    origin or {})
    state = TrainingState(model, splits.train, splits.selection_metric)
    state.optimizers = [
        accelerator.prepare(torch.optim.Adam(p.parameters, lr, fused=True))
        for p in state.phases
    ]
    limits = (epochs if len(state.phases) > 0 else 1,
              patience if protocol == 'strict' else math.inf)
    with (processes.sharing(),
          Keeper(state, description, out, checkpoint_minutes,
                 checkpoint_epochs, processes) as keeper):
        keeper.begin(resume)
        with (deterministic_algorithms(deterministic),
              Signals(processes) as signals,
              _progress_bar(limits[0], state.epoch,
                            progress and processes.is_first) as bar):
            trainer = Trainer(state, splits, accelerator, seed, batch_size,
                              precision, on_nan, signals, keeper, processes,
                              bar)
            try:
                while not state.is_done(*limits):
                    trainer.run_epoch()
            except Interrupted as e:
                with uninterrupted():
                    keeper.keep()
                    processes.wait()  # One that has ended would end others.
                    state.restore_best()
                raise Interrupted(e.signum, keeper.advice()) from None
            except LostProcessError as e:
                raise LostProcessError(f'{e}; {keeper.advice()}') from e
        with uninterrupted(), deterministic_algorithms(deterministic):
            keeper.keep_last()
            run = _finish(state, splits, description, keeper)
            processes.wait()  # Until the run is written.
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
    if not 0 <= config['checkpoint_minutes'] < math.inf:
        raise ConfigError(f"'checkpoint_minutes' must be finite and not "
                          f"negative (got {config['checkpoint_minutes']})")
    check_choice('on_nan', config['on_nan'], ['stop', 'skip'])
    check_choice('precision', config['precision'], ['fp32', 'bf16'])
    check_choice('protocol', config['protocol'], ['strict', 'paper'])


def _progress_bar(epochs: int, epoch: int, enabled: bool) -> tqdm:
    return tqdm(total=epochs, initial=epoch, unit='epoch',
                disable=None if enabled else True)


def _finish(state: TrainingState, splits: Splits, description: Dict[str, Any],
            keeper: Keeper) -> Run:
    r"""Sets the model back to its best epoch and writes the run, unless that
    was done before.
    """
    embeddings = state.restore_best()
    assert embeddings is not None
    metrics = {name: splits.evaluate(name, *embeddings)
               for name in splits.labels}
    run = to_run(description, state.model, state.data, splits.labels, {
        **metrics,
        'best_epoch': state.best.epoch + 1,
        'protocol': splits.protocol,
        'cold_users': splits.cold_users(),
    }, state.history, *embeddings)
    keeper.finish(run)
    return run
