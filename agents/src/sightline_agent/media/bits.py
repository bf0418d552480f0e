"""Reading bit by bit what H.264 writes so: parameter sets and slice headers (ISO 14496-10 sections 7.2 and 9.1)."""

_MAX_GOLOMB_ZEROS = 31


class Bits:
    """Reads bits and Exp-Golomb codes; EOFError past the end."""

    def __init__(self, data: bytes, escaped: bool = True) -> None:
        """`escaped`: with H.264's emulation prevention; other formats have none."""
        plain = unescape(data) if escaped else data
        self._value = int.from_bytes(plain, "big")
        self._left = len(plain) * 8

    def read(self, count: int) -> int:
        """So many bits as a number."""
        if count > self._left:
            raise EOFError
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """ue(v)."""
        zeros = 0
        while self.read(1) == 0:
            zeros += 1
            if zeros > _MAX_GOLOMB_ZEROS:
                raise EOFError
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def unescape(data: bytes) -> bytes:
    """Without emulation prevention: 00 00 03 stands for 00 00."""
    return data.replace(b"\0\0\3", b"\0\0")
