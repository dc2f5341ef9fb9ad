"""Dataset, training and prediction with the engine alone, no AiiDA: what the jobs of the workflows do.

The network and the data are so small that it takes seconds; nothing can be said of its accuracy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from aiida_deeph import (
    CosineConfig,
    DeepHE3Config,
    MemberSource,
    PredictConfig,
    PreprocessConfig,
    PyscfConfig,
    SplitConfig,
    Structure,
    TrainConfig,
    predict,
    read_deeph,
    run_preprocess,
    run_pyscf,
    train,
    write_structure,
)


def hydrogen_chain(distance: float, n_units: int = 1) -> Structure:
    """Pairs of hydrogen atoms along x, `distance` apart inside a pair."""
    start = 2.0 * np.arange(n_units)
    x = np.stack([start, start + distance], axis=1).ravel()
    positions = np.column_stack([x, np.full_like(x, 3.0), np.full_like(x, 3.0)])
    return Structure(("H",) * (2 * n_units), positions, np.diag([2.0 * n_units, 6.0, 6.0]), (True, False, False))


def main() -> None:
    """Label four chains, train on two, predict a longer one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = []
        for n, distance in enumerate((0.75, 0.80, 0.85, 0.90)):
            run = folder / f"run_{n}"
            run.mkdir()
            write_structure(run / "structure.xyz", hydrogen_chain(distance))
            run_pyscf(PyscfConfig(kmesh=(11, 1, 1), ke_cutoff=25.0), run, report=lambda line: None)
            members.append(MemberSource(name=f"chain_{n}", path=run.name, code="pyscf"))
        run_preprocess(PreprocessConfig(members=tuple(members), cutoff=5.0), folder)
        config = TrainConfig(
            dataset=str(folder / "dataset"),
            network=DeepHE3Config(irreps_embed="8x0e", irreps_mid="8x0e+4x1o", lmax=1, n_blocks=1, n_gaussians=16),
            split=SplitConfig(train=0.5, validation=0.25, test=0.25),
            epochs=40,
            learning_rate=1e-2,
            scheduler=CosineConfig(),
            device="cpu",
            threads=1,
        )
        report = train(config, folder, quiet=True)
        print(f"{report['epochs']} epochs, validation loss {report['best_validation_loss']:.2e} eV^2")
        write_structure(folder / "long.xyz", hydrogen_chain(0.82, n_units=20))
        wanted = PredictConfig(
            model=str(folder / "model"),
            structure=str(folder / "long.xyz"),
            output=str(folder / "prediction"),
            device="cpu",
            threads=1,
        )
        predicted = read_deeph(predict(wanted))
        print(f"predicted H(R): {len(predicted.structure)} atoms, {len(predicted.hamiltonian)} pairs")
        assert predicted.hamiltonian.hermiticity_error() < 1e-6


if __name__ == "__main__":
    main()
