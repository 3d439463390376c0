import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
BENCHMARKS = FOLDER.parents[1] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

import run_all  # noqa: E402
from _checkout import git_revision  # noqa: E402
from _command import interruptible  # noqa: E402
from _experiments import runner  # noqa: E402
from _experiments.store import Store, load_arrays  # noqa: E402
from _experiments.training import train  # noqa: E402
from _reports import report  # noqa: E402

LABELS = ['A <1>', 'B', 'C']
SMALL = {'model.hidden_channels': 8, 'diffusion.hidden_channels': 8,
         'training.epochs': 2}


@pytest.fixture
def plan(tmp_path):
    r"""The file of a plan, and how it is run."""
    path = tmp_path / 'plan.json'
    path.write_text(json.dumps({
        'title': 'Three & more', 'datasets': ['fake'], 'seeds': 2,
        'compare_with': ['B', 'C'], 'notes': ['Know this.'], 'models': [
            {'base': 'strict', 'label': label, 'set': {**SMALL, 'model.k': k}}
            for k, label in enumerate(LABELS, start=1)
        ]}))
    out = tmp_path / 'out'

    def run(*options):
        return run_all.main(['--plan', str(path), '--out', str(out),
                             *options])

    run.file, run.out = path, out
    run.calls = lambda: (out / 'calls').read_text().split('\n')[:-1]
    return run


@pytest.fixture
def no_pictures(monkeypatch):
    r"""They take most of the time."""
    names = ['overview', 'cutoffs', 'cost', 'users', 'items',
             *(f'differences to {label}' for label in LABELS)]
    monkeypatch.setattr(report, 'draw_all',
                        lambda _: dict.fromkeys(names, (b'', '')))


@pytest.fixture
def stub(monkeypatch):
    r"""Replaces the processes of cells, and tells them what to do."""
    monkeypatch.setattr(runner, 'WORKER', FOLDER / 'stub_cell.py')
    return lambda **actions: monkeypatch.setenv('STUB', json.dumps(actions))


def test_failures_are_reported_and_tried_again(plan, stub, no_pictures,
                                               capsys):
    stub(**{'B-0': 'fail', 'C-1': 'crash'})
    assert plan() == 1
    assert plan.calls() == ['A <1>-0', 'B-0', 'C-0', 'A <1>-1', 'B-1', 'C-1']
    rows = Store(plan.out).rows().values()
    errors = {f"{r['label']}-{r['seed']}": r['error'] for r in rows
              if 'error' in r}
    assert errors == {
        'B-0': 'RuntimeError: the reason',
        'C-1': 'killed by signal 9, most often for want of memory'}
    for name in ['plan.html', 'plan.md']:
        assert 'RuntimeError: the reason' in (plan.out / name).read_text()
    printed = capsys.readouterr().out
    assert '2/6 fake, B, seed 0: FAILED, RuntimeError: the reason' in printed
    assert '6/6 fake, C, seed 1: FAILED' in printed

    stub()
    assert plan() == 0
    assert plan.calls()[6:] == ['B-0', 'C-1']
    assert 'the reason' not in (plan.out / 'plan.html').read_text()
    assert plan() == 0
    assert len(plan.calls()) == 8


def test_nothing_succeeds(plan, stub, capsys):
    stub(**{'A <1>-0': 'fail', 'B-0': 'crash', 'C-0': 'fail'})
    assert plan('--seeds', '1', '--jobs', '2') == 1
    assert capsys.readouterr().out.count('\nFAILED: fake, ') == 3
    markdown = (plan.out / 'plan.md').read_text()
    assert markdown.count('| 0 | RuntimeError: the reason |') == 2
    assert '### Accuracy' not in markdown


def test_an_interrupted_plan_goes_on(plan, stub, no_pictures, capsys):
    stub(**{'C-0': 'interrupt'})
    assert plan() == 130
    assert plan.calls() == ['A <1>-0', 'B-0', 'C-0']
    assert 'the same command goes on' in capsys.readouterr().err
    assert not (plan.out / 'plan.html').exists()

    results = plan.out / 'results.jsonl'
    before = results.read_text()
    assert [json.loads(x)['label'] for x in before.splitlines()] == [
        'A <1>', 'B']
    results.write_text(before + '{"key": "half a li')  # A crash of the system
    stub()
    assert plan() == 0
    assert plan.calls()[3:] == ['C-0', 'A <1>-1', 'B-1', 'C-1']
    assert results.read_text().startswith(before)
    assert len(results.read_text().splitlines()) == 6


