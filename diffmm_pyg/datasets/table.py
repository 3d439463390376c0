r"""The columns of a table of interactions or items, wherever they are from."""
import re
import warnings
from dataclasses import dataclass, field
from operator import itemgetter
from typing import (
    Any,
    Dict,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Union,
)

import numpy as np

from diffmm_pyg.datasets.ids import are_integers
from diffmm_pyg.errors import DataError

# What the columns are called if nothing else is said, in lower case. RecBole
# and MMRec write `user_id`, `userID` and `x_label`.
NAMES = {
    'user': ['user', 'user_id', 'userid'],
    'item': ['item', 'item_id', 'itemid'],
    'timestamp': ['timestamp'],
    'split': ['split', 'x_label'],
}
# RecBole's headers, such as `user_id:token`, say what a column holds:
FIELD_TYPE = re.compile(r':(token|float)(_seq)?$')
# Values are kept in arrays as wide as the longest: one quotation mark that is
# not closed must not make all of them as long as the file.
MAX_LENGTH = 256
MAX_TIME_LENGTH = 64
MISSING = ['None', 'nan', '<NA>', 'NaT']
DECIMAL = re.compile(r'-?[0-9]+\.0*')


@dataclass
class Table:
    r"""The columns of a table: text, or what a typed file or a data frame
    holds.

    Args:
        path (str): The file, or what a table in memory is called in messages.
        columns (Mapping[str, sequence]): The values of every column, by what
            they mean (:obj:`NAMES`).
        names (Mapping[str, str], optional): What the columns are called in
            the file. (default: :obj:`{}`)
        lines (List[int], optional): The line of every row in a text file.
            (default: :obj:`None`)
    """
    path: str
    columns: Mapping[str, Union[Sequence[Any], np.ndarray]]
    names: Mapping[str, str] = field(default_factory=dict)
    lines: Optional[List[int]] = None

    def place(self, row: int, column: str) -> str:
        r"""Returns where a value stands."""
        place = f'row {row}'
        if self.lines is not None:
            place = f'line {self.lines[row]}'
        return f"{place}, column {quote(self.names.get(column, column))}"

    def fail(self, row: int, column: str, message: str) -> NoReturn:
        r"""Raises a :class:`DataError` that names the place of a value."""
        raise DataError(f"'{self.path}', {self.place(row, column)}: {message}")

    def ids(self, column: str) -> List[str]:
        r"""Returns a column of ids as text, so that the number 7 of a
        Parquet file and the text of a CSV file are the same id.

        Raises:
            DataError: If an id is empty, unusable, or of another kind than
                those before it.
        """
        values: Any = self.columns[column]
        values = values.tolist() if hasattr(values, 'tolist') else list(values)
        kinds = set(map(type, values))
        if not (kinds <= {int} or kinds <= {str}) or any(
                find_problem(value, type(value)) for value in set(values)):
            problems = (find_problem(v, type(values[0])) for v in values)
            row, problem = next(filter(itemgetter(1), enumerate(problems)))
            self.fail(row, column, str(problem))
        ids = list(map(str, values))
        distinct = set(ids)
        decimals = {value for value in distinct if DECIMAL.fullmatch(value)}
        if 0 < len(decimals) < len(distinct) and are_integers(
                distinct - decimals):
            row = next(i for i, value in enumerate(ids) if value in decimals)
            self.fail(row, column, f"the id {quote(ids[row])} is a decimal "
                      f"number, others are integers; write all of them as "
                      f"integers")
        return ids

    def times(self, column: str) -> np.ndarray:
        r"""Returns a column of times as numbers that can be compared.

        Raises:
            DataError: If a value is neither a number nor an ISO 8601 time.
        """
        values = self.columns[column]
        if not isinstance(values, np.ndarray) or values.dtype.kind == 'O':
            texts = [str(value)[:MAX_TIME_LENGTH] for value in values]
            values = np.array(texts, dtype=np.str_)
        out = to_times(values)
        if out is not None:
            return out
        for row in range(values.size):
            if to_times(values[row:row + 1]) is None:
                self.fail(row, column, f"{quote(values[row])} is no time; "
                          f"give a number, or a time like "
                          f"2024-01-31T12:00:00")
        name = quote(self.names.get(column, column))
        raise DataError(f"'{self.path}', column {name}: numbers and dates "
                        f"are mixed; use one of them throughout")


