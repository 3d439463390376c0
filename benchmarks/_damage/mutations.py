r"""Damages files: bytes of any file, and what their formats are made of, so
that a reader gets further than to the first check.
"""
import io
import json
import pickletools
import random
import re
import struct
import zipfile
from typing import Any, Callable, Dict, List, Sequence

import torch

NUMBERS = [0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1,
           2**31, 2**32 - 1, 2**32, 10**12, 2**40, 2**63 - 1, 2**63,
           2**64 - 1]
WORDS = ['', '0', '-1', '7', '1e999', 'nan', 'inf', 'None', 'true', 'train',
         'a' * 300, '9' * 40, '\0', '\ufeff', 'é', '\U0001f600', '../x', '"',
         "'", '""', ',', '\t', ';', '\n', '\r\n', '2024-01-31T12:00:00',
         '2024-13-01', '(', '[]', '{}', '/etc/passwd', '=1+1']
VALUES: List[Any] = [None, True, False, 0.5, -0.0, 1e308, [], {}, [[]], '',
                     '../x', 'user', 'strict', 'F32', 'I64', 'BOOL', 'F8_E5M2',
                     float('nan'), float('inf'), *NUMBERS]
# Pieces of pickles: calls of what a reader must not call, lengths that only
# are claimed, and what changes the stack, the memo or an object.
CALL = b"cbuiltins\nexec\n(Vopen('../was-run','w').close()\ntR"
TUPLES = b')' + b''.join(b'q%ch%c\x86' % (i, i) for i in range(99, 150))
OPCODES = [
    CALL, CALL + b'0', b'cos\nsystem\n', b'cnumpy\ndtype\n', b'\x8c\x02os\x93',
    b'cnumpy.core.multiarray\n_reconstruct\n', b'c_codecs\nencode\n',
    b'ctorch._utils\n_rebuild_tensor_v2\n', b'ctorch\nFloatStorage\n',
    *[b'\x8e' + struct.pack('<Q', n) for n in [2**30, 10**12, 2**63]],
    *[b'\x8a' + bytes([n]) + b'\xff' * n for n in [1, 8, 200]],
    *[b'r' + struct.pack('<I', n) for n in [9, 2**27, 2**32 - 1]],
    *[b'J' + struct.pack('<i', n) for n in [-1, 0, 2**31 - 1]],
    b'N', b'\x88', b'}', b']', b')', b'(', b't', b'\x85', b'\x86', b'R', b'b',
    b'0', b'1', b'2', b's', b'u', b'.', b'\x81', b'Q', b'\x94', b'h\x00',
    TUPLES, b'2\x86' * 50, b'\x8f(', b'\x90', b'U\x01a', b'C\x08abcdefgh',
    b'G\x7f\xf0\x00\x00\x00\x00\x00\x00',
]
# Values: none, zero, 10^11, and a tuple that is twice in the next one.
PICKLED = [b'N', b'K\x00', b'\x8a\x05' + struct.pack('<Q', 10**11)[:5], TUPLES]
DTYPES = ['<f4', '>f8', '<f2', '<c8', '|b1', '|O', '<U9', '|S3', '<i8', '>u2',
          '<M8[us]', '|V4', '<U0', '|V0', '<f16', "[('a', '<f4')]", 'f' * 99]
TYPES = {'F16': torch.half, 'F64': torch.double, 'BF16': torch.bfloat16,
         'F8_E5M2': torch.float8_e5m2, 'I32': torch.int32, 'U8': torch.uint8}
SHAPES = ['()', '(0,)', '(3,)', '(3, 2)', '(2, 3)', '(1000000000000, 4)',
          '(4, -1)', '(-1, -1)', '(4611686018427387904, 4)', '(3, 0)',
          '(1000000000000, 0)', '(1, 1, 6)', '(True, 6)', '(1.0, 6)', '6',
          '(' + '1, ' * 70 + ')', '(' * 300 + ')' * 300]
NAMES = ['x.npy', '../x.npy', '/x.npy', 'a/x.npy', '../was-run', 'x.npy/',
         '..\\x.npy', 'x.pkl', 'é' * 200]