def test_report_holds_every_model(plan, stub):
    stub()
    assert plan() == 0
    text = (plan.out / 'plan.html').read_text()
    for label in ['A &lt;1&gt;', 'B', 'C', 'Three &amp; more']:
        assert label in text
    assert text.count('data:image/svg+xml;base64') == 8
    assert 'src="http' not in text and '<script' not in text
    markdown = (plan.out / 'plan.md').read_text()
    store = Store(plan.out)
    rows = [r for r in store.rows().values() if r['label'] == 'C']
    mean = sum(r['metrics']['test']['recall@20'] for r in rows) / 2
    spread = abs(rows[0]['metrics']['test']['recall@20'] -
                 rows[1]['metrics']['test']['recall@20']) / 2**0.5
    assert f'{mean:.4f} ± {spread:.4f}' in markdown
    assert '0.2000' in markdown  # Chosen on the test split.
    val = {label: sum(r['metrics']['val']['recall@20']
                      for r in store.rows().values() if r['label'] == label)
           for label in LABELS}
    order = [line.split(' | ')[0][2:] for line in markdown.splitlines()
             if line.startswith('| ') and ' | 2 | ' in line]
    assert order == sorted(LABELS, key=lambda label: -val[label])
    assert markdown.count('*Picture, see [plan.html](plan.html): ') == 8
    assert '\n- Know this.\n' in markdown
    assert '\n- Compared with C, Recall@20 ' in markdown
    assert markdown.count('\n- Command of trainings: ') == 1
    assert '### Differences to C' in markdown


def test_report_tells_origins_apart(plan, stub, no_pictures, capsys):
    stub()
    assert plan() == 0
    assert 'do not compare' not in (plan.out / 'plan.md').read_text()
    results = plan.out / 'results.jsonl'
    rows = [json.loads(x) for x in results.read_text().splitlines()]
    rows[1]['machine']['cpu'] = 'another CPU'  # Of B; its other seed has not.
    for row in rows:
        row['git'] = 'old' if row['label'] == 'C' else 'new'
    results.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
    assert plan('--report-only') == 0
    markdown = (plan.out / 'plan.md').read_text()
    assert 'Times on different processors do not compare:' in markdown
    assert '\n- a CPU and another CPU: B\n' in markdown
    assert '\n- a CPU: A <1>, C\n' in markdown
    assert '\n- Machine of 5 trainings: a CPU, 2 cores, 1 GiB' in markdown
    assert '\n- Machine of 1 training: another CPU, 2 cores' in markdown
    assert '\n- Revision new: ' in markdown
    assert '\n- Revision old: C\n' in markdown
    assert 'finished, 6 of them with code of other rev' in capsys.readouterr(
    ).out


def test_only_and_what_is_missing(plan, stub, no_pictures, capsys):
    stub()
    assert plan('--only', 'c', '--only', 'FAKE', '--seeds', '1') == 0
    assert plan.calls() == ['C-0']
    text = (plan.out / 'plan.md').read_text()
    assert 'Not run yet: A <1> (seed 0), B (seed 0).' in text
    assert plan('--report-only', '--report', 'other') == 0
    assert plan.calls() == ['C-0']
    assert 'A <1> (seed 0, 1), B' in (plan.out / 'other.md').read_text()
    assert plan('--only', 'D') == 1
    assert capsys.readouterr().err == (
        "error: The plan has no model or dataset 'd'; choose among 'fake', "
        "'A <1>', 'B', 'C'\n")


def test_models_that_are_the_same_are_told_once(plan, stub, no_pictures):
    stub()
    content = json.loads(plan.file.read_text())
    content['models'][2]['set'] = content['models'][0]['set']
    plan.file.write_text(json.dumps(content))
    assert plan('--seeds', '1') == 0
    assert plan.calls() == ['A <1>-0', 'B-0']
    markdown = (plan.out / 'plan.md').read_text()
    assert ('The same as A <1>, as they differ in nothing here: C.'
            in markdown)
    assert '| C |' not in markdown
    assert '### Differences to A <1>' in markdown  # The plan calls it C.


def test_models_of_other_modalities_are_compared(plan, stub, no_pictures):
    stub()
    content = json.loads(plan.file.read_text())
    content['models'][2]['set']['modalities'] = ['image']
    plan.file.write_text(json.dumps(content))
    assert plan('--seeds', '1') == 0
    assert len(list((plan.out / 'data').iterdir())) == 2
    markdown = (plan.out / 'plan.md').read_text()
    row = next(x for x in markdown.splitlines() if x.startswith('| C | ')
               and ' to ' in x)
    assert row.count('|') == 10  # Differences, intervals and p-values


