import re
from pathlib import Path

README = Path(__file__).parents[1] / 'README.md'


def test_readme_tour_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r'```python\n(.*?)```', README.read_text(), re.S)[1]
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # The tour as it stands, in a fresh namespace.

    metrics, first, both = capsys.readouterr().out.strip().split('\n')[-3:]
    assert 'recall@20' in metrics
    assert re.fullmatch(r'\[(\[(\d+, ){4}\d+\](, )?){2}\]', both)
    # The model and its run recommend the same to user 7:
    assert first.startswith('torch.Size([300, 64]) ')
    assert both.startswith(first.split(') ')[1][:-1])
    assert (tmp_path / 'runs' / 'tour' / 'metrics.json').is_file()
    assert len(code.strip().split('\n')) <= 17
