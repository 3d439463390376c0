import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from small import files, printed, small_data, small_fit, textbook_metrics

from diffmm_pyg.runs import load, save_run


@pytest.fixture
def shop(cli, folder):
    r"""A run on a folder with ids that are text; the folder is gone."""
    result = cli('train', '--data', folder, '--out', 'shop')
    assert result.code == 0
    shutil.rmtree(folder)
    return load('shop')


@pytest.fixture(scope='module')
def trained():
    return small_fit(small_data())


@pytest.fixture
def run(cwd, trained):
    save_run(trained, 'run')
    return trained


def read_csv(text):
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ['user', 'item', 'rank', 'score']
    return [(user, item, int(rank), float(score))
            for user, item, rank, score in rows]


def rows(run, users=None, k=20):
    result = run.recommend(users, k)
    return [
        (str(user), str(item), rank, score)
        for user, items, scores in zip(result.user, result.item,
                                       result.score.tolist(), strict=True)
        for rank, (item, score) in enumerate(
            zip(items, scores, strict=False), start=1)
    ]


def test_evaluate(cli, run):
    result = cli('evaluate', 'run')
    assert result.code == 0 and result.err == ''
    with open('run/metrics.json') as f:
        metrics = json.load(f)
    content = json.loads(result.out)
    assert content == {name: printed(metrics)[name]
                       for name in ['val', 'test']}
    content = json.loads(cli('evaluate', 'run', '--k', 1, 10).out)
    for k in [1, 10]:
        expected = textbook_metrics(run, 'test', ['observed', 'val'], k)
        for name, value in expected.items():
            assert content['test'][name] == pytest.approx(value, abs=5.1e-5)


def test_recommend_prints_csv(cli, cwd, run):
    before = files(cwd)
    result = cli('recommend', 'run')
    assert result.code == 0 and result.err == ''
    assert read_csv(result.out) == rows(run)
    assert len(result.out.splitlines()) == 1 + 60 * 20
    result = cli('recommend', 'run', '--users', 7, 3, '--k', 2)
    assert read_csv(result.out) == rows(run, [7, 3], k=2)
    assert files(cwd) == before


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_recommend_to_a_file(cli, shop, ending):
    output = f'out.{ending}'
    result = cli('recommend', 'shop', '--users', 'u12', 'u3', '--k', 10,
                 '--output', output)
    assert result.code == 0 and result.out == result.err == ''
    if ending == 'csv':
        with open(output, newline='') as f:
            found = read_csv(f.read())
    else:
        table = pq.read_table(output)
        assert table.column_names == ['user', 'item', 'rank', 'score']
        columns = table.to_pydict().values()
        found = list(zip(*columns, strict=True))
    assert found == rows(shop, ['u12', 'u3'], k=10)
    # They have seen most items of their own kind:
    assert [row[0] for row in found] == ['u12'] * 7 + ['u3'] * 7
    assert {row[1] for row in found} <= {f'i-{i}' for i in range(10)}
    # A second time replaces the first, and leaves nothing else:
    assert cli('recommend', 'shop', '--k', 1, '--output', output).code == 0
    assert sorted(os.listdir()) == [output, 'shop']


def test_own_folder_without_its_data(cli, shop):
    result = cli('evaluate', 'shop')
    assert result.code == 0
    assert json.loads(result.out)['test'] == printed(shop.metrics)['test']
    assert shop.ids['item'] == [f'i-{i}' for i in reversed(range(10))]
    assert sorted(shop.ids['user']) == sorted(f'u{i}' for i in range(20))


def test_integer_ids_in_parquet(cli, run):
    assert cli('recommend', 'run', '--users', 5, '--k', 3, '--output',
               'o.parquet').code == 0
    table = pq.read_table('o.parquet')
    assert table['user'].to_pylist() == [5] * 3
    assert table['item'].to_pylist() == run.recommend([5], 3).item[0]
    assert table['rank'].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize('args, message', [
    (['recommend', 'run', '--users', '3', 'x'],
     "There is no user 'x' (1 of 2 given ids are unknown)"),
    (['recommend', 'run', '--k', '41'], "'k' must lie in 1..40, the number"),
    (['evaluate', 'run', '--k', '5', '41'], "'k' must lie in 1..40"),
    (['evaluate', 'run', '--k', '0'], "'k' must lie in 1..40"),
    (['recommend', 'run', '--output', 'o.txt'],
     "'--output' must end in '.csv' or '.parquet' (got 'o.txt')"),
    (['recommend', 'run', '--output', 'no/o.csv'],
     "no' does not exist; create it, or name another file"),
    (['recommend', 'nowhere'], "'nowhere' is not a run: 'config.json' is"),
])
def test_bad_arguments(cli, cwd, run, args, message):
    before = files(cwd)
    result = cli(*args)
    assert result.code == 1 and result.out == ''
    assert result.err.startswith('error: ') and message in result.err
    assert len(result.err.splitlines()) == 1
    assert files(cwd) == before


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_interrupted_output(cli, cwd, run, monkeypatch, ending):
    (cwd / f'o.{ending}').write_bytes(b'old')
    before = files(cwd)

    def fail(result, file):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(f'diffmm_pyg.cli.commands._write_{ending}', fail)
    result = cli('recommend', 'run', '--output', f'o.{ending}')
    assert result.code == 1
    assert result.err == 'error: [Errno 28] No space left on device\n'
    assert files(cwd) == before


def test_output_that_nobody_reads(run):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, '-m', 'diffmm_pyg', 'recommend',
                            'run'], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b'')


def test_damaged_run(cli, cwd, run):
    path = cwd / 'run' / 'embeddings.safetensors'
    path.write_bytes(path.read_bytes()[:-1])
    for command in ['evaluate', 'recommend']:
        result = cli(command, 'run')
        assert result.code == 1 and result.out == ''
        assert result.err.startswith("error: 'run/embeddings.safetensors' is "
                                     "damaged")


def test_doctor(cli, monkeypatch):
    monkeypatch.setattr('diffmm_pyg.doctor.probe_sparse_backend',
                        lambda device: ('torch', f'{device} is tired'))
    result = cli('doctor')
    assert result.code == 0 and result.err == ''
    for text in ['torch-geometric', 'torch-sparse', 'cpu is tired']:
        assert text in result.out
