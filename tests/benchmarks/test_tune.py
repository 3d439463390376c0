import json
import sys
from pathlib import Path

import numpy as np
import pytest
import stub_trial

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / 'benchmarks'))

import tune  # noqa: E402
from _experiments.models import (  # noqa: E402
    load_description,
    override,
    resolve,
)
from _experiments.store import Trials  # noqa: E402
from _tuning.propose import import_optuna  # noqa: E402
from _tuning.search import make_searches  # noqa: E402
from _tuning.spaces import contains, load_space  # noqa: E402
from diffmm_pyg.errors import MissingExtraError  # noqa: E402

MODELS = ['ease', 'ease_content', 'late_fusion']


@pytest.fixture
def search(tmp_path, monkeypatch):
    r"""Searches for the models above in processes that train nothing."""
    monkeypatch.setattr('_tuning.search.run_trial', stub_trial.run_trial)
    monkeypatch.setattr('_tuning.propose.NUM_RANDOM', 2)

    def run(name, *options, trials=5, **actions):
        monkeypatch.setenv('STUB', json.dumps(
            {k.replace('__', '-'): v for k, v in actions.items()}))
        only = [x for model in MODELS for x in ['--only', model]]
        return tune.main(['--quick', '--out', str(tmp_path / name), *only,
                          '--jobs', '1', '--trials', str(trials), *options])

    run.rows = lambda name: list(Trials(tmp_path / name).rows().values())
    run.calls = lambda name: (tmp_path / name / 'calls').read_text().split()
    run.tuned = lambda name, model: json.loads(
        (tmp_path / name / 'tuned' / f'{model}.json').read_text())
    return run


def tried(rows):
    return {(r['model'], r['trial']): (r['set'], r.get('value'))
            for r in rows}


def test_a_resumed_search_tries_the_same(search, capsys):
    assert search('whole') == 0
    whole = search.rows('whole')
    assert [(r['model'], r['trial']) for r in whole] == [
        (model, trial) for trial in range(5) for model in MODELS]
    for row in whole:
        space = load_space(row['model'])
        assert row['set'] == {} if row['trial'] == 0 else \
            set(row['set']) == set(space) and contains(space, row['set'])
    assert len({json.dumps(r['set']) for r in whole}) == 1 + 4 * len(MODELS)

    assert search('parts', ease_content__2='interrupt') == 130
    assert search.calls('parts')[-1] == 'ease_content-2'
    assert len(search.rows('parts')) == 7
    assert 'the same command goes on' in capsys.readouterr().err
    assert search('parts', trials=4) == 0
    assert search.calls('parts')[8] == 'ease_content-2'
    assert search('parts', '--jobs', '3') == 0
    assert len(search.calls('parts')) == 16  # One was tried twice.
    assert tried(search.rows('parts')) == tried(whole)
    assert search('parts') == 0
    assert len(search.calls('parts')) == 16


def test_other_searches_share_no_trials(search):
    assert search('a', trials=2) == 0
    assert search('a', '--seed', '1', trials=2) == 0
    assert search('a', '--folds', '2', trials=2) == 0
    rows = search.rows('a')
    assert len(rows) == 18 and len({r['search'] for r in rows}) == 9
    reg = {r['seed']: r['set']['model.reg'] for r in rows
           if r['model'] == 'ease' and r['trial'] == 1}
    assert reg[0] != reg[1]
    assert [len(r['folds']) for r in rows] == [1] * 12 + [2] * 6


