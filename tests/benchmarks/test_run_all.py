import fcntl
import json
import os
import sys
from pathlib import Path

import pytest
from small import files

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import run_all  # noqa: E402
from _experiments import runner  # noqa: E402
from _experiments.plan import FOLDER  # noqa: E402
from _experiments.store import Store  # noqa: E402
from diffmm_pyg.errors import RunError  # noqa: E402

LABELS = ['A <1>', 'B', 'C']  # Those of the plan.


def test_failures_are_reported_and_tried_again(plan, stub, no_pictures,
                                               capsys):
    stub(**{'B-11': 'fail', 'C-12': 'crash'})
    assert plan() == 1
    assert plan.calls() == ['A <1>-11', 'B-11', 'C-11',
                            'A <1>-12', 'B-12', 'C-12']
    rows = Store(plan.out).rows().values()
    errors = {f"{r['label']}-{r['seed']}": r['error'] for r in rows
              if 'error' in r}
    assert errors == {
        'B-11': 'RuntimeError: the reason',
        'C-12': 'killed by signal 9, most often for want of memory'}
    for name in ['plan.html', 'plan.md']:
        assert 'RuntimeError: the reason' in (plan.out / name).read_text()
    printed = capsys.readouterr().out
    assert '2/6 fake, B, seed 11: FAILED, RuntimeError: the reason' in printed
    assert '6/6 fake, C, seed 12: FAILED' in printed

    stub()
    assert plan() == 0
    assert plan.calls()[6:] == ['B-11', 'C-12']
    assert 'the reason' not in (plan.out / 'plan.html').read_text()
    assert plan() == 0
    assert len(plan.calls()) == 8


def test_nothing_succeeds(plan, stub, capsys):
    stub(**{'A <1>-11': 'fail', 'B-11': 'crash', 'C-11': 'fail'})
    assert plan('--seeds', '1', '--jobs', '2') == 1
    assert capsys.readouterr().out.count('\nFAILED: fake, ') == 3
    markdown = (plan.out / 'plan.md').read_text()
    assert markdown.count('| 11 | RuntimeError: the reason |') == 2
    assert '### Accuracy' not in markdown


def test_an_interrupted_plan_goes_on(plan, stub, no_pictures, capsys):
    stub(**{'C-11': 'interrupt'})
    assert plan() == 130
    assert plan.calls() == ['A <1>-11', 'B-11', 'C-11']
    assert 'the same command goes on' in capsys.readouterr().err
    assert not (plan.out / 'plan.html').exists()

    results = plan.out / 'results.jsonl'
    before = results.read_text()
    assert [json.loads(x)['label'] for x in before.splitlines()] == [
        'A <1>', 'B']
    results.write_text(before + '{"key": "half a li')  # A crash of the system
    stub()
    assert plan() == 0
    assert plan.calls()[3:] == ['C-11', 'A <1>-12', 'B-12', 'C-12']
    assert results.read_text().startswith(before)
    assert len(results.read_text().splitlines()) == 6


def test_a_line_that_lacks_its_end_only_is_kept(plan, stub, no_pictures):
    stub()
    assert plan('--seeds', '1') == 0
    results = plan.out / 'results.jsonl'
    before = results.read_text()
    results.write_text(before.rstrip('\n'))
    assert plan('--seeds', '1') == 0
    assert results.read_text() == before and len(plan.calls()) == 3


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
    assert ('Times on different processors, or with other numbers of threads '
            'or processes, do not compare:') in markdown
    share = '2 threads per process, 1 process at a time'
    assert f'\n- a CPU, {share} and another CPU, {share}: B\n' in markdown
    assert f'\n- a CPU, {share}: C, A <1>\n' in markdown
    assert '\n- Machine of 5 trainings: a CPU, 2 cores, 1 GiB' in markdown
    assert '\n- Machine of 1 training: another CPU, 2 cores' in markdown
    assert '\n- Revision new: ' in markdown
    assert '\n- Revision old: C\n' in markdown
    assert 'finished, 6 of them with code of other rev' in capsys.readouterr(
    ).out


