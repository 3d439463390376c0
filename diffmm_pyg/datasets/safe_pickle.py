r"""An unpickler that can build nothing but a SciPy sparse matrix. Every name
in the pickle is mapped to a small stand-in of this file, so that a foreign
pickle calls neither :obj:`os.system` nor NumPy nor SciPy.
"""
import io
import pickle
import pickletools
import re
from typing import Any, Callable, Dict, Tuple

import numpy as np

MATRIX = re.compile(r'(coo|csr|csc)_(?:matrix|array)')
# Numbers only, for which an array is its bytes:
DTYPE = re.compile(r'[<>=|]?[biuf][1248]')

PUTS = ['PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE']
GETS = ['GET', 'BINGET', 'LONG_BINGET']
# What pickles of matrices refer to again: names, texts, and types of values.
REPEATED = ['GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'NEWOBJ', 'UNICODE',
            'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES',
            'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8']


def load_matrix(content: bytes) -> 'PickledMatrix':
    r"""Reads one pickled SciPy matrix.

    Raises:
        ValueError: If the pickle is damaged, names anything but arrays and
            COO, CSR or CSC matrices, or claims more than :obj:`content`.
        Exception: Of any other type, if it is damaged within.
    """
    check_opcodes(content)
    matrix = MatrixUnpickler(io.BytesIO(content)).load()
    if not isinstance(matrix, PickledMatrix) or not matrix.state:
        raise ValueError(f"it holds no sparse matrix, but a "
                         f"'{type(matrix).__name__}'")
    return matrix


def check_opcodes(content: bytes) -> None:
    r"""Checks, before anything is built, that no length in the pickle
    exceeds its file (the C unpickler allocates what a length claims), that
    frames end where operations do (else it reads others than those that were
    checked), and that no tuple is part of several others: thirty, each of them
    twice in the next, hold a billion.

    Raises:
        ValueError: If it is not so, or the pickle is truncated.
    """
    memo: Dict[int, bool] = {}  # Whether an object may be in several places.
    may_repeat = False  # For the object that the last operation made.
    last = end = 0  # Where the last operation began, and the frame ends.
    for count, (op, arg, pos) in enumerate(pickletools.genops(content)):
        start = int(pos or 0)
        if op.name == 'FRAME' and end <= start:
            end = start + 9 + int(arg or 0)
        elif op.name == 'FRAME' or last < end < start:
            raise ValueError('its frames do not hold whole operations')
        last = start
        # Reading with `genops` ran into the end of the file for a string that
        # is too long. What remains is the memo, which grows to its index:
        if op.name in ['PUT', 'LONG_BINPUT'] and int(arg or 0) > count:
            raise ValueError('its memo index is out of range')
        if op.name in PUTS:
            memo[len(memo) if arg is None else int(arg)] = may_repeat
        elif op.name == 'DUP' or op.name in GETS and not memo.get(
                int(arg or 0)):
            raise ValueError('one of its parts is in several places')
        may_repeat = op.name in REPEATED or op.name in GETS


class PickledMatrix:
    r"""The attributes of a pickled SciPy matrix (:obj:`state`)."""
    format = ''
    state: Dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = {str(key): unwrap(v) for key, v in state.items()}

    @property
    def shape(self) -> Tuple[int, int]:
        shape = self.state['_shape']
        if (not isinstance(shape, tuple) or len(shape) != 2
                or not all(0 < int(size) < 2**31 for size in shape)):
            raise ValueError('its shape is not that of a matrix')
        return int(shape[0]), int(shape[1])


class CooMatrix(PickledMatrix):
    format = 'coo'


class CsrMatrix(PickledMatrix):
    format = 'csr'


class CscMatrix(PickledMatrix):
    format = 'csc'


class PickledDType:
    r"""Stands in for :class:`numpy.dtype`."""
    def __init__(self, name: str, *args: Any):
        if not DTYPE.fullmatch(name):
            raise ValueError(f"it holds values of type '{name}', not numbers")
        self.name = name

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        order = state[1] if state[1] in ['<', '>'] else '='
        self.name = order + self.name.lstrip('<>=|')

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.name)


class PickledArray:
    r"""Stands in for :class:`numpy.ndarray`: its bytes, checked."""
    def __init__(self, *args: Any):
        self.array = np.empty(0)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.array = to_array(content, dtype, shape, 'F' if fortran else 'C')


def to_array(content: bytes, dtype: PickledDType, shape: Tuple[int, ...],
             order: str) -> np.ndarray:
    array = np.frombuffer(content, dtype.to_numpy())
    return array.reshape(shape, order='F' if order == 'F' else 'C')


def from_buffer(content: bytes, dtype: PickledDType, shape: Tuple[int, ...],
                order: str) -> PickledArray:
    out = PickledArray()
    out.array = to_array(content, dtype, shape, order)
    return out


def to_scalar(dtype: PickledDType, content: bytes) -> int:
    return int(np.frombuffer(content, dtype.to_numpy())[0])


def encode(text: str, encoding: str) -> bytes:
    # How pickles of protocol 2 spell bytes
    if encoding != 'latin1':
        raise ValueError(f"its text encoding '{encoding}' is unknown")
    return text.encode('latin1')


def unwrap(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(unwrap(v) for v in value)
    return value.array if isinstance(value, PickledArray) else value


class MatrixUnpickler(pickle.Unpickler):
    r"""Knows the names that NumPy and SciPy have used in pickles of sparse
    matrices, and no others.
    """
    matrices = {'coo': CooMatrix, 'csr': CsrMatrix, 'csc': CscMatrix}
    names: Dict[Tuple[str, str], Callable[..., Any]] = {
        ('numpy', 'ndarray'): PickledArray,
        ('numpy', 'dtype'): PickledDType,
        ('multiarray', '_reconstruct'): PickledArray,
        ('multiarray', 'scalar'): to_scalar,
        ('numeric', '_frombuffer'): from_buffer,
        ('_codecs', 'encode'): encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        match = MATRIX.fullmatch(name)
        if match and re.fullmatch(r'scipy\.sparse(\._?\w+)?', module):
            return self.matrices[match.group(1)]
        # NumPy 2 renamed `numpy.core`:
        module = re.sub(r'^numpy\._?core\.', '', module)
        if (module, name) not in self.names:
            raise ValueError(f"it wants to run '{module}.{name}', which is "
                             f"refused")
        found = self.names[module, name]
        # A pickle may set attributes of what it gets: no shared function.
        return found if isinstance(found, type) else lambda *x: found(*x)