def mutate(rng: random.Random, name: str, content: bytes,
           others: Sequence[bytes]) -> bytes:
    r"""Returns a damaged copy of a file.

    Args:
        rng (random.Random): What draws the damages.
        name (str): The name of the file, whose ending says what it is.
        content (bytes): Its content.
        others (List[bytes]): Files to take pieces from.
    """
    format_mutation = FORMATS.get(name.rpartition('.')[2], mutate_text)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        if rng.random() < 0.6:
            try:
                content = format_mutation(rng, content)
            except Exception:  # It is too damaged to be taken apart.
                content = mutate_bytes(rng, content, others)
        else:
            content = mutate_bytes(rng, content, others)
    return content


def mutate_bytes(rng: random.Random, content: bytes,
                 others: Sequence[bytes]) -> bytes:
    r"""Flips, cuts, repeats, splices, or writes a number."""
    out = bytearray(content)
    start = rng.randrange(len(out) + 1)
    # The first and last bytes of a file are those that describe it:
    if rng.random() < 0.5 and len(out) > 64:
        start = rng.choice([rng.randrange(64), len(out) - rng.randrange(64)])
    end = min(len(out), start + rng.choice([1, 2, 4, 8, 64, len(out)]))
    kind = rng.randrange(7)
    if kind == 0 and start < len(out):
        out[start] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del out[start:end]
    elif kind == 2:
        out[start:start] = out[start:end]
    elif kind == 3:
        out[start:end] = rng.randbytes(rng.choice([1, 2, 4, 8]))
    elif kind == 4 and len(others) > 0:
        other = rng.choice(others)
        first = rng.randrange(len(other) + 1)
        out[start:end] = other[first:first + rng.choice([8, 64, len(other)])]
    elif kind == 5:
        return content[:start]
    else:
        size, order = rng.choice([1, 2, 4, 8]), rng.choice(['little', 'big'])
        number = rng.choice(NUMBERS) % 256**size
        out[start:start + size] = number.to_bytes(size, order)
    return bytes(out)


def mutate_text(rng: random.Random, content: bytes) -> bytes:
    r"""Changes a value, a line, or what separates them."""
    parts = re.split(rb'([,\t;|\n])', content)
    i = rng.randrange(len(parts))
    kind = rng.randrange(4)
    if kind == 0:
        parts[i:i + rng.randrange(2)] = [rng.choice(WORDS).encode()]
    elif kind == 1:
        parts[i] = str(rng.choice(NUMBERS)).encode()
    elif kind == 2:
        parts[i:i] = parts[i:i + rng.choice([1, 2, 8])]
    else:
        del parts[i:i + rng.choice([1, 2, 8])]
    return b''.join(parts)


def mutate_json(rng: random.Random, content: bytes) -> bytes:
    r"""Changes, adds or removes one value."""
    root = json.loads(content)
    mutate_value(rng, root)
    return json.dumps(root).encode()


