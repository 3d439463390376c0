import re
import runpy
from pathlib import Path

RECIPE = Path(__file__).parents[2] / 'docs' / 'recipes' / 'own_conv.py'


def test_recipe_runs(capsys):
    runpy.run_path(str(RECIPE), run_name='__main__')
    metrics, why, *edges, modalities, again = \
        capsys.readouterr().out.strip().split('\n')
    assert 'recall@20' in metrics
    item = re.fullmatch(r'Item (\d+) for user 7: \d\.\d+, of which', why)[1]
    assert len(edges) == 3
    assert all(re.fullmatch(r'0\.\d+ by user \d+ \w+ item \d+', edge)
               for edge in edges)
    assert all(f"'{m}'" in modalities for m in ['image', 'text', 'audio'])
    assert again == item
    assert len(RECIPE.read_text().split('\n')) < 60
