import os

import pytest

from diffmm_pyg.utils.atomic import atomic_path


def test_atomic_path_replaces_when_whole(tmp_path):
    path = tmp_path / 'folder' / 'file'
    for content in ['old', 'new']:
        with atomic_path(str(path)) as tmp:
            assert os.path.dirname(tmp) == str(path.parent)
            with open(tmp, 'w') as f:
                f.write(content)
            assert not path.exists() or path.read_text() == 'old'
        assert path.read_text() == content
    assert os.listdir(path.parent) == ['file']
    assert path.stat().st_mode & 0o400


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
def test_atomic_path_leaves_nothing_half_written(tmp_path, error):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(error):
        with atomic_path(str(path)) as tmp:
            with open(tmp, 'w') as f:
                f.write('ne')
            raise error
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']
