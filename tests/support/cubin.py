"""What a compiled CUDA kernel needs, read from its file: registers and stack, of each kernel by name."""

import struct

# Attributes of a .nv.info section: EIATTR_REGCOUNT and EIATTR_MIN_STACK_SIZE. Spilled registers live on the stack.
_ATTRIBUTES = {0x2F: "registers", 0x12: "stack"}


def resources(cubin: bytes) -> dict[str, dict[str, int]]:
    """Registers and bytes of stack of each kernel in an ELF file for NVIDIA GPUs.

    NVIDIA documents neither: the layout is that which `cuobjdump -res-usage` reads, checked against the log of ptxas.
    """
    start, count, names_at = struct.unpack_from("<Q", cubin, 40)[0], *struct.unpack_from("<HH", cubin, 60)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, start + 64 * k) for k in range(count)]

    def text(section: int, offset: int) -> str:
        begin = headers[section][4] + offset
        return cubin[begin : cubin.index(b"\0", begin)].decode()

    names = [text(names_at, header[0]) for header in headers]
    found: dict[str, dict[str, int]] = {}
    symbols = headers[names.index(".symtab")]
    info = headers[names.index(".nv.info")]
    at, end = info[4], info[4] + info[5]
    while at < end:
        form, attribute, size = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form != 4:  # the value is `size` itself
            continue
        if attribute in _ATTRIBUTES:
            symbol, value = struct.unpack_from("<II", cubin, at)
            name = text(symbols[6], struct.unpack_from("<I", cubin, symbols[4] + 24 * symbol)[0])
            found.setdefault(name, {})[_ATTRIBUTES[attribute]] = value
        at += size
    return found
