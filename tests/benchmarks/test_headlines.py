import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

from _experiments.plan import Entry  # noqa: E402
from _reports.figures import looks  # noqa: E402
from _reports.headlines import headlines  # noqa: E402
from _reports.report import count  # noqa: E402
from _reports.summary import Comparison, Result, Summary  # noqa: E402
from _reports.tables import accuracy_table, cost_table  # noqa: E402


def make_result(label, role='baseline', recall=0.1, **row):
    metrics = {'recall@20': recall, 'ndcg@20': recall / 2}
    return Result(Entry(label, label, {'role': role}), [
        {'metrics': {'val': metrics, 'test': metrics}, **row}], None)


def make_summary(results, base, **differences):
    r"""The difference to :obj:`base` in recall, and its p-value, by label."""
    values = {label: (mean, 0., 0., p)
              for label, (mean, p) in differences.items()}
    comparisons = [Comparison(base, {'recall': values,
                                     'ndcg': dict(values)})]
    return Summary('fake', {}, results, comparisons, {}, [])


def test_the_best_baseline_is_named_once():
    best, ours = make_result('EASE'), make_result('Ours', 'ours', 0.09)
    assert headlines(make_summary([best, ours], best, Ours=(-.01, .2))) == [
        'Best on validation: EASE, with Recall@20 0.1000 and NDCG@20 0.0500 '
        'on test.',
        'Ours, compared with EASE: Recall@20 -10.0%, which may be chance '
        '(p = 0.200); NDCG@20 -20.0%, which may be chance (p = 0.200).']


def test_ours_is_best():
    ours, base = make_result('Ours', 'ours', 0.11), make_result('EASE')
    assert headlines(make_summary([ours, base], base, Ours=(.01, .0004))) == [
        'Best on validation: Ours, with Recall@20 0.1100 and NDCG@20 0.0550 '
        'on test.',
        'The best baseline there: EASE, with Recall@20 0.1000 and NDCG@20 '
        '0.0500 on test.',
        'Ours, compared with EASE: Recall@20 +10.0% (p = 0.0004); NDCG@20 '
        '+20.0% (p = 0.0004).']


def test_a_baseline_that_is_not_the_best_is_not_called_so():
    results = [make_result('Ours', 'ours', 0.11),
               make_result('EASE', recall=.1),
               make_result('Popularity', recall=.05)]
    assert headlines(make_summary(results, results[2], Ours=(.06, .01),
                                  EASE=(.05, .01)))[1] == (
        'Compared with: Popularity, with Recall@20 0.0500 and NDCG@20 0.0250 '
        'on test.')


def test_ablations_are_grouped():
    results = [make_result(x, 'ours') for x in 'ABCDEF']
    results.append(make_result('EASE'))
    summary = make_summary(
        results, results[1], A=(.02, .01), C=(-.01, .01), D=(-.01, .05),
        E=(.01, .3), F=(-.02, .04), EASE=(-.03, .01))
    for label, ndcg in [('F', (-.001, .2)), ('A', (.02, .01))]:
        summary.comparisons[0].values['ndcg'][label] = (
            ndcg[0], 0., 0., ndcg[1])
    assert headlines(summary) == [
        'Best on validation: A, with Recall@20 0.1000 and NDCG@20 0.0500 on '
        'test.',
        'Compared with: B, with Recall@20 0.1000 and NDCG@20 0.0500 on test.',
        'Compared with B, Recall@20 better and NDCG@20 better: A (+20.0%, '
        '+40.0%).',
        'Compared with B, Recall@20 not told apart and NDCG@20 not told '
        'apart: D (-10.0%, -20.0%), E (+10.0%, +20.0%).',
        'Compared with B, Recall@20 worse and NDCG@20 not told apart: F '
        '(-20.0%, -2.0%).',
        'Compared with B, Recall@20 worse and NDCG@20 worse: C (-10.0%, '
        '-20.0%), EASE (-30.0%, -60.0%).']
    del results[-1]
    assert accuracy_table_of(results).strong == ()  # All are ours.


def test_of_many_models_all_of_ours_are_named():
    def last(count, ours=''):
        results = [make_result(x, 'ours' if x in f'A{ours}' else 'baseline')
                   for x in 'ABCDEFGHIJ'[:count + 1]]
        line = headlines(make_summary(results, results[0], **{
            x.label: (-.01, .01) for x in results[1:]}))[-1]
        return line.replace(' (-10.0%, -20.0%)', '').split(': ')[1]

    assert last(6) == 'B, C, D, E, F, G.'
    assert last(8) == 'B, C, D, E, F and 3 more.'
    assert last(9, ours='CHI') == 'B, C, D, E, F, H, I and 2 more.'
    assert last(9, ours='BCDEFGHIJ') == 'B, C, D, E, F, G, H, I, J.'


def accuracy_table_of(results):
    for result in results:
        result.users = {'recall': result.values('recall@20'),
                        'ndcg': result.values('ndcg@20')}
    return accuracy_table(Summary('fake', {}, results, [], {}, []))


def test_bold_rows_are_explained():
    table = accuracy_table_of([make_result('EASE'),
                               make_result('Ours', 'ours')])
    assert table.strong == [1] and table.note == 'Bold: our models.'


def test_no_two_models_look_alike():
    results = [make_result(f'model {i}') for i in range(60)]
    results.append(make_result('Ours', 'ours'))
    out = looks(make_summary(results, results[7]))
    assert len({(x.color, x.marker) for x in out.values()}) > 56
    assert len({(x.color, x.marker, x.style) for x in out.values()}) == 61
    assert [label for label, x in out.items() if x.stands_out] == [
        'Ours', 'model 7']


@pytest.mark.parametrize('first', [0, 1])  # 0 in older results
def test_kept_epochs_count_from_one(first):
    history = [{'epoch': first + i, 'seconds': 1.} for i in range(5)]
    result = make_result('A', history=history, best_epoch=first + 2,
                         training_seconds=10., peak_bytes=2**21, parameters=3,
                         config={'training': {'precision': 'bf16'}})
    assert result.epochs == [(3, 5)]
    result.rows.append({**result.rows[0], 'best_epoch': first,
                        'history': history[:2]})
    table = cost_table(Summary('fake', {}, [result], [], {}, []))
    # Parts of a fusion may have been trained before its epochs:
    assert table.rows[0][1:] == ['10 s', 'bf16', '1.00', '3/5, 1/2', '2', '3']


def test_counts():
    assert [count(1, 'thread'), count(2000, 'process')] == [
        '1 thread', '2,000 processes']
