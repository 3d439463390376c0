import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

from _experiments.models import (  # noqa: E402
    build,
    load_description,
    model_names,
    override,
    resolve,
)
from _tuning.propose import propose  # noqa: E402
from _tuning.spaces import (  # noqa: E402
    check_space,
    contains,
    find_model,
    load_space,
    rounded,
    space_names,
    values_of,
)
from diffmm_pyg.datasets import FakeMultiModalRec  # noqa: E402
from diffmm_pyg.errors import ConfigError  # noqa: E402


def test_proposals_learn():
    space = {'model.x': {'uniform': [0., 1.]}, 'model.y': {'choice': [1, 2]}}
    rows = [{'trial': i, 'set': {'model.x': i / 30, 'model.y': 1},
             'value': -abs(i / 30 - 0.3)} for i in range(30)]

    def following(rows, number=30, seed=0, current=(0.5, 1)):
        return propose(space, dict(zip(space, current)), rows, number, seed)

    assert following(rows) == following(rows[::-1])
    near = [following(rows, seed=seed)['model.x'] for seed in range(5)]
    assert max(abs(x - 0.3) for x in near) < 0.2
    assert len(set(near)) == 5
    # Failures, and a description that is outside of the space, are no help:
    failed = [{'trial': i, 'set': {'model.x': 0.9, 'model.y': 1},
               'error': ''} for i in range(30, 33)]
    outside = [{'trial': 33, 'set': {}, 'value': 1.}]
    assert following(rows + outside, current=(2., 1)) == following(rows)
    assert 'model.x' in following(rows + failed)
    assert following([], number=0) == {}


def test_values_are_rounded_within_bounds():
    space = {'a': {'log': [0.00012344, 1.]}, 'b': {'choice': [0.123456]},
             'c': {'log_int': [1, 10**6]}}
    assert rounded(space, {'a': 0.000123441, 'b': 0.123456, 'c': 123456}) == {
        'a': 0.00012344, 'b': 0.123456, 'c': 123456}
    assert rounded(space, {'a': 0.1234567})['a'] == 0.1235


def test_models_are_found_by_name_and_title():
    for name in space_names():
        title = load_description(name)['title']
        assert [find_model(x) for x in [name, title, title.upper()]] == \
            [name] * 3
    with pytest.raises(ConfigError, match="in a model 'popularity'; choose "
                       "among bm3, bpr_mf, "):
        find_model('popularity')


def test_every_model_that_can_be_tuned_has_a_space():
    assert set(space_names()) == set(model_names()) - {
        'popularity', 'reference'}
    for name in space_names():
        config = resolve(load_description(name), 'tiktok')
        train = FakeMultiModalRec(30, 20, num_blocks=2)[0]
        learns = len(build(config, train).phases(train)) > 0
        assert learns == ('training.lr' in load_space(name))
    assert set(load_space('strict')) >= {
        'model.num_layers', 'model.k', 'model.weight_scale',
        'model.ssl_weight', 'model.denoiser_passes', 'model.denoiser_weight',
        'model.drift_weight', 'diffusion.msi_weight'}


@pytest.mark.parametrize('name', space_names())
def test_spaces_name_what_there_is(name):
    data = FakeMultiModalRec(30, 60, num_blocks=2)[0]
    space, description = load_space(name), load_description(name)
    for dataset in ['tiktok', 'baby']:
        check_space(space, description, dataset)
    for pick in [0, -1]:
        ends = {key: list(option.values())[0][pick]
                for key, option in space.items()}
        assert contains(space, ends)
        config = resolve(override(description, ends), 'tiktok')
        assert values_of(config, space) == ends
        build(config, data)
        for key, option in space.items():  # Types, too: there is no 1.5 layer.
            if list(option) in [['log'], ['uniform']]:
                assert isinstance(values_of(config, space)[key], float)


@pytest.mark.parametrize('space,message', [
    ({'model.nothing': {'int': [1, 2]}}, "'DiffMM' has no 'nothing'"),
    ({'title': {'choice': ['x']}}, "'title' is no hyper-parameter"),
    ({'model.k': {'log': [1.5, 2.5]}}, "'DiffMM.k' must be of type int"),
    ({'model.k': {'between': [1, 2]}}, "the values of one of log, uniform"),
    ({'model.k': {'int': [2, 1]}}, "the smaller one first"),
    ({'model.k': {'choice': []}}, "the values of one of log"),
    ({'models.0.k': {'int': [1, 2]}}, "'models.0.k' names nothing that can"),
])
def test_bad_spaces_are_refused(space, message):
    with pytest.raises(ConfigError, match=message):
        check_space(space, load_description('strict'), 'fake')
