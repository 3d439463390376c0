import json
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
from _experiments.plan import FOLDER, Cell, read_plan, select  # noqa: E402
from diffmm_pyg.datasets import FakeMultiModalRec  # noqa: E402
from diffmm_pyg.errors import ConfigError  # noqa: E402
from diffmm_pyg.presets import load_preset  # noqa: E402


def make_plan(path, **content):
    file = path / 'plan.json'
    file.write_text(json.dumps({'title': 'T', 'datasets': ['fake'],
                                'seeds': 2, 'models': ['strict'], **content}))
    return file


@pytest.mark.parametrize('name', ['quick', 'full'])
def test_plans_hold_all_models(name):
    plan = read_plan(FOLDER / f'{name}.json')
    assert {entry.base for entry in plan.entries} == set(model_names())
    assert {'strict', 'reference', 'ease', 'late_fusion'} <= set(model_names())
    closed = {e.label for e in plan.entries
              if e.description.get('deterministic')}
    assert 'EASE' in closed and 'LightGCN' not in closed
    seeds = {'quick': 2, 'full': 5}[name]
    for entry in plan.entries:
        mine = [c.seed for c in plan.cells if c.label == entry.label]
        # Settings were chosen with those below.
        assert mine == ([11] if entry.label in closed else
                        [*range(11, 11 + seeds)])


def test_known_numbers_are_those_of_known_models():
    cells = read_plan(FOLDER / 'known.json').cells
    found = {cell.label: cell.config['model'] for cell in cells}
    assert [len(cells), len(found)] == [6, 2]
    assert found['EASE, regularization 50']['reg'] == 50.
    assert found['LightGCN, 2 layers']['num_layers'] == 2


@pytest.mark.parametrize('name', model_names())
def test_every_description_builds_a_model(name):
    data = FakeMultiModalRec(30, 20, num_blocks=2)[0]
    config = resolve(load_description(name), 'tiktok')
    json.dumps(config)
    assert type(build(config, data)).__name__ == config['class']


def test_resolved_configs_hold_presets_and_defaults():
    for name in ['strict', 'reference']:
        preset = load_preset(name, 'baby')
        config = resolve(load_description(name), 'baby')
        for group in ['model', 'diffusion', 'training']:
            assert config[group].items() >= preset[group].items()
    assert config['model']['weight_scale'] == 1.  # A default
    assert config['model']['anchor'] == 'modality'  # For 'baby' only
    assert resolve(load_description('reference'),
                   'tiktok')['model']['anchor'] == 'main'
    assert sorted(config['training']) == ['batch_size', 'epochs', 'lr',
                                          'patience', 'precision']


def test_overrides_leave_the_original():
    base = {'model': {'k': 1}, 'models': ['a', {'model': {}}]}
    out = override(base, {'model.k': 2, 'training.lr': 0.1, 'models.0': 'b',
                          'models.1.model.reg': 3.})
    assert out == {'model': {'k': 2}, 'training': {'lr': 0.1},
                   'models': ['b', {'model': {'reg': 3.}}]}
    assert base == {'model': {'k': 1}, 'models': ['a', {'model': {}}]}


def test_what_was_tuned_holds_for_one_dataset():
    base = {
        'class': 'LateFusion', 'models': ['light_gcn', 'ease'],
        'tuned': {'a': {'set': {
            'training.lr': 0.5, 'models.0.model.num_layers': 4,
            'models.1.model.reg': 7.}}}}

    def values(description, dataset):
        config = resolve(description, dataset)
        return (config['training']['lr'],
                config['models'][0]['model']['num_layers'],
                config['models'][1]['model']['reg'])

    described = values({k: base[k] for k in ['class', 'models']}, 'b')
    assert values(base, 'b') == described
    assert values(base, 'a') == (0.5, 4, 7.)
    # Where a plan says otherwise, it is the plan that counts:
    other = override(base, {'training.lr': 0.25, 'models.1.model.reg': 3})
    assert values(other, 'a') == (0.25, 4, 3.)
    other = override(base, {'models.0': 'light_gcn', 'models.1': 'ease'})
    assert values(other, 'a') == (0.5, *described[1:])
    with pytest.raises(ConfigError, match="'LateFusion' has no 'x'"):
        resolve({**base, 'tuned': {'a': {'set': {'model.x': 1}}}}, 'a')


def test_parts_that_are_trained_by_themselves():
    base = {'class': 'LateFusion', 'models': ['light_gcn', 'mult_dae'],
            'model': {'trained': True}, 'training': {'batch_size': 7}}
    parts = resolve(base, 'tiktok')['models']
    alone = [resolve(load_description(name), 'tiktok')['training']
             for name in base['models']]
    assert alone[0] != alone[1]
    # What the fusion says holds for all of them:
    assert [part['training'] for part in parts] == [
        {**training, 'batch_size': 7} for training in alone]
    joint = resolve({**base, 'model': {}}, 'tiktok')
    assert joint['training']['batch_size'] == 7
    assert all('training' not in part for part in joint['models'])


