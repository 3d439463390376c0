r"""A whole training on generated data, against stored numbers."""
import json
from pathlib import Path

import pytest
from small import small_data, small_fit

PATH = Path(__file__).parents[1] / 'golden' / 'training.json'


@pytest.mark.parametrize('preset', ['strict', 'reference'])
def test_training_is_that_of_before(preset):
    expected = json.loads(PATH.read_text())[preset]
    run = small_fit(small_data(), preset=preset, epochs=3, batch_size=64)
    for row, values in zip(run.history, expected['history'], strict=True):
        del row['seconds']
        assert row == pytest.approx(values, rel=1e-5)
    for name in ['val', 'test']:
        assert run.metrics[name] == pytest.approx(expected['metrics'][name])
    assert run.metrics['best_epoch'] == expected['metrics']['best_epoch']