def test_learning_from_earlier_searches(search, tmp_path):
    assert search('a', trials=12, ease__3='fail') == 0
    assert search('a', '--folds', '2', trials=1) == 0
    log = tmp_path / 'a' / 'trials.jsonl'
    rows = [r for r in search.rows('a') if r['model'] == 'ease']
    assert len(rows) == 13

    def like(row, key, **changes):
        config = override(row['config'], changes)
        return {**row, 'key': key, 'config': config}

    others = [{**rows[0], 'key': 'old', 'config': {'model': {}}},
              {**rows[0], 'key': 'data', 'data_hash': 'x'}, {'key': 'x'},
              {**rows[0], 'key': 'final', 'final': True},
              like(rows[0], 'model', **{'class': 'EASEContent'})]
    longer = like(rows[1], 'longer', **{'training.patience': 99})
    with log.open('a') as f:
        f.writelines(json.dumps(x) + '\n' for x in [*others, longer])
    ease, = make_searches(['ease'], 'fake', None, tune.QUICK, 1, 0, log)
    assert ease.earlier == [
        {'trial': -1, 'set': {'model.reg': r['config']['model']['reg']},
         'value': r['value']}
        for r in [*rows, longer]
        if 'error' not in r and len(r['folds']) == 1]
    assert len(ease.earlier) == 12

    # The first one is the description still, the second not at random:
    assert search('b', '--learn-from', str(log), trials=4) == 0
    assert search('c', trials=4) == 0
    learned, blind = ([r['set'].get('model.reg') for r in search.rows(x)
                       if r['model'] == 'ease'] for x in 'bc')
    assert learned[0] is None and len(set(learned + blind)) == 7
    assert np.log(learned[1:]).mean() < np.log(blind[1:]).mean() - 1
    assert search('b', '--learn-from', str(tmp_path / 'none')) == 1


def test_what_is_found(search, capsys):
    assert search('a', '--folds', '2', '--seed', '3') == 0
    printed = capsys.readouterr().out
    rows = [r for r in search.rows('a') if r['model'] == 'ease']
    best = min(rows, key=lambda r: r['config']['model']['reg'])
    found = search.tuned('a', 'ease')
    reg = best['config']['model']['reg']
    assert found['value'] == pytest.approx(0.1 / (1 + reg) + 0.005)
    assert found['standard_error'] == pytest.approx(0.005)
    assert found['as_described'] == pytest.approx(0.1 / 51 + 0.005)
    assert found['set'] == best['set'] and found['seed'] == 3
    assert found['budget'] == {'trials': 5, 'failed': 0, 'folds': 2,
                               'timeouts': [], 'seconds': 5.,
                               'seconds_of_finals': 0}
    assert f"EASE {'-':>28} {found['value']:8.4f}   0.0050" in printed
    # It is all that was tried, without the short trainings of '--quick':
    for model in MODELS:
        found = search.tuned('a', model)
        row = next(r for r in search.rows('a') if r['model'] == model
                   and r['trial'] == found['trial'])
        assert found['tuned']['set'].items() >= found['set'].items()
        assert found['tuned']['trials'] == 5
        description = {**load_description(model),
                       'tuned': {'fake': found['tuned']}}
        config = resolve(description, 'fake')
        assert config['training']['epochs'] > tune.QUICK['training.epochs']
        for x in [config, row['config']]:
            del x['training']
            for part in x.get('models', []):
                part.pop('training', None)
        assert config == row['config']
    # Fewer trials are judged by themselves:
    assert search('a', '--folds', '2', '--seed', '3', trials=1) == 0
    assert search.tuned('a', 'ease')['set'] == {}
    assert search.tuned('a', 'ease')['standard_error'] is not None


def test_finals(search, capsys):
    assert search('a', '--finalists', '2') == 0
    finals = [r for r in search.rows('a') if 'final' in r]
    # Closed forms need none:
    assert {r['model'] for r in finals} == {'late_fusion'}
    trials = [r for r in search.rows('a') if 'final' not in r
              and r['model'] == 'late_fusion']
    best = sorted(trials, key=lambda r: -r['value'])[:2]
    assert trials[0] not in best  # It is the description, and in the finals.
    assert [(r['seed'], r['trial']) for r in finals] == [
        (seed, r['trial']) for seed in range(1001, 1006)
        for r in [*best, trials[0]]]
    for r in finals:
        assert r['config'] == trials[r['trial']]['config']

    found = search.tuned('a', 'late_fusion')
    values = {t: [r['value'] for r in finals if r['trial'] == t]
              for t in {r['trial'] for r in finals}}
    order = sorted(values, key=lambda t: -np.mean(values[t]))
    assert [x['trial'] for x in found['finals']] == order
    assert [x['values'] for x in found['finals']] == [
        values[t] for t in order]
    first = found['finals'][0]
    assert first['value'] == pytest.approx(np.mean(values[order[0]]))
    assert first['standard_deviation'] == pytest.approx(
        np.std(values[order[0]], ddof=1))
    assert found['trial'] == order[0] != best[0]['trial']
    assert found['value'] == trials[order[0]]['value']
    printed = capsys.readouterr().out
    assert f'Late fusion, trial {best[0]["trial"]}, seed 1001: val' in printed
    line, = [x for x in printed.splitlines() if x.startswith('Late fusion ')]
    assert line.split()[2] == f"{first['value']:.4f}" != '0.0000'
    assert line.split()[3] == f"{found['value']:.4f}"
    assert line.endswith(' 20 s')  # 5 trials, and 5 times 3

    # Nobody wins because another failed:
    name = f'late_fusion__{order[0]}__1003'
    assert search('b', '--finalists', '2', **{name: 'fail'}) == 1
    failed = search.tuned('b', 'late_fusion')
    assert failed['finals'] == [] and failed['trial'] == best[0]['trial']
    assert (f'FAILED: Late fusion, trial {order[0]}, seed 1003: no finals'
            in capsys.readouterr().out)
    num_calls = len(search.calls('b'))
    assert search('b', '--finalists', '2') == 0
    assert search.calls('b')[num_calls:] == [name.replace('__', '-')]
    assert search.tuned('b', 'late_fusion')['finals'] == found['finals']
    assert search('b', '--finalists', '1', trials=1) == 0
    assert search.tuned('b', 'late_fusion')['finals'] == []  # Nobody else
    assert search('b') == 0  # Without finals, the best trial counts.
    assert search.tuned('b', 'late_fusion')['trial'] == best[0]['trial']


