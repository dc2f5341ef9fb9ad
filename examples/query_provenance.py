"""From a band structure back to the DFT runs that trained the model behind it, by the provenance graph alone.

Run it after the quickstart: `verdi -p deeph-quickstart run query_provenance.py`.
"""

from __future__ import annotations

from aiida import orm
from aiida.plugins import DataFactory, WorkflowFactory

DFT_JOBS = ("PyscfCalculation", "Cp2kCalculation")


def main() -> None:
    """Walk up from the bands of the last finished pipeline."""
    query = orm.QueryBuilder().append(
        WorkflowFactory("deeph.full"), filters={"attributes.exit_status": 0}, project="*", tag="process"
    )
    process = query.order_by({"process": {"id": "desc"}}).limit(1).first(flat=True)
    for name in process.outputs.bands:
        bands = process.outputs.bands[name]
        above = orm.QueryBuilder().append(orm.BandsData, filters={"id": bands.pk}, tag="bands")
        above.append(orm.Node, with_descendants="bands")
        nodes = above.distinct().all(flat=True)
        runs = [node for node in nodes if isinstance(node, orm.CalcJobNode) and node.process_label in DFT_JOBS]
        models = [node for node in nodes if isinstance(node, DataFactory("deeph.model"))]
        print(f"bands {name} ({bands.pk}) stand on {len(runs)} DFT runs and model {models[0].pk}")
        converged = sum(bool(run.outputs.output_parameters.get("converged", True)) for run in runs)
        print(f"  converged: {converged}; elements of the model: {', '.join(models[0].elements)}")


if __name__ == "__main__":
    main()