def test_only_and_what_is_missing(plan, stub, no_pictures, capsys):
    stub()
    assert plan('--only', 'c', '--only', 'FAKE', '--seeds', '1') == 0
    assert plan.calls() == ['C-11']
    text = (plan.out / 'plan.md').read_text()
    assert 'Not run yet: A <1> (seed 11), B (seed 11).' in text
    assert plan('--report-only', '--report', 'other') == 0
    assert plan.calls() == ['C-11']
    assert 'A <1> (seed 11, 12), B' in (plan.out / 'other.md').read_text()
    before = files(plan.out)
    assert plan('--report-only', '--report', 'plan', '--plan',
                str(FOLDER / 'quick.json')) == 1
    assert capsys.readouterr().err == (
        f"error: '{plan.out}' holds no results of this plan to report; run it "
        f"without '--report-only'\n")
    assert files(plan.out) == before
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
    assert plan.calls() == ['A <1>-11', 'B-11']
    markdown = (plan.out / 'plan.md').read_text()
    assert ('The same as A <1>, as they differ in nothing here: C.'
            in markdown)
    assert '| C |' not in markdown
    assert '### Differences to A <1>' in markdown  # The plan calls it C.


@pytest.mark.filterwarnings('error::UserWarning')
def test_one_model_is_compared_with_nothing(plan, stub):
    stub()
    content = json.loads(plan.file.read_text())
    content.update(models=content['models'][:1], compare_with=['A <1>'])
    plan.file.write_text(json.dumps(content))
    assert plan('--seeds', '1') == 0
    markdown = (plan.out / 'plan.md').read_text()
    assert '| A <1> | 1 |' in markdown
    assert 'Differences' not in markdown and 'compared with' not in markdown


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
    stub(**{'A <1>-11': 'meet', 'B-11': 'meet'})
    assert plan('--jobs', '2', '--seeds', '1') == 0
    rows = Store(plan.out).rows().values()
    assert [r['machine']['threads'] for r in rows] == [3, 3, 3]


def test_a_folder_belongs_to_one_runner(plan, stub, capsys):
    with Store(plan.out).locked():
        assert plan() == 1
    assert capsys.readouterr().err.startswith('error: Another run writes to')
    assert not (plan.out / 'calls').exists()


def test_a_line_that_finds_no_space_is_taken_back(tmp_path, monkeypatch):
    store, write = Store(tmp_path), os.write

    def write_half(fd, line):
        # Another cell ends at the same time.
        store.results.write_text(store.results.read_text() + '{"key": "b"}\n')
        return write(fd, line[:len(line) // 2])

    store.append({'key': 'a'})
    monkeypatch.setattr(os, 'write', write_half)
    with pytest.raises(RunError, match='There is no space for'):
        store.append({'key': 'c'})
    assert list(store.rows()) == ['a', 'b']


def test_a_report_while_a_plan_runs(plan, stub, no_pictures):
    stub()
    assert plan('--seeds', '1') == 0
    results = plan.out / 'results.jsonl'
    results.write_text(results.read_text() + '{"key": "half a li')
    with Store(plan.out).results.open() as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert plan('--report-only') == 0
    markdown = (plan.out / 'plan.md').read_text()
    assert ('Not run yet: A <1> (seed 12), B (seed 12), C (seed 12).'
            in markdown)
    assert results.read_text().endswith('{"key": "half a li')


def test_a_result_counts_whatever_its_process_died_of(plan, stub,
                                                      no_pictures):
    stub(**{'A <1>-11': 'die', 'B-11': 'die'})
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
    (['--quick', '--report-only', '--out', 'x'], 1,
     "error: 'x' holds no results to report; name their folder by '--out'"),
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


