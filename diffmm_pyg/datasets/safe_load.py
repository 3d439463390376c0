r"""A reader of what :obj:`torch.save` writes. :obj:`torch.load` runs no code
of a file, but may take any memory for what a file only claims.
"""
import os.path as osp
import pickletools
import re
import sys
import zipfile
from typing import Any, Dict

import torch
from torch import Tensor

# What tensors are made of. PyTorch lets others through, some of which, like
# `bytearray`, take a number for a size.
NAMES = re.compile(r'torch \w+Storage|collections OrderedDict'
                   r'|torch\._utils _rebuild_tensor_v2')
PUTS = ['BINPUT', 'LONG_BINPUT']
GETS = ['BINGET', 'LONG_BINGET']
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3, 'TUPLE': sys.maxsize}
VALUES = ['NONE', 'NEWFALSE', 'NEWTRUE', 'BININT', 'BININT1', 'BININT2',
          'LONG1', 'BINFLOAT', 'BINUNICODE', *GETS]


def load_values(path: str) -> Any:
    r"""Reads a file of tensors and plain Python values.

    Raises:
        ValueError: If it holds anything else, or claims more than it holds.
        Exception: Of any other type, if it is damaged within.
    """
    size = osp.getsize(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(info.file_size for info in members) > size:
            raise ValueError('its parts are larger than the whole')
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"its part '{damaged}' is damaged")
        for info in members:  # Whichever of them PyTorch takes:
            if info.filename.lower().endswith('.pkl'):
                check_opcodes(archive.read(info))
    content = torch.load(path, weights_only=True)
    check_parts(content, size)
    return content


def check_opcodes(content: bytes) -> None:
    r"""Checks, before anything is built, that a pickle names nothing but
    tensors, and that no tuple of tuples, or of more than three values, is in
    several places: as a key, forty of them, each twice in the next, would be
    hashed for hours.

    Raises:
        ValueError: If it is not so.
    """
    # Of tuples: 1 if they hold nothing but values, 2 if they may hold tuples.
    memo: Dict[Any, int] = {}
    depth = num_values = 0  # Of values that were made one after the other
    for op, arg, _ in pickletools.genops(content):
        if op.name == 'GLOBAL' and not NAMES.fullmatch(str(arg)):
            raise ValueError(f"it names '{arg}'")
        if op.name in PUTS:
            memo[arg] = depth
        if op.name in [*PUTS, 'PROTO']:  # These leave what was made.
            continue
        depth = 0
        if op.name in GETS:
            depth = memo[arg]
            if depth > 1:
                raise ValueError('one of its parts is in several places')
        elif op.name in TUPLES:
            depth = 1 if num_values >= TUPLES[op.name] else 2
        num_values = num_values + 1 if op.name in VALUES and depth == 0 else 0


def check_parts(content: Any, max_bytes: int) -> None:
    r"""Checks that values take no more than a file of some bytes can hold:
    parts may be in several places, and so may the numbers of a tensor.

    Raises:
        ValueError: If they do.
    """
    parts, num_parts = [content], 1
    while len(parts) > 0:
        part = parts.pop()
        if isinstance(part, Tensor):
            if part.numel() * part.element_size() > max_bytes:
                raise ValueError('a tensor in it is larger than the whole')
        elif isinstance(part, (dict, list, tuple)):
            num_parts += len(part)
            if num_parts > 3 * max_bytes:  # Splits may share them.
                raise ValueError('it has more parts than bytes')
            parts += part
            if isinstance(part, dict):
                parts += part.values()
