"""PDF files, written by hand: lines of Helvetica on pages, from the top."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def pdf(pages: Sequence[Sequence[str]], title: str = "", picture: bool = False) -> bytes:
    """A file with these lines on its pages, or with a picture alone on each."""
    return b"".join(parts(pages, title, picture))


def parts(pages: Sequence[Sequence[str]], title: str = "", picture: bool = False) -> list[bytes]:
    """The same in pieces: head, objects, and the table of their places."""
    objects = [b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"]
    pixels = zlib.compress(bytes(range(256)) * 3)
    image = b"/Type /XObject /Subtype /Image /Width 16 /Height 16 /ColorSpace /DeviceRGB /BitsPerComponent 8"
    objects.append(b"<< %s /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (image, len(pixels), pixels))
    kids = []
    for lines in pages:
        drawn = "\n".join(f"1 0 0 1 72 {800 - 14 * row} Tm ({_escaped(line)}) Tj" for row, line in enumerate(lines))
        content = b"q 400 0 0 400 72 300 cm /I Do Q" if picture else f"BT /F 12 Tf\n{drawn}\nET".encode("cp1252")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        resources = b"/Resources << /Font << /F 1 0 R >> /XObject << /I 2 0 R >> >>"
        page = b"<< /Type /Page /Parent 0000 0 R /MediaBox [0 0 595 842] %s /Contents %d 0 R >>"
        objects.append(page % (resources, len(objects)))
        kids.append(len(objects))
    named = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects.append(b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), named))
    tree = len(objects)
    objects = [each.replace(b"/Parent 0000 0 R", b"/Parent %d 0 R" % tree) for each in objects]
    objects.append(b"<< /Type /Catalog /Pages %d 0 R >>" % tree)
    objects.append(b"<< /Title (%s) >>" % _escaped(title).encode("cp1252"))
    found, places, end = [b"%PDF-1.4\n"], list[int](), 9
    for number, each in enumerate(objects, 1):
        places.append(end)
        found.append(b"%d 0 obj\n%s\nendobj\n" % (number, each))
        end += len(found[-1])
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\n" % (len(objects) + 1, tree + 1, tree + 2)
    found.append(head + table + trailer + b"startxref\n%d\n%%%%EOF\n" % end)
    return found


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