def find_problem(value: Any, kind: Any) -> Optional[str]:
    r"""Returns what is wrong with an id among ids of a kind, and what to do,
    if anything.
    """
    known = type(value) in [int, str]
    # pandas has other values than `None` for what is missing:
    if value == '' if known else str(value) in MISSING:
        return 'the id is empty; fill it in, or remove the row'
    if not known:
        return (f'the id {quote(value)} is a {type(value).__name__}, neither '
                f'an integer nor text; store it as one of them')
    if type(value) is not kind:
        return (f'the id {quote(value)} is {type(value).__name__}, the first '
                f'one {kind.__name__}; store all of them as text or all as '
                f'integers')
    if isinstance(value, int):
        return None if value.bit_length() < 64 else (
            'the id is an integer of more than 64 bits; store it as text')
    if len(value) > MAX_LENGTH:
        return (f'the id {quote(value)} has {len(value)} characters, more '
                f'than {MAX_LENGTH}; shorten it, or close a quotation mark')
    try:
        if '\0' not in value.encode().decode():
            return None
    except UnicodeError:
        pass
    return (f'the id {quote(value)} holds characters that are no text; remove '
            f'them')


def quote(value: Any) -> str:
    r"""Returns a value as messages show it: in one line, and not too long."""
    text = str(value)
    return repr(text if len(text) <= 80 else f'{text[:80]}...')


def to_times(values: np.ndarray) -> Optional[np.ndarray]:
    r"""Returns numbers or dates as numbers, :obj:`None` if some are neither.
    """
    dtypes: List[Any] = [values.dtype]
    if values.dtype.kind == 'U':
        dtypes = ['int64', 'float64', 'datetime64[us]']
    for dtype in dtypes:
        try:
            with warnings.catch_warnings():
                # A time zone is taken into account, and then forgotten.
                warnings.filterwarnings('ignore', '.*timezones')
                out = values.astype(dtype)
        except (OverflowError, ValueError):
            continue
        is_time = out.dtype.kind == 'M'
        if is_time and values.dtype.kind == 'U':
            # NumPy takes any number for a year:
            is_iso = np.char.find(values, '-') == 4
            out[~is_iso] = np.datetime64('NaT')
        if np.isfinite(out).all():
            return out.view(np.int64) if is_time else out
    return None


def match_columns(
    header: Sequence[str],
    wanted: Sequence[str],
    columns: Optional[Mapping[str, str]] = None,
) -> Dict[str, List[int]]:
    r"""Returns for every column all its positions in a header.

    Args:
        header (List[str]): The names of all columns.
        wanted (List[str]): The columns, by what they mean.
        columns (Dict[str, str], optional): What they are called, if not by
            one of :obj:`NAMES`. (default: :obj:`None`)
    """
    names = [clean_name(name) for name in header]
    accepted = {column: NAMES[column] for column in wanted}
    for column, name in (columns or {}).items():
        accepted[column] = [clean_name(name)]
    return {
        column: [i for i, n in enumerate(names) if n in accepted[column]]
        for column in wanted
    }


def find_columns(
    place: str,
    header: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Optional[Mapping[str, str]] = None,
) -> Dict[str, int]:
    r"""Returns the position of every column that a header at :obj:`place`
    has (see :meth:`match_columns`).

    Raises:
        DataError: If a required column is missing, or there are two.
    """
    found = match_columns(header, [*required, *optional], columns)
    missing = [(columns or {}).get(column, column) for column in required
               if len(found[column]) == 0]
    if len(missing) > 0:
        raise DataError(f"{place}: the header "
                        f"{quote(','.join(map(str, header)))} lacks the "
                        f"columns {', '.join(missing)}; rename those that are "
                        f"meant, or name them by columns={{...}}")
    for column, positions in found.items():
        if len(positions) > 1:
            both = ' and '.join(quote(header[i]) for i in positions[:2])
            raise DataError(f"{place}: {both} may both be the column "
                            f"'{column}'; rename one of them")
    return {column: i[0] for column, i in found.items() if len(i) > 0}


def clean_name(name: Any) -> str:
    return FIELD_TYPE.sub('', str(name).strip().lower())
