"""Bags of cells, as far as messages need it: written from the format's description, so that it
does not share a mistake with the program under test."""

import base64

# What a message's body begins with (contracts/README.md).
PAYOUT = 0xC59A7CD3
CLIENT_NOTICE = 0x65448FF4
CLIENT_TOP_UP = 0x5CFC6B87
INCREASE_STAKE = 0x9713F187


class Cell:
    """Bits from left to right, and other cells."""

    def __init__(self, bits, length):
        self.bits, self.length = bits, length
        self.references = []

    def number(self, at, length):
        if at + length > self.length:
            return None
        return self.bits >> (self.length - at - length) & ((1 << length) - 1)

    def operation(self):
        return self.number(0, 32)

    def coins(self, at):
        """An amount: four bits of length in bytes, then the bytes."""
        size = self.number(at, 4)
        return self.number(at + 4, 8 * size)


def read(text):
    """The root of a bag of cells in base64; an empty cell for an empty text."""
    data = base64.b64decode(text)
    if not data:
        return Cell(0, 0)
    assert data[:4] == b"\xb5\xee\x9c\x72", "no bag of cells"
    size, offset, at = data[4] & 7, data[5], 6

    def take(length):
        nonlocal at
        at += length
        return int.from_bytes(data[at - length : at], "big")

    count, roots, _absent, _total = take(size), take(size), take(size), take(offset)
    root = take(size)
    at += size * (roots - 1) + (offset * count if data[4] & 0x80 else 0)
    cells = []
    for _ in range(count):
        references, halves = take(1) & 7, take(1)
        length = (halves + 1) // 2
        bits, width = take(length), 8 * length
        if halves & 1:
            # The last byte is filled up with a one and zeros.
            rest = (bits & -bits).bit_length()
            bits, width = bits >> rest, width - rest
        cell = Cell(bits, width)
        cell.references = [take(size) for _ in range(references)]
        cells.append(cell)
    for cell in cells:
        cell.references = [cells[number] for number in cell.references]
    return cells[root]


def amount(message):
    """What a message is about: its operation, and the amount that its body names, if any."""
    body = read(message["msg_data"]["body"])
    operation = body.operation()
    if operation == INCREASE_STAKE:
        return operation, body.coins(96)
    if operation == CLIENT_NOTICE and len(body.references) > 1:
        payload = body.references[1]
        if payload.operation() == CLIENT_TOP_UP:
            return CLIENT_TOP_UP, payload.coins(32)
    return operation, int(message["value"])
