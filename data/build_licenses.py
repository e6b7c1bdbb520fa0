"""Writes license_texts.jsonl.xz from the folder `licenses` of the npm package spdx-license-list.

    npm pack spdx-license-list && tar xzf spdx-license-list-*.tgz
    python data/build_licenses.py package/licenses > data/license_texts.jsonl.xz

Identifiers that SPDX has replaced by others for the same text (GPL-3.0 by GPL-3.0-only) are left out. The output is the
same bytes for the same texts.
"""

import json
import lzma
import sys
from pathlib import Path


def texts(folder: Path) -> dict[str, str]:
    """Identifier -> text, in alphabetical order, without the identifiers that others have replaced."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8"))["licenseText"] for path in folder.glob("*.json")}
    replaced = {name for name in found if name.endswith("+") or f"{name}-only" in found}
    return {name: found[name] for name in sorted(found.keys() - replaced)}


def main() -> None:
    """Compresses one line of JSON a licence."""
    lines = [json.dumps({"license": name, "text": text}) + "\n" for name, text in texts(Path(sys.argv[1])).items()]
    sys.stdout.buffer.write(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
