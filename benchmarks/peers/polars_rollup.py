"""The Pod part of the daily summary in Polars expressions: summed by label text first, labels parsed once per text."""

import polars as pl
from rollup_sql import GIB, KEYS, POD_COLUMNS, SUMS

DAY = pl.col("interval_start").dt.date().alias("usage_start")


def pod_rows(folder):
    """All Pod rows; `folder` names where a report lies."""
    pods = pl.scan_parquet(f"{folder('pod_usage')}/**/*.parquet", hive_partitioning=False)
    usage = (
        pods.filter(pl.col("node") != "")
        .group_by(DAY, "namespace", "node", "pod_labels")
        .agg(
            pl.col("resource_id").max(),
            pl.col("node_capacity_cpu_cores").max(),
            pl.col("node_capacity_memory_bytes").max(),
            *(effective(column).sum().alias(column) for column in SUMS),
        )
    )
    hours = pods.group_by(DAY, "node", "interval_start").agg(
        pl.col("node_capacity_cpu_core_seconds").max().alias("cpu"),
        pl.col("node_capacity_memory_byte_seconds").max().alias("memory"),
    )
    nodes = hours.group_by("usage_start", "node").agg(pl.col("cpu", "memory").sum().name.prefix("node_"))
    usage, nodes = pl.collect_all([usage, nodes], engine="streaming")
    cluster = nodes.group_by("usage_start").agg(
        pl.col("node_cpu").sum().alias("cluster_cpu"), pl.col("node_memory").sum().alias("cluster_memory")
    )
    texts = usage.lazy().select(pl.col("pod_labels").unique()).with_columns(parsed("pod_labels", "pod_"))
    joined = (
        usage.lazy()
        .join(texts, on="pod_labels", how="left")
        .join(latest(folder, "namespace"), on=["usage_start", "namespace"], how="left")
        .join(latest(folder, "node"), on=["usage_start", "node"], how="left")
        .join(nodes.lazy(), on=["usage_start", "node"], how="left")
        .join(cluster.lazy(), on="usage_start", how="left")
        .with_columns(pl.coalesce(f"pod_{key}", f"namespace_{key}", f"node_{key}").alias(key) for key in KEYS)
    )
    grouped = joined.group_by("usage_start", "namespace", "node", *KEYS).agg(
        pl.col("resource_id").max(),
        *(hours_of(pl.col(column).sum(), target).alias(target) for column, target in SUMS.items()),
        pl.col("node_capacity_cpu_cores").max(),
        (pl.col("node_capacity_memory_bytes").max() * float(GIB)).alias("node_capacity_memory_gigabytes"),
        *(
            hours_of(pl.col(f"{level}_{kind}").max(), target).alias(target)
            for level in ("node", "cluster")
            for kind, target in (
                ("cpu", f"{level}_capacity_cpu_core_hours"),
                ("memory", f"{level}_capacity_memory_gigabyte_hours"),
            )
        ),
    )
    return grouped.select(POD_COLUMNS).collect(engine="streaming")


def effective(column):
    """A summed column; effective usage falls back to the greater of usage and request, row by row."""
    if "effective" not in column:
        return pl.col(column)
    usage, request = column.replace("effective_usage", "usage"), column.replace("effective_usage", "request")
    return pl.coalesce(pl.col(column), pl.max_horizontal(usage, request))


def latest(folder, name):
    """Parsed labels of the greatest interval of the day, per node or namespace."""
    rows = pl.scan_parquet(f"{folder(f'{name}_labels')}/**/*.parquet", hive_partitioning=False)
    newest = rows.group_by(DAY, name).agg(pl.col(f"{name}_labels").sort_by("interval_start", f"{name}_labels").last())
    return newest.with_columns(parsed(f"{name}_labels", f"{name}_")).drop(f"{name}_labels")


def parsed(column, prefix):
    """The enabled keys of a label column."""
    return [pl.col(column).str.json_path_match(f"$.{key}").alias(f"{prefix}{key}") for key in KEYS]


def hours_of(sums, target):
    """Seconds to hours, bytes to GiB."""
    return sums / 3600.0 * float(GIB) if "memory" in target else sums / 3600.0