def test_two_at_a_time_share_the_cores(plan, stub, no_pictures, monkeypatch):
    monkeypatch.setattr(runner, 'num_cores', lambda: 6)
    stub(**{'A <1>-0': 'meet', 'B-0': 'meet'})
    assert plan('--jobs', '2', '--seeds', '1') == 0
    rows = Store(plan.out).rows().values()
    assert [r['machine']['threads'] for r in rows] == [3, 3, 3]


def test_a_folder_belongs_to_one_runner(plan, stub, capsys):
    with Store(plan.out).locked():
        assert plan() == 1
    assert capsys.readouterr().err.startswith('error: Another run writes to')
    assert not (plan.out / 'calls').exists()


def test_a_report_while_a_plan_runs(plan, stub, no_pictures):
    stub()
    assert plan('--seeds', '1') == 0
    results = plan.out / 'results.jsonl'
    results.write_text(results.read_text() + '{"key": "half a li')
    with Store(plan.out).results.open() as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert plan('--report-only') == 0
    markdown = (plan.out / 'plan.md').read_text()
    assert 'Not run yet: A <1> (seed 1), B (seed 1), C (seed 1).' in markdown
    assert results.read_text().endswith('{"key": "half a li')


def test_a_result_counts_whatever_its_process_died_of(plan, stub,
                                                      no_pictures):
    stub(**{'A <1>-0': 'die', 'B-0': 'die'})
    assert plan('--seeds', '1') == 0
    assert 'error' not in (plan.out / 'results.jsonl').read_text()
    assert plan('--seeds', '1') == 0
    assert len(plan.calls()) == 3


@pytest.mark.parametrize('argv,code,message', [
    ([], 2, "error: one of the arguments --quick --full --plan is required"),
    (['--quick', '--full'], 2, "error: '--full': not allowed with"),
    (['--quick', '--jobs', '0'], 2, "error: '--jobs': must be at least 1"),
    (['--quick', '--seeds', 'x'], 2, "error: '--seeds': must be at least 1"),
    (['--plan', 'nowhere.json'], 1, "error: The plan 'nowhere.json' cannot"),
    (['--full'], 1, "error: 'tiktok' is read from a folder; name the one"),
    (['--full', '--data', 'nowhere'], 1, "error: 'nowhere' is no folder"),
    (['--quick', '--only', 'x'], 1, "error: The plan has no model or"),
])
def test_bad_arguments_give_one_line(argv, code, message, monkeypatch,
                                     tmp_path, capsys):
    monkeypatch.delenv('DIFFMM_DATA', raising=False)
    monkeypatch.chdir(tmp_path)
    try:
        assert run_all.main(argv) == code
    except SystemExit as e:
        assert e.code == code
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_commands_tell_no_places():
    assert run_all.describe_command(
        'run_all.py',
        ['--full', '--data', '/home/me/data', '--out=/x/x', '--only', 'a b',
         '--plan', 'plans/x.json']) == (
        "python benchmarks/run_all.py --full --data data --out=x --only "
        "'a b' --plan plans/x.json")


