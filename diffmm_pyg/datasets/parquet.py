r"""The reader of Parquet files. What is in one may be packed so well that a
file of kilobytes would take gigabytes; it is refused, as nobody's interactions
are like that.
"""
import mmap
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from diffmm_pyg.datasets.raw import one_line
from diffmm_pyg.datasets.table import MAX_LENGTH, Table, find_columns
from diffmm_pyg.errors import DataError, MissingExtraError

PARQUET = b'PAR1'
# Equal values take next to no space, but pairs of a user and an item differ:
MAX_ROWS_PER_BYTE = 4
# Of pages that are unpacked, for every byte of the file, and for any file:
MAX_BYTES_PER_BYTE = 100
MIN_BYTES = 2**22
# How Thrift calls types:
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 12)
# The numbers of fields: of the metadata, of a row group and a column in it,
NUM_ROWS, ROW_GROUPS, COLUMNS, METADATA = 3, 4, 1, 3
PATH, LENGTH, NUM_BYTES, DATA_OFFSET, DICTIONARY_OFFSET = 3, 5, 7, 9, 11
# of the header of a page, and of what tells of its kind:
UNPACKED, PACKED, DATA, DICTIONARY, DATA_V2 = 2, 3, 5, 7, 8
NUM_VALUES = 1


def read_parquet(
    path: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    columns: Optional[Mapping[str, str]] = None,
) -> Table:
    r"""Reads the named columns of a Parquet file.

    Raises:
        DataError: If the file is damaged, or lacks a required column.
        MissingExtraError: If :obj:`pyarrow` is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise MissingExtraError('pyarrow', 'parquet',
                                'to read Parquet files') from e
    try:
        with pq.ParquetFile(path) as file:
            header = file.schema_arrow.names
            positions = find_columns(f"'{path}'", header, required, optional,
                                     columns)
            names = {column: header[i] for column, i in positions.items()}
            values = read_columns(file, path, names)
    except DataError:
        raise
    except Exception as e:  # pyarrow's, and others in a damaged file
        raise DataError(f"'{path}' is damaged or no Parquet file "
                        f"({one_line(e)}); save it again") from e
    return Table(path, values, names)


def read_columns(file: Any, path: str,
                 names: Mapping[str, str]) -> Dict[str, Any]:
    r"""Reads columns, by what they mean, piece by piece: a page may hold a
    value once that all of its rows have.

    Raises:
        ValueError: If they take too much memory for a file of this size.
    """
    import pyarrow as pa
    size = os.path.getsize(path)
    num_rows = file.metadata.num_rows
    if num_rows > MAX_ROWS_PER_BYTE * size:
        raise ValueError(f'it claims {num_rows} rows')
    max_bytes = max(MIN_BYTES, MAX_BYTES_PER_BYTE * size)
    pages = page_sizes(file, path, list(names.values()))
    if sum(pages) > max_bytes:
        raise ValueError(f'it unpacks to {sum(pages)} bytes')
    batch_size = min(2**16, max_bytes // max([1, *pages]))

    parts: Dict[str, List[Any]] = {column: [] for column in names}
    known: Dict[str, Dict[Any, Any]] = {column: {} for column in names}
    for batch in file.iter_batches(max(1, batch_size), use_threads=False,
                                   columns=list(names.values())):
        num_rows -= batch.num_rows
        if num_rows < 0:
            raise ValueError('it holds more rows than it claims')
        for column, name in names.items():
            part = batch.column(name)
            if column == 'timestamp' and pa.types.is_primitive(part.type):
                parts[column].append(part)
            else:  # Equal values are one object.
                same = known[column].setdefault
                parts[column] += [same(v, v) for v in to_list(part)]
    return {
        column: pa.chunked_array(values).to_numpy()
        if len(values) > 0 and isinstance(values[0], pa.Array) else values
        for column, values in parts.items()
    }


def to_list(array: Any) -> List[Any]:
    r"""Returns values as Python's. Of a text that is too long, no more is
    kept than shows this.
    """
    return [value[:MAX_LENGTH + 1] if isinstance(value, str) else value
            for value in array.to_pylist()]


def page_sizes(file: Any, path: str, names: Sequence[str]) -> List[int]:
    r"""Returns the number of bytes that every page of some columns unpacks
    to. The metadata is read once more, as :obj:`pyarrow` aborts the process
    where that of a column is damaged and asked for.

    Raises:
        ValueError: If a column holds lists, a page is damaged, or pages are
            those of several columns or row groups.
    """
    leaves = [file.schema.column(i) for i in range(len(file.schema))]
    plain = {leaf.path for leaf in leaves if leaf.path in names
             and leaf.max_repetition_level == 0 and leaf.length <= MAX_LENGTH}
    if len(plain) < len(names):
        raise ValueError('a column holds no plain values')
    out: List[int] = []
    num_bytes = 0
    with open(path, 'rb') as f, mmap.mmap(f.fileno(), 0,
                                          access=mmap.ACCESS_READ) as data:
        length = int.from_bytes(data[-8:-4], 'little')
        metadata, _ = read_struct(data, len(data) - 8 - length)
        for row_group in metadata[ROW_GROUPS]:
            for chunk in row_group[COLUMNS]:
                column = chunk[METADATA]
                if (b'.'.join(column[PATH]).decode() not in plain
                        or column[LENGTH] == 0):  # It has no pages.
                    continue
                start = column[DATA_OFFSET]
                start = min(start, column.get(DICTIONARY_OFFSET) or start)
                end = start + column[NUM_BYTES]
                while start < end:
                    header, first = read_struct(data, start)
                    check_page(header, metadata[NUM_ROWS])
                    num_bytes += first + header[PACKED] - start
                    if num_bytes > len(data):
                        raise ValueError('its pages overlap')
                    start = first + header[PACKED]
                    out.append(header[UNPACKED])
    return out


def check_page(header: Dict[int, Any], num_rows: int) -> None:
    r"""Checks what the header of a page claims.

    Raises:
        ValueError: If it cannot hold that.
    """
    claimed = [(header.get(DICTIONARY), header[UNPACKED]),
               (header.get(DATA), num_rows), (header.get(DATA_V2), num_rows)]
    if header[UNPACKED] < 0 or header[PACKED] < 0 or any(
            not 0 <= page[NUM_VALUES] <= limit
            for page, limit in claimed if page is not None):
        raise ValueError('a page is damaged')


def read_struct(data: mmap.mmap, pos: int) -> Tuple[Dict[int, Any], int]:
    r"""Reads a structure of the compact protocol of Thrift. Returns its
    fields by number, and the position of what follows.
    """
    out: Dict[int, Any] = {}
    number = 0
    while data[pos] != 0:
        kind, delta = data[pos] & 15, data[pos] >> 4
        pos += 1
        if delta == 0:
            number, pos = read_number(data, pos)
        number += delta
        if kind in [TRUE, FALSE]:
            out[number] = kind == TRUE
        else:
            out[number], pos = read_value(data, pos, kind)
    return out, pos + 1


def read_value(data: mmap.mmap, pos: int, kind: int) -> Tuple[Any, int]:
    r"""Reads a value of another type than a truth value that is a field."""
    if kind in [TRUE, FALSE, BYTE]:
        return data[pos], pos + 1
    if kind in [I16, I32, I64]:
        return read_number(data, pos)
    if kind == DOUBLE:
        return data[pos:pos + 8], pos + 8
    if kind == BINARY:
        length, pos = read_varint(data, pos)
        return data[pos:pos + length], pos + length
    if kind == LIST:
        length, kind = data[pos] >> 4, data[pos] & 15
        pos += 1
        if length == 15:
            length, pos = read_varint(data, pos)
        out = []
        for _ in range(length):
            value, pos = read_value(data, pos, kind)
            out.append(value)
        return out, pos
    if kind == STRUCT:
        return read_struct(data, pos)
    raise ValueError(f'it holds an unknown type {kind}')


def read_number(data: mmap.mmap, pos: int) -> Tuple[int, int]:
    value, pos = read_varint(data, pos)
    return value >> 1 ^ -(value & 1), pos


def read_varint(data: mmap.mmap, pos: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos
    raise ValueError('a number in it is too long')
