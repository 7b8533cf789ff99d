"""Protobuf by hand: requests as oddly shaped as the format allows, and what is in them."""

import struct


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def integer(number, n):
    return varint(number << 3) + varint(n)


def fixed64(number, n):
    return varint(number << 3 | 1) + struct.pack("<Q", n)


def double(number, x):
    return varint(number << 3 | 1) + struct.pack("<d", x)


def field(number, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def read_varint(data, at):
    n = shift = 0
    while True:
        byte = data[at]
        n |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return n, at


def fields(data):
    """Number and content: an int, 8 or 4 bytes, or the bytes of a field with a length."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            content, at = read_varint(data, at)
        else:
            if kind == 2:
                length, at = read_varint(data, at)
            else:
                length = {1: 8, 5: 4}[kind]
            content, at = data[at : at + length], at + length
        yield number, content


def messages(data, number):
    return [content for n, content in fields(data) if n == number]
