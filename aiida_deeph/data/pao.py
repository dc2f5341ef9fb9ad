"""Files of numerical atomic orbitals as nodes, and families of them as groups."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import IO, Any

from aiida.common.exceptions import ValidationError
from aiida.orm import Group, QueryBuilder, SinglefileData

from aiida_deeph.engine.dft.base import code_of_format
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.orbitals.formats import SUFFIXES, describe_orbitals, format_of, suffix_of
from aiida_deeph.engine.orbitals.pao import PaoDescription


class PaoData(SinglefileData):
    """One file of numerical orbitals: `.pao`, `.ion.xml`, `.ion` or `.orb`.

    Attributes: code, name (`C6.0` of C6.0.pao), element, valence (electrons; None if the file does not say it), radius
    (Bohr), counts (functions of each l), sha256.
    """

    def set_file(self, file: str | Path | IO[Any], filename: str | Path | None = None, **kwargs: Any) -> None:
        """Take a file and what its head says.

        :param file: path, or stream of bytes; of a stream the name is needed.
        :raises InputError: the file's name is not one of such files.
        :raises DataError: it is no such file or is damaged.
        """
        if isinstance(file, str | Path):
            filename = filename or Path(file).name
            file = io.BytesIO(Path(file).read_bytes())
        super().set_file(file, filename, **kwargs)
        content = self.get_content(mode="rb")
        head = describe_orbitals(content.decode("utf-8", errors="replace"), self.filename)
        self.base.attributes.set_many(
            {
                "code": code_of_format(head.format),
                "name": head.name,
                "element": head.element,
                "valence": head.valence,
                "radius": head.radius,
                "radius_units": "bohr",
                "counts": list(head.counts),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )

    def _validate(self) -> bool:
        super()._validate()  # type: ignore[no-untyped-call]
        found = hashlib.sha256(self.get_content(mode="rb")).hexdigest()
        if found != self.base.attributes.get("sha256"):
            raise ValidationError(f"{self.filename} is not the file whose head was read")
        return True

    @classmethod
    def get_or_create(cls, path: Path) -> PaoData:
        """The stored node of a file with this name and content, or a new one.

        :raises InputError: the file's name is not one of such files.
        :raises DataError: it is no such file or is damaged.
        """
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        filters = {"attributes.sha256": sha256, "attributes.filename": path.name}
        found: PaoData | None = QueryBuilder().append(cls, filters=filters).first(flat=True)
        return found if found is not None else cls(path)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return str(self.base.attributes.get("name"))

    @property
    def element(self) -> str:
        """Element symbol."""
        return str(self.base.attributes.get("element"))

    @property
    def code(self) -> str:
        """Name of the code whose orbitals they are."""
        return self.base.attributes.get("code", None) or code_of_format(format_of(self.filename))

    @property
    def valence(self) -> float | None:
        """Valence electrons of the pseudo-atom that the orbitals were made for; None if the file does not say."""
        found: float | None = self.base.attributes.get("valence")
        return found

    @property
    def n_orbitals(self) -> int:
        """All orbitals of the file."""
        return sum((2 * l + 1) * count for l, count in enumerate(self.base.attributes.get("counts")))

    @property
    def head(self) -> PaoDescription:
        """What the file says of itself."""
        known = self.base.attributes.all
        return PaoDescription(
            known["name"], known["element"], known["valence"], known["radius"], tuple(known["counts"])
        )


class PaoFamily(Group):
    """A set of files of orbitals; an element may have several, of different radii, told apart by their names."""

    @classmethod
    def create_from_folder(cls, folder: Path, label: str, description: str = "") -> tuple[PaoFamily, dict[str, str]]:
        """Store the files of orbitals of a folder; nodes that are there already are used again.

        Databases hold a few files of virtual atoms between the elements: such files are left out.

        :raises InputError: not one file that can be used, or a family of this label.
        :return: the family, and the files left out with the reason.
        """
        if cls.collection.count(filters={"label": label}):
            raise InputError("a family has this label", where="label", found=label, remedy="choose another label")
        nodes, left_out = [], {}
        paths = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
        for path in paths:
            if path.suffix == ".ion" and path.with_name(f"{path.name}.xml") in paths:
                continue
            try:
                nodes.append(PaoData.get_or_create(path))
            except DeepHError as error:
                left_out[path.name] = str(error)
        if not nodes:
            nothing = f"no {', '.join(f'*{suffix}' for suffix in SUFFIXES)}"
            found = f"{next(iter(left_out))}: {next(iter(left_out.values()))}" if left_out else nothing
            raise InputError("no files of orbitals", where=folder, found=found, expected="files such as C6.0.pao")
        family = cls(label=label, description=description)
        family.store()
        family.add_nodes([node if node.is_stored else node.store() for node in nodes])
        return family, left_out

    @property
    def orbitals(self) -> dict[str, PaoData]:
        """All files by name, grouped by element."""
        rows = [(node.element, node.name, node) for node in self.nodes]
        return {name: node for _, name, node in sorted(rows, key=lambda row: row[:2])}

    def of_element(self, symbol: str) -> list[PaoData]:
        """All files of an element, those with the fewest orbitals first."""
        nodes = [node for node in self.orbitals.values() if node.element == symbol]
        return sorted(nodes, key=lambda node: node.n_orbitals)

    def get_orbitals(self, name: str) -> PaoData:
        """The file of a name such as `C6.0`.

        :raises InputError: it is not in the family.
        """
        query = QueryBuilder().append(Group, filters={"id": self.pk}, tag="family")
        found = query.append(PaoData, filters={"attributes.name": name}, with_group="family").all(flat=True)
        if not found:
            element = re.sub(r"^([A-Z]?[a-z]?).*", r"\1", name)
            others = [known for known, node in self.orbitals.items() if node.element == element]
            suffixes = {suffix_of(node.filename) for node in self.nodes}
            raise InputError(
                "orbitals are not in the family",
                where=f"PaoFamily {self.label}",
                found=f"no {name}{min(suffixes, default='')}",
                expected=f"one of {', '.join(others)}" if others else f"orbitals of {element}",
                remedy="install a folder that holds them: `aiida-deeph data pao install`",
            )
        node: PaoData = found[0]
        return node
