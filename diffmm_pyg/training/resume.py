import json
import logging
from typing import Any, Dict

from diffmm_pyg.errors import ConfigError

logger = logging.getLogger(__name__)

# What may change when a training goes on: no number of an epoch depends on it
# until it comes into effect.
FREE = {'epochs', 'patience', 'checkpoint_minutes', 'checkpoint_epochs',
        'on_nan'}


def check_same_training(stored: Dict[str, Any],
                        config: Dict[str, Any]) -> None:
    r"""Checks that a training may go on from what another process left.

    Args:
        stored (Dict): What :meth:`~diffmm_pyg.runs.describe_training`
            returned then.
        config (Dict): What it returns now.

    Raises:
        ConfigError: If data, model or an option has changed.
    """
    config = json.loads(json.dumps(config))
    if stored['data'] != config['data']:
        raise ConfigError("The data is not what the training began with; "
                          "give the same dataset, splits and modalities, or "
                          "train anew")
    for part in ['class', 'training', 'model', 'diffusion']:
        old, new = [_flat(part, x.get(part)) for x in (stored, config)]
        for name in sorted(old.keys() | new.keys()):
            if name not in FREE and old.get(name) != new.get(name):
                raise ConfigError(f"The training began with '{name}' of "
                                  f"{old.get(name)!r}; go on with the same "
                                  f"(got {new.get(name)!r}), or train anew")
    for part, names in [('origin', ['device', 'sparse_backend']),
                        ('versions', config['versions'])]:
        for name in names:
            old, new = stored[part].get(name), config[part].get(name)
            if old != new:
                logger.warning("The training began with '%s' of '%s', which "
                               "is '%s' now: numbers may differ in their last "
                               "bits", name, old, new)


def _flat(name: str, value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {name: value}
