"""Writes what the makers say of their options to where the config reads it, `options.json`.

python -m rbjax.config
"""

import argparse

from rbjax.config import catalog

if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m rbjax.config", description=__doc__).parse_args()
    catalog.FILE.write_text(catalog.text(), encoding="utf-8")
    print(f"wrote {catalog.FILE}")
