"""Which keywords of ABACUS's INPUT the user may set, and which follow from other inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_deeph.engine.dft.keywords import Check, KeywordTable, integer, logical, number, one_of, several, word

_PLUGIN = "the plugin"
# Keyword (or its beginning, up to a dot) -> what decides it.
OWNED: Mapping[str, str] = {
    "suffix": _PLUGIN,
    "calculation": f"{_PLUGIN}: one geometry",
    "esolver_type": f"{_PLUGIN}: Kohn-Sham",
    "basis_type": f"{_PLUGIN}: numerical atomic orbitals",
    "gamma_only": f"{_PLUGIN}: H(R) is never folded",
    "symmetry": f"{_PLUGIN}: all k-points that the spins need",
    "pseudo_dir": "the input pseudos",
    "orbital_dir": "the input orbitals",
    "stru_file": "the input structure",
    "kpoint_file": "the input kpoints",
    "kspacing": "the input kpoints",
    "ntype": "the input structure",
    "latname": "the input structure",
    "nspin": "the input spin",
    "noncolin": "the input spin",
    "lspinorb": "the input spin",
    "init_chg": "the input restart_folder",
    "read_file_dir": "the input restart_folder",
    "out_mat_hs2": f"{_PLUGIN}: H(R) and S(R) are always written",
    "out_chg": f"{_PLUGIN}: an SCF may start from this one",
    "out_band": "the input bands_kpoints",
    "out_app_flag": _PLUGIN,
    "relax_nmax": f"{_PLUGIN}: one geometry",
}

_logical = logical("1", "0")
_positive, _share, _real = number(0, strict=True), number(0), number()


def _per_type(value: Any) -> str:
    """A number for each type of atom, in the order of the elements of the structure."""
    values = value if isinstance(value, list | tuple) else [value]
    return several(len(values), _real)(values)


# Keyword as ABACUS's manual spells it -> how its value is checked and written.
KEYWORDS: Mapping[str, Check] = {
    "dft_functional": word,
    "ecutwfc": _positive,
    "ecutrho": _positive,
    "nx": integer(1),
    "ny": integer(1),
    "nz": integer(1),
    "nbands": integer(1),
    "nelec": _share,
    "nelec_delta": _real,
    "nupdown": _real,
    "ks_solver": word,
    "device": one_of("cpu", "gpu"),
    "kpar": integer(1),
    "bndpar": integer(1),
    "scf_nmax": integer(1),
    "scf_thr": _positive,
    "scf_thr_type": integer(1),
    "scf_ene_thr": _real,
    "smearing_method": one_of("gaussian", "gauss", "mp", "mp2", "mv", "cold", "fd", "fixed"),
    "smearing_sigma": _share,
    "mixing_type": one_of("broyden", "pulay", "plain"),
    "mixing_beta": _positive,
    "mixing_beta_mag": _positive,
    "mixing_ndim": integer(1),
    "mixing_gg0": _share,
    "mixing_gg0_mag": _share,
    "mixing_gg0_min": _share,
    "mixing_restart": _share,
    "mixing_dmr": _logical,
    "mixing_angle": _real,
    "mixing_tau": _logical,
    "lcao_ecut": _share,
    "lcao_dk": _positive,
    "lcao_dr": _positive,
    "lcao_rmax": _positive,
    "search_radius": _real,
    "soc_lambda": _share,
    "dft_plus_u": integer(0),
    "orbital_corr": _per_type,
    "hubbard_u": _per_type,
    "uramping": _real,
    "omc": integer(0),
    "yukawa_potential": _logical,
    "onsite_radius": _positive,
    "vdw_method": one_of("none", "d2", "d3_0", "d3_bj"),
    "vdw_s6": word,
    "vdw_s8": word,
    "vdw_a1": word,
    "vdw_a2": word,
    "vdw_abc": _logical,
    "efield_flag": _logical,
    "dip_cor_flag": _logical,
    "efield_dir": integer(0),
    "efield_pos_max": _share,
    "efield_pos_dec": _share,
    "efield_amp": _real,
    "cal_force": _logical,
    "cal_stress": _logical,
    # Instead of out_mat_hs2, which later releases call so.
    "out_hsr": one_of("1"),
    "bx": integer(1),
    "by": integer(1),
    "bz": integer(1),
    "pseudo_rcut": _positive,
    "seed": integer(0),
}
TABLE = KeywordTable(KEYWORDS, OWNED)
