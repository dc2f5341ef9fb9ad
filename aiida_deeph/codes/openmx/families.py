"""OpenMX's database of 2019: which orbitals and pseudopotential its manual recommends, and how its folder looks."""

from __future__ import annotations

from pathlib import Path

import yaml

from aiida_deeph.codes.families import Database

TABLE = Path(__file__).parent / "orbitals.yaml"
COLUMNS = ("pseudo", "quick", "standard", "precise")


def recommended() -> dict[str, dict[str, str]]:
    """Element -> column -> name of its pseudopotential or orbitals."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {symbol: dict(zip(COLUMNS, row, strict=True)) for symbol, row in table.items()}


def database(folder: Path) -> Database | None:
    """The folder `DFT_DATA19`, of whose pseudopotentials of an element the one recommended for PBE is taken."""
    if not (folder / "PAO").is_dir():
        return None
    paths = [folder / "VPS" / f"{row['pseudo']}.vps" for row in recommended().values()]
    return Database(folder / "PAO", [path for path in paths if path.is_file()], "vps")
