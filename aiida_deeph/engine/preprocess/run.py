"""Raw DFT output of many structures -> one gated dataset."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from aiida_deeph import __version__
from aiida_deeph.engine.dft.start import with_start
from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.channels import kinds_of
from aiida_deeph.engine.domain.checks import Limits, one_basis, positive_overlap, run_gates
from aiida_deeph.engine.domain.cutoff import Cutoffs, bands_with_cutoff, measured_cutoffs, within_cutoff
from aiida_deeph.engine.domain.fingerprint import Groups, groups_of
from aiida_deeph.engine.domain.gate import Gate, failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.domain.transforms import with_common_pairs, without_gauge
from aiida_deeph.engine.errors import DataError, InputError, as_one_line, raise_if_machine_failed
from aiida_deeph.engine.io.dataset import (
    MANIFEST_FILE,
    MEMBERS,
    DatasetManifest,
    Member,
    Rejected,
    file_hashes,
    member_uuid,
    merged_source,
    write_manifest,
)
from aiida_deeph.engine.io.deeph import read_deeph_structure, write_deeph
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.paths import check_output
from aiida_deeph.engine.preprocess.agreement import Agreement
from aiida_deeph.engine.preprocess.asked import check_asked, read_asked
from aiida_deeph.engine.preprocess.config import MemberSource, PreprocessConfig
from aiida_deeph.engine.preprocess.extend import merged_extremes, merged_labels, read_earlier, take_over
from aiida_deeph.engine.preprocess.source import read_gated
from aiida_deeph.engine.system import track

REPORT_FILE = "preprocess.json"


# A molecule has all its pairs, however far apart: those of another one may be a little further, Angstrom.
MOLECULE_MARGIN = 0.5
# Bands with and without a cutoff are compared in so many members.
BAND_MEMBERS = 3


@dataclass
class _Dataset:
    """What has been accepted so far."""

    members: list[Member] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    gates: dict[str, list[Gate]] = field(default_factory=dict)
    basis: OrbitalBasis = field(default_factory=lambda: OrbitalBasis({}))
    spin: SpinMode | None = None
    kinds: set[str] = field(default_factory=set)
    states: Counter[str] = field(default_factory=Counter)
    cutoffs: dict[str, float] = field(default_factory=dict)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)
    gauges: list[float] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)
    agreement: Agreement = field(default_factory=Agreement)
    measured: dict[str, float] | None = None


def run_preprocess(config: PreprocessConfig, base_dir: Path, overwrite: bool = False) -> DatasetManifest:
    """Read, gate and write every member; `OUTPUT/preprocess.json` tells of each gate, whatever the outcome.

    :param base_dir: paths of the configuration are relative to it.
    :param overwrite: whether a dataset that stands there already may go.
    :raises InputError: a dataset stands there.
    :raises MachineError: the disk is full, or the like: the members are not to blame.
    :raises DataError: too many members are rejected, or all; no manifest is written then.
    """
    output = Path(base_dir) / config.output
    for folder in (output, output / MEMBERS):
        check_output(folder, folder=True)
    if (output / MANIFEST_FILE).exists() and not overwrite:
        raise InputError("a dataset stands there", where=output, remedy="another output, or --overwrite to replace it")
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST_FILE).unlink(missing_ok=True)
    dataset = _Dataset()
    earlier = _take_all_over(dataset, config, Path(base_dir), output)
    names = {member.name for member in dataset.members} | {one.name for one in dataset.rejected}
    asked = {} if config.asked is None else read_asked(Path(base_dir) / config.asked)
    for source in track(config.members, "Preprocessing"):
        try:
            if source.name in names:
                raise DataError("name of a member stands twice", found=source.name)
            names.add(source.name)
            _add(dataset, source, config, Path(base_dir), output, asked.get(source.name))
        except Exception as error:  # one broken run among thousands must not cost the others
            raise_if_machine_failed(error)
            dataset.rejected.append(Rejected(name=source.name, reason=str(as_one_line(error))))
    statistics = _statistics(dataset)
    if earlier is not None:
        statistics = merged_extremes(statistics, earlier.statistics)
    copies = groups_of([(member.name, member.group or member.name) for member in dataset.members])
    statistics["groups"] = copies
    report = {
        "n_members": len(dataset.members),
        "n_rejected": len(dataset.rejected),
        "rejected": [one.model_dump() for one in dataset.rejected],
        "statistics": statistics,
        "gates": {name: [gate.as_dict() for gate in gates] for name, gates in dataset.gates.items()},
    }
    write_text_atomic(output / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    n_given = len(config.members) + (len(earlier.members) if earlier is not None else 0)
    if not dataset.members or len(dataset.rejected) / n_given > config.max_failed_fraction:
        first = dataset.rejected[0]
        raise DataError(
            f"{len(dataset.rejected)} of {n_given} members rejected",
            where=output / REPORT_FILE,
            found=f"first: {first.name}: {first.reason}",
            expected=f"at most a share of {config.max_failed_fraction:g}",
            remedy="mend or leave out these members, or raise max_failed_fraction",
        )
    assert dataset.spin is not None
    shells = dataset.basis.shells
    labels, codes = merged_source(dataset.metadata), {source.code for source in config.members}
    if earlier is not None:
        labels = merged_labels(labels, earlier.source.get("labels", {}))
        codes |= set(earlier.source.get("codes", ()))
    manifest = DatasetManifest(
        members=tuple(dataset.members),
        rejected=tuple(dataset.rejected),
        basis={symbol: shells[symbol] for symbol in sorted(shells, key=atomic_numbers.__getitem__)},
        spin=dataset.spin,
        kinds=tuple(sorted(dataset.kinds)),
        pair_cutoffs=dict(sorted(dataset.cutoffs.items())),
        gauge=config.gauge,
        statistics=statistics,
        source={
            "labels": labels,
            "codes": sorted(codes),
            "agreement": dataset.agreement.as_source(),
            "measured_cutoffs_Angstrom": dataset.measured,
            "band_error_of_cutoff_eV": statistics["max_band_error_of_cutoff_eV"],
            "preprocess": config.model_dump(mode="json", exclude={"members", "output", "extend", "asked"}),
            "version": __version__,
        },
    )
    write_manifest(output, manifest)
    return manifest


def _take_all_over(dataset: _Dataset, config: PreprocessConfig, base_dir: Path, output: Path) -> DatasetManifest | None:
    """Members of the dataset that is extended; None without one."""
    if config.extend is None:
        return None
    folder = base_dir / config.extend
    manifest = read_earlier(folder, config)
    for member in track(manifest.members, "Taking over"):
        try:
            member = take_over(member, folder, output)
            structure = read_deeph_structure(output / member.path)
            dataset.members.append(_in_group(dataset, member, structure))
        except DataError as error:
            dataset.rejected.append(Rejected(name=member.name, reason=str(error)))
    dataset.basis, dataset.spin = manifest.orbital_basis, manifest.spin
    dataset.kinds, dataset.states = set(manifest.kinds), Counter(manifest.statistics.get("magnetic_states", {}))
    dataset.cutoffs.update(manifest.pair_cutoffs)
    dataset.agreement = Agreement.of(manifest.source)
    dataset.measured = manifest.source.get("measured_cutoffs_Angstrom")
    return manifest


def _in_group(dataset: _Dataset, member: Member, structure: Structure) -> Member:
    """The member with its group, if it is a copy of one before."""
    group = dataset.groups.add(member.name, structure)
    return member.model_copy(update={"group": "" if group == member.name else group})


def _add(
    dataset: _Dataset,
    source: MemberSource,
    config: PreprocessConfig,
    base_dir: Path,
    output: Path,
    asked: Structure | None = None,
) -> None:
    """Read one member, gate it and write it.

    :param asked: the structure that it should be of.
    :raises DeepHError: the reason of its rejection.
    """
    raw, gates = read_gated(source.code, base_dir / source.path)
    dataset.gates[source.name] = gates
    if raw.hamiltonian is None:
        raise DataError("no Hamiltonian", where=source.path)
    if asked is not None:
        check_asked(raw.structure, asked, source.path)
    data = raw
    limits = Limits(config.max_hermiticity_error, config.min_overlap_eigenvalue, config.max_dropped)
    sound = run_gates(raw, limits, overlap_eigenvalue=config.cutoff is None)
    gates += sound
    gates.append(one_basis(dataset.basis, raw))
    gates += [] if raw.moments is None else raw.moments.state_kept()
    if not failures(gates) and config.cutoff is not None:
        data = _cut(dataset, raw, config, gates)
    if not failures(gates):
        gates += dataset.agreement.gates(data, config.allow, config.gauge == "as_computed")
    failed = failures(gates)
    if failed:
        raise DataError("gate failed", where=source.path, found=" and ".join(map(str, failed)))
    if dataset.spin not in (None, data.spin):
        raise DataError("spin mode differs", where=source.path, found=data.spin, expected=dataset.spin)
    grouped = data.grouped()[0]
    uuid = member_uuid(grouped.structure, data.basis, grouped.moments)
    twin = next((member.name for member in dataset.members if member.uuid == uuid), None)
    if twin is not None:
        raise DataError(
            "duplicate structure", where=source.path, found=f"the same atoms, cell and basis as member {twin}"
        )
    dataset.agreement.learn(data)
    metadata = dict(data.metadata)
    if config.gauge == "mu_removed":
        data, mu = without_gauge(data)
        data = replace(data, metadata={**metadata, "gauge_mu_eV": mu})
        dataset.gauges.append(mu)
    if config.subtract_start:
        data = with_start(data, metadata.get("settings") or {}, -1)
    # H takes the pairs that only S has, as zeros: the format wants one list of pairs, and the graph is built from it.
    data = with_common_pairs(data)
    assert data.hamiltonian is not None
    path = f"{MEMBERS}/{source.name}"
    write_deeph(output / path, data)
    member = Member(
        name=source.name,
        uuid=uuid,
        path=path,
        sha256=file_hashes(output / path),
        n_atoms=len(data.structure),
        n_pairs=len(data.hamiltonian),
        fermi_energy=data.fermi_energy,
    )
    dataset.members.append(_in_group(dataset, member, data.structure))
    dataset.basis = dataset.basis.union(data.basis)
    dataset.spin = data.spin
    margin = 0.0 if any(data.structure.pbc) else MOLECULE_MARGIN
    if data.spin is SpinMode.COLLINEAR and data.moments is not None:
        dataset.kinds |= kinds_of(data.structure, data.moments)
    if data.moments is not None:
        dataset.states[data.moments.order] += 1
    for key, distance in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
        dataset.cutoffs[key] = max(dataset.cutoffs.get(key, 0.0), distance + margin)
    dataset.metadata.append(metadata)
    dataset.elements.update(data.structure.symbols)


def _cut(
    dataset: _Dataset, raw: RealSpaceHamiltonian, config: PreprocessConfig, gates: list[Gate]
) -> RealSpaceHamiltonian:
    """The data without pairs beyond the cutoff, and gates on what that costs."""
    cutoff: Cutoffs
    if config.cutoff == "auto":
        own = measured_cutoffs(raw, config.max_band_error / 10)
        # What an element pair needs was found where it was first seen; with new elements come new pairs.
        dataset.measured = cutoff = {**own, **(dataset.measured or {})}
    else:
        assert config.cutoff is not None
        cutoff = config.cutoff
    data, dropped = within_cutoff(raw, cutoff, config.max_dropped)
    gates.append(dropped)
    if len(dataset.members) < BAND_MEMBERS:
        bands = bands_with_cutoff(raw, data, config.max_band_error)
        gates += [] if bands is None else [bands]
    if data.overlap is not None:
        gates.append(positive_overlap(data, config.min_overlap_eigenvalue))
    return data


def _statistics(dataset: _Dataset) -> dict[str, Any]:
    """Sums and extremes over the accepted members."""
    accepted = [gate for member in dataset.members for gate in dataset.gates.get(member.name, ())]

    def extreme(name: str, pick: Any) -> float | None:
        values = [gate.value for gate in accepted if gate.name == name and gate.value is not None]
        return float(pick(values)) if values else None

    return {
        "n_members": len(dataset.members),
        "n_rejected": len(dataset.rejected),
        "n_atoms": sum(member.n_atoms for member in dataset.members),
        "n_pairs": sum(member.n_pairs for member in dataset.members),
        "elements": dict(sorted(dataset.elements.items())),
        **({"magnetic_states": dict(sorted(dataset.states.items()))} if dataset.states else {}),
        "max_hermiticity_error_eV": extreme("H Hermitian", max),
        "max_dropped_eV": extreme("H beyond cutoff", max),
        "max_band_error_of_cutoff_eV": extreme("bands with the cutoff", max),
        "min_overlap_eigenvalue": extreme("S(k) smallest eigenvalue", min),
        "max_gauge_mu_eV": float(np.max(np.abs(dataset.gauges))) if dataset.gauges else None,
        "warnings": [str(gate) for gate in failures(accepted, "warning")],
    }
