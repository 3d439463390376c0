from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parents[2] / 'docs/recipes').glob('*.py'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipes_are_short_and_say_how_to_run_them(path):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    assert f'python docs/recipes/{path.name}' in text.split('"""')[1]
    readme = (path.parents[2] / 'README.md').read_text()
    assert f'](docs/recipes/{path.name})' in readme