@pytest.mark.parametrize('changes,message', [
    ({'modle.k': 1}, "A model has no 'modle'; choose among"),
    ({'model.kk': 1}, "'DiffMM' has no 'kk'; choose among"),
    ({'diffusion.steps': 1}, "'diffusion' has no 'steps'"),
    ({'training.top_k': 1}, "'training' has no 'top_k'"),
    ({'model.k': 1.5}, "'DiffMM.k' must be of type int .got 1.5."),
    ({'model.k': True}, "'DiffMM.k' must be of type int"),
    ({'model.normalize_msi': 1}, "must be of type bool"),
    ({'model.anchor': 'modalty'}, "'DiffMM.anchor' must be one of main, mod"),
    ({'training.lr': None}, "'training.lr' must be of type float .got None."),
    ({'class': 'Nothing'}, "There is no model class 'Nothing'"),
    ({'preset': 'x'}, "There is no preset 'x'"),
    ({'class.k': 1}, "'class.k' names nothing that can be set"),
])
def test_what_does_not_exist_is_refused(changes, message, tmp_path):
    file = make_plan(tmp_path, models=[{'base': 'strict', 'set': changes}])
    with pytest.raises(ConfigError, match=message):
        read_plan(file)


@pytest.mark.parametrize('content,message', [
    ({'models': ['nothing']}, "There is no model 'nothing'"),
    ({'models': ['strict', 'strict']}, "calls two models 'DiffMM strict'"),
    ({'models': [{'label': 'x'}]}, "A model of the plan lacks 'base'"),
    ({'models': [{'base': 'strict', 'seed': 1}]}, "plan has no 'seed'"),
    ({'models': [{'base': 'strict', 'set': ['model.k']}]},
     "A model of the plan needs an object of dotted keys as 'set'"),
    ({'models': [5]}, "A model of the plan must be an object .got 5."),
    ({'models': 'ease'}, "needs 'all' or a list of models as 'models'"),
    ({'datasets': ['fake', 'fake']}, "names 'fake' twice in 'datasets'"),
    ({'datasets': 'fake'}, "needs a list of names as 'datasets'"),
    ({'seeds': -1}, "needs a whole number of 1 or more as 'seeds' .got -1."),
    ({'seeds': '3'}, "as 'seeds' .got '3'."),
    ({'seeds': True}, "as 'seeds' .got True."),
    ({'max_epochs': 1.5}, "as 'max_epochs' .got 1.5."),
    ({'notes': 'hello'}, "needs a list of texts as 'notes'"),
    ({'compare_with': [1]}, "needs a list of labels as 'compare_with'"),
    ({'title': 5}, "needs a text as 'title'"),
    ({'compare_with': ['x']}, "'compare_with' must hold"),
    ({'modles': []}, "plan.json' has no 'modles'; choose among title"),
])
def test_bad_plans_are_refused(content, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_plan(make_plan(tmp_path, **content))


@pytest.mark.parametrize('key', ['title', 'datasets', 'seeds', 'models'])
def test_plans_hold_all_that_is_needed(key, tmp_path):
    file = make_plan(tmp_path)
    content = json.loads(file.read_text())
    del content[key]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"plan.json' lacks '{key}'"):
        read_plan(file)
    if key == 'seeds':  # They may be given elsewhere.
        assert [cell.seed for cell in read_plan(file, 3).cells] == [11, 12, 13]
    file.write_text('[]')
    with pytest.raises(ConfigError, match=r"must be an object .got \[\]."):
        read_plan(file)


def test_plans_may_set_something_for_all(tmp_path):
    file = make_plan(
        tmp_path, set={'training.lr': 0.5, 'model.k': 2}, max_epochs=3,
        models=['strict', {'base': 'strict', 'label': 'B',
                           'set': {'model.k': 3, 'training.epochs': 2}}])
    one, two = read_plan(file, seeds=1).cells
    assert one.config['training']['lr'] == two.config['training']['lr'] == 0.5
    assert (one.config['model']['k'], two.config['model']['k']) == (2, 3)
    assert one.config['training']['epochs'] == 3
    assert two.config['training']['epochs'] == 2


def test_keys_tell_what_changes_numbers(tmp_path, monkeypatch):
    def key(data_hash='0', seed=0, label='A', **changes):
        config = resolve(override(load_description('strict'), changes), 'fake')
        return Cell(label, 'fake', seed, config).key(data_hash)

    base = key()
    assert key(label='B') == base
    assert key(**{'training.lr': 1e-3, 'model.k': 5}) == base  # As preset.
    assert key(**{'model.weight_scale': 10}) == base  # And 10 is 10.0.
    others = [
        key('1'), key(seed=1), key(**{'model.k': 6}),
        key(**{'training.lr': 2e-3}), key(**{'diffusion.dropout': 0.4}),
        key(modalities=['image']),
    ]
    monkeypatch.setattr('diffmm_pyg.__version__', 'next')
    assert len({base, *others, key()}) == 8


def test_only(tmp_path):
    plan = read_plan(make_plan(
        tmp_path, datasets=['fake', 'tiktok'], seeds=1,
        models=['strict', 'reference', {
            'base': 'strict', 'label': 'DiffMM variant', 'set': {}}]))

    def names(*only):
        return [(c.dataset, c.label[7:]) for c in select(plan, only)]

    assert len(names()) == 6
    assert names('strict') == [('fake', 'strict'), ('tiktok', 'strict')]
    assert names('DiffMM Strict', 'tiktok') == [('tiktok', 'strict')]
    assert names('fake') == [('fake', 'strict'), ('fake', 'reference'),
                             ('fake', 'variant')]
    assert names('diffmm variant', 'fake') == [('fake', 'variant')]
    assert len(names('strict', 'reference')) == 4
