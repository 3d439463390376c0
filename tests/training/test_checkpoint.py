r"""Whatever is wrong with the files of a checkpoint is told in one line."""
import shutil

import pytest
from small import small_fit, small_model, with_losses

from diffmm_pyg.errors import RunError
from diffmm_pyg.runs import load
from diffmm_pyg.training import Checkpoints


@pytest.mark.parametrize('content', [b'{', b'{}', b'[]', b'\xff', None])
def test_damaged_when_the_run_is_whole(data, tmp_path, monkeypatch, content):
    finish = Checkpoints.finish

    def damaged(self):
        path = tmp_path / 'checkpoints' / '2.json'
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        finish(self)

    monkeypatch.setattr(Checkpoints, 'finish', damaged)
    with pytest.raises(RunError, match="is whole, but its last checkpoint is "
                       "damaged or could not be written to") as info:
        small_fit(data, epochs=1, out=str(tmp_path))
    assert '\n' not in str(info.value)
    assert len(load(str(tmp_path)).history) == 1


def test_folder_that_is_gone(data, tmp_path):
    def remove(losses, key):
        shutil.rmtree(tmp_path / 'run', ignore_errors=True)
        return losses

    with pytest.raises(RunError, match='A checkpoint could not be written to '
                       '.*No such file or directory'):
        small_fit(data, with_losses(small_model(data), remove), epochs=1,
                  out=str(tmp_path / 'run'))


def test_file_that_cannot_be_removed(data, tmp_path):
    def block(losses, key):
        for name in ['8.safetensors', '9.safetensors']:
            (tmp_path / 'checkpoints' / name).mkdir(exist_ok=True)
        return losses

    small_fit(data, with_losses(small_model(data), block), epochs=1,
              out=str(tmp_path))
    with pytest.raises(RunError, match='cannot be removed .*; name another'):
        small_fit(data, epochs=1, out=str(tmp_path), overwrite=True)