def test_failed_trials_count(search, capsys):
    actions = {f'ease_content__{i}': 'fail' for i in range(3)}
    assert search('a', trials=3, ease__1='fail', **actions) == 1
    errors = [(r['model'], r['trial']) for r in search.rows('a')
              if r.get('error') == 'RuntimeError: the reason']
    assert len(errors) == 4 and ('ease', 1) in errors
    failed = next(r for r in search.rows('a') if 'error' in r)
    assert set(failed['set']) <= set(load_space(failed['model']))
    printed = capsys.readouterr().out
    assert 'fake, EASE, trial 1: FAILED, RuntimeError: the reason' in printed
    assert "FAILED: no trial of 'ease_content' succeeded" in printed
    assert search.tuned('a', 'ease')['budget']['failed'] == 1
    with pytest.raises(FileNotFoundError):
        search.tuned('a', 'ease_content')
    # They are tried again, and the search goes on:
    assert search('a', trials=4) == 0
    assert search.calls('a')[9:] == [
        'ease_content-0', 'ease-1', 'ease_content-1', 'ease_content-2',
        *(f'{model}-3' for model in MODELS)]
    assert search.tuned('a', 'ease')['budget']['failed'] == 0


def test_a_trial_over_its_time_has_failed(search, tmp_path):
    options = ['--only', 'ease', '--timeout-per-trial', '1']
    assert search('a', *options, trials=1, late_fusion__0='sleep') == 1
    row, = [r for r in search.rows('a') if 'error' in r]
    assert row['error'] == 'took longer than 1 s'
    assert row['model'] == 'late_fusion' and row['timeout'] == 1
    assert list(tmp_path.glob('a/trainings/*')) == []
    assert 1 <= row['seconds'] < 20
    assert search.tuned('a', 'ease')['budget']['timeouts'] == [1]


@pytest.mark.parametrize('argv,code,message', [
    (['--quick', '--only', 'popularity'], 1, "error: There is nothing to "),
    (['--quick', '--folds', '6'], 2, "error: '--folds': invalid choice: 6"),
    (['--quick', '--trials', '0'], 2, "error: '--trials': must be at least"),
    (['--quick', '--seed', '-1'], 2, "error: '--seed' must lie in 0..10,"),
    (['--quick', '--seed', '11'], 2, "error: '--seed' must lie in 0..10,"),
    (['--quick', '--dataset', 'baby'], 2, "error: '--dataset': not allowed"),
    ([], 1, "error: 'tiktok' is read from a folder; name the one"),
])
def test_bad_arguments_give_one_line(argv, code, message, monkeypatch,
                                     tmp_path, capsys):
    monkeypatch.delenv('DIFFMM_DATA', raising=False)
    monkeypatch.chdir(tmp_path)
    try:
        assert tune.main(argv) == code
    except SystemExit as e:
        assert e.code == code
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_optuna_is_an_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(MissingExtraError, match=r"diffmm_pyg\[tune\]"):
        import_optuna()
    assert tune.main(['--quick', '--out', str(tmp_path / 'a')]) == 1
    assert "error: 'optuna' is needed" in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()
