r"""What to try next."""
from types import ModuleType
from typing import Any, Dict, List

import numpy as np

from _experiments.store import Row
from _tuning.spaces import Space, contains, rounded
from diffmm_pyg.errors import MissingExtraError

NUM_RANDOM = 10  # The number of trials before there is anything to learn from.


def import_optuna() -> ModuleType:
    r"""Imports the library that proposes hyper-parameters.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import optuna
    except ImportError as e:
        raise MissingExtraError('optuna', 'tune',
                                'to search for hyper-parameters') from e
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def propose(space: Space, current: Dict[str, Any], rows: List[Row],
            number: int, seed: int) -> Dict[str, Any]:
    r"""Returns the values of a trial. They only depend on the arguments, so
    that a search may stop and go on anywhere.

    Args:
        space (Space): The values there are.
        current (Dict[str, Any]): Those of the description, which are the
            first trial.
        rows ([Row]): The finished and failed trials.
        number (int): The number of the trial.
        seed (int): The seed of the search.
    """
    if number == 0:
        return {}
    optuna = import_optuna()
    distributions = {key: _distribution(optuna, option)
                     for key, option in space.items()}
    state = np.random.SeedSequence((seed, number)).generate_state(1)
    study = optuna.create_study(
        direction='maximize', sampler=optuna.samplers.TPESampler(
            n_startup_trials=NUM_RANDOM, seed=int(state[0])))
    for row in sorted(rows, key=lambda row: row['trial']):
        params = {**current, **row['set']}
        if not contains(space, params):
            continue  # The description goes beyond the space.
        failed = 'error' in row
        study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState.FAIL if failed else
            optuna.trial.TrialState.COMPLETE, params=params,
            distributions=distributions,
            value=None if failed else row['value']))
    return rounded(space, study.ask(distributions).params)


def _distribution(optuna: ModuleType, option: Dict[str, List[Any]]) -> Any:
    (kind, values), = option.items()
    if kind == 'choice':
        return optuna.distributions.CategoricalDistribution(values)
    low, high = values
    if kind in ['int', 'log_int']:
        return optuna.distributions.IntDistribution(low, high,
                                                    log=kind == 'log_int')
    return optuna.distributions.FloatDistribution(low, high, log=kind == 'log')