def mutate_value(rng: random.Random, node: Any) -> None:
    r"""Changes one value within a dictionary or list."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if len(keys) == 0:
            break
        key = rng.choice(keys)
        if not isinstance(node[key], (dict, list)) or rng.random() < 0.3:
            break
        node = node[key]
    value = rng.choice(VALUES)
    if len(keys) == 0 or rng.random() < 0.1:
        if isinstance(node, dict):
            node[rng.choice(WORDS)] = value
        else:
            node.append(value)
    elif rng.random() < 0.2:
        del node[key]
    else:
        node[key] = value


def mutate_pickle(rng: random.Random, content: bytes) -> bytes:
    r"""Removes, repeats, inserts or moves operations, or changes a value."""
    ops = list(pickletools.genops(content))
    places = [pos for _, _, pos in ops]
    places.append(len(content))
    start = rng.randrange(len(places) - 1)
    end = min(len(places) - 1, start + rng.choice([1, 1, 2, 5]))
    piece = content[places[start]:places[end]]
    where = rng.choice(places[:-1])
    kind = rng.randrange(5)
    if kind == 0:
        return content[:places[start]] + content[places[end]:]
    if kind == 1:
        return content[:where] + piece + content[where:]
    if kind == 2:
        piece = rng.choice(OPCODES)
        return content[:where] + piece + content[where:]
    if kind == 3:
        i = rng.choice([i for i, (op, _, _) in enumerate(ops)
                        if op.name.startswith(('BININT', 'BINUNICODE'))])
        return content[:places[i]] + rng.choice(PICKLED) + (
            content[places[i + 1]:])
    return content[:places[start]] + rng.choice(OPCODES) + (
        content[places[end]:])


def mutate_npy(rng: random.Random, content: bytes) -> bytes:
    r"""Changes the type or the shape that the header claims."""
    size, = struct.unpack('<H', content[8:10])
    header, data = content[10:10 + size].decode(), content[10 + size:]
    if rng.random() < 0.5:
        dtype = rng.choice(DTYPES)
        dtype = dtype if dtype.startswith('[') else repr(dtype)
        header = re.sub("'descr': .*?, 'f", f"'descr': {dtype}, 'f", header)
    if rng.random() < 0.7:
        header = re.sub(r"'shape': .*\}",
                        f"'shape': {rng.choice(SHAPES)}, }}", header)
    if rng.random() < 0.2:
        header = header.replace('False', rng.choice(['True', 'None', '1']))
    return content[:8] + struct.pack('<H', len(header)) + (
        header.encode() + data)


def mutate_safetensors(rng: random.Random, content: bytes) -> bytes:
    r"""Changes the header, its length, or the type of one tensor."""
    size, = struct.unpack('<Q', content[:8])
    if rng.random() < 0.1:
        size = rng.choice(NUMBERS) % 2**64
        return struct.pack('<Q', size) + content[8:]
    header, data = json.loads(content[8:8 + size]), content[8 + size:]
    if rng.random() < 0.2:
        data = convert_tensor(rng, header, data)
    else:
        mutate_value(rng, header)
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data


def convert_tensor(rng: random.Random, header: Dict[str, Any],
                   data: bytes) -> bytes:
    r"""Converts a tensor of single precision, and moves those behind it."""
    name, dtype = rng.choice(sorted(header)), rng.choice(sorted(TYPES))
    start, end = header[name]['data_offsets']
    x = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float)
    part = x.to(TYPES[dtype]).view(torch.uint8).numpy().tobytes()
    longer = len(part) - (end - start)
    for entry in header.values():
        if 'data_offsets' in entry:  # Which is no metadata.
            entry['data_offsets'] = [i + longer * (i >= end)
                                     for i in entry['data_offsets']]
    header[name]['dtype'] = dtype
    return data[:start] + part + data[end:]


def mutate_parquet(rng: random.Random, content: bytes) -> bytes:
    r"""Changes the header of the first page, or the footer, which gets the
    length that it then has.
    """
    if rng.random() < 0.2:
        i, number = rng.randrange(4, 40), varint(rng.choice(NUMBERS))
        return content[:i] + number + content[i + len(number):]
    size, = struct.unpack('<I', content[-8:-4])
    start = len(content) - 8 - size
    footer = bytearray(content[start:-8])
    i = rng.randrange(len(footer))
    kind = rng.randrange(4)
    if kind == 0:
        footer[i] = rng.randrange(256)
    elif kind == 1:  # A number, as Thrift writes it
        footer[i:i + rng.choice([0, 1, 2])] = varint(rng.choice(NUMBERS))
    elif kind == 2:
        del footer[i:i + rng.choice([1, 4, 16])]
    else:
        footer[i:i] = footer[i:i + rng.choice([1, 4, 16])]
    return content[:start] + bytes(footer) + (
        struct.pack('<I', len(footer)) + content[-4:])


def varint(number: int) -> bytes:
    number = (number << 1 ^ number >> 63) % 2**64
    out = []
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def mutate_zip(rng: random.Random, content: bytes) -> bytes:
    r"""Packs anew, with other names or damaged members."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i, kind = rng.randrange(len(members)), rng.randrange(4)
    pickles = [i for i, (name, _) in enumerate(members)
               if name.endswith('.pkl')]
    if len(pickles) > 0 and rng.random() < 0.5:  # What all others hang from.
        i, kind = pickles[0], 3
    name, data = members[i]
    if kind == 0:
        members[i] = rng.choice(NAMES), data
    elif kind == 1:
        members.append((rng.choice([name, *NAMES]), data))
    elif kind == 2 and len(members) > 1:
        del members[i]
    else:
        members[i] = name, mutate(rng, name, data, [d for _, d in members])
    out = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED] * 3 + [
        zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(out, 'w', method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


FORMATS: Dict[str, Callable[[random.Random, bytes], bytes]] = {
    'json': mutate_json,
    'npy': mutate_npy,
    'npz': mutate_zip,
    'parquet': mutate_parquet,
    'pkl': mutate_pickle,
    'pt': mutate_zip,
    'safetensors': mutate_safetensors,
    'zip': mutate_zip,
}