def test_the_library_of_the_checkout_is_measured(tmp_path):
    (tmp_path / 'diffmm_pyg').mkdir()
    (tmp_path / 'diffmm_pyg' / '__init__.py').touch()
    out = subprocess.run(
        [sys.executable, '-c', 'import run_all, diffmm_pyg\n'
         'print(diffmm_pyg.__file__)'], env={
             **os.environ, 'PYTHONPATH': f'{tmp_path}:{BENCHMARKS}'},
        capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(
        BENCHMARKS.parent / 'diffmm_pyg' / '__init__.py')


def test_revision(tmp_path, monkeypatch):
    monkeypatch.setattr('_checkout.ROOT', tmp_path)
    assert git_revision() is None

    def git(*args):
        subprocess.run(['git', '-c', 'user.name=A', '-c', 'user.email=a@b',
                        *args], cwd=tmp_path, check=True, capture_output=True)

    git('init')
    for name in ['diffmm_pyg/a.py', 'benchmarks/b.py']:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    git('add', '.')
    git('commit', '-m', 'a')
    revision = git_revision()
    assert len(revision) == 40
    for name, differs in [('README.md', False), ('benchmarks/b.py', True),
                          ('benchmarks/results/x/c.html', False),
                          ('benchmarks/models/d.json', True)]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('changed')
        assert git_revision() == revision + '+' * differs
        if differs:
            path.unlink()
            git('checkout', '.')


def test_warnings_are_told_in_one_line(capsys):
    def work():
        for text in ['Beware', 'Sparse CSR tensor support is in beta state']:
            warnings.warn(text, stacklevel=1)
        return 3

    assert interruptible(work, Path('out')) == 3
    assert capsys.readouterr().err == 'warning: Beware\n'


def test_time_left():
    job = {'dataset': 'a', 'label': 'x'}
    rows = [{'dataset': 'a', 'label': 'x', 'seconds': 10},
            {'dataset': 'a', 'label': 'x', 'seconds': 30},
            {'dataset': 'a', 'label': 'y', 'seconds': 80}]

    def left(*jobs, num_jobs=1):
        return runner.time_left(list(jobs), [], rows, num_jobs)

    assert left(job, job) == '40 s'
    assert left(job, job, num_jobs=2) == '20 s'
    assert left({**job, 'label': 'z'}) == '40 s'  # All of the dataset
    assert left({**job, 'dataset': 'b'}) == '40 s'
    assert runner.time_left([job], [], [], 1) == 'unknown time'
    assert left(*[job] * 2000) == '11:06:40 h'


def test_a_real_cell(plan, no_pictures, tmp_path):
    assert plan('--only', 'C', '--seeds', '1') == 0
    row, = Store(plan.out).rows().values()
    assert list((plan.out / 'trainings').iterdir()) == []
    config = row['config']
    assert config['training']['epochs'] == 2 == len(row['history'])
    assert config['model']['k'] == 3 and config['model']['num_layers'] == 1
    assert list(row['metrics']) == ['val', 'test']
    assert 0 < row['metrics']['test']['recall@50'] <= 1
    assert row['peak_bytes'] > 2**20 and row['parameters'] > 700 * 8
    assert row['seconds'] > row['training_seconds'] > 0
    for graph in row['graphs'].values():
        assert graph['edges'] == 3 * 400 and graph['known'] == 0
        assert 3 <= graph['items'] <= 300 and 0 <= graph['overlap'] <= 1

    # The same training here gives the same numbers:
    data = run_all.load_dataset('fake', None, None)
    run, _ = train({'seed': 0, 'config': config}, data, tmp_path / 'again')
    assert run.metrics['test']['recall@20'] == pytest.approx(
        row['metrics']['test']['recall@20'])
    store = Store(plan.out)
    positives = load_arrays(store.positives_of(row['data_hash']))
    assert (positives['user'] == run.graphs['test'][0].numpy()).all()
    rank = load_arrays(store.ranks_of(row['key']))['rank']
    assert ((0 < rank) & (rank <= 20)).mean() == pytest.approx(
        row['metrics']['test']['recall@20'])  # One positive per user


def test_an_interrupted_cell_goes_on(plan, no_pictures):
    source = json.loads(plan.file.read_text())
    source['set'] = {'training.epochs': 150, 'training.patience': 150}
    for model in source['models']:
        del model['set']['training.epochs']
    plan.file.write_text(json.dumps(source))
    options = ['--plan', str(plan.file), '--only', 'A <1>', '--seeds', '1']

    assert run_all.main([*options, '--out', str(plan.out / 'whole')]) == 0
    whole, = Store(plan.out / 'whole').rows().values()
    runner = subprocess.Popen(
        [sys.executable, str(BENCHMARKS / 'run_all.py'), *options, '--out',
         str(plan.out / 'parts')])
    log = Store(plan.out / 'parts').log_of(whole['key'])
    while not (log.exists() and 'epoch 20: ' in log.read_text()):
        assert runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait() == 130
    assert Store(plan.out / 'parts').rows() == {}

    assert run_all.main([*options, '--out', str(plan.out / 'parts')]) == 0
    epochs = [int(line.split()[1][:-1]) for line in log.read_text(
    ).splitlines() if line.startswith('epoch ')]
    assert 20 < epochs[0] < 150 == epochs[-1]
    row, = Store(plan.out / 'parts').rows().values()
    assert row['metrics'] == whole['metrics']
    assert [x['val/recall@20'] for x in row['history']] == [
        x['val/recall@20'] for x in whole['history']]
