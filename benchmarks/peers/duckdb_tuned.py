"""The Pod part for DuckDB, tuned by hand: group by 64-bit hashes of the names, come back to texts once the rows are few.

DuckDB evaluates `hash` once per entry of a Parquet dictionary, and groups of integers are about twice as fast as groups of
texts. Two assumptions make that possible, and a statement checks the second one: no two texts have the same hash (the
comparison of all rows would show it), and no node has two resource ids on one day.
"""

from rollup_sql import CAPACITIES, GIB, SUMS, effective, hours, key_expressions, latest_labels, merged, parsed

HASHED = ("namespace", "node", "pod_labels")


def statements(dialect):
    """(name, statement) in order; the last one makes `pod_rows`."""
    source = dialect.source("pod_usage")
    sums = ", ".join(f"sum({effective(column)}) as {column}" for column in SUMS)
    codes = ", ".join(f"hash({column}) as {column}_hash" for column in HASHED)
    tables = [
        ("hashed_sums", f"""select {dialect.day} as usage_start, {codes}, max(node_capacity_cpu_cores) as cpu_cores,
            max(node_capacity_memory_bytes) as memory_bytes, {sums} from {source} where node <> '' group by 1, 2, 3, 4"""),
        ("hourly", f"""select {dialect.day} as usage_start, interval_start, hash(node) as node_hash,
            max(node_capacity_cpu_core_seconds) as cpu, max(node_capacity_memory_byte_seconds) as memory
            from {source} group by 1, 2, 3"""),
        ("node_capacity", "select usage_start, node_hash, sum(cpu) as cpu, sum(memory) as memory from hourly group by 1, 2"),
        ("cluster_capacity", "select usage_start, sum(cpu) as cpu, sum(memory) as memory from hourly group by 1"),
        ("resources", f"select distinct {dialect.day} as usage_start, node, resource_id from {source} where node <> ''"),
        ("nodes", """select usage_start, node, hash(node) as node_hash, case when count(*) = 1 then max(resource_id)
            else error('a node has two resource ids on one day') end as resource_id from resources group by 1, 2"""),
        ("namespaces", f"select namespace, hash(namespace) as namespace_hash from (select distinct namespace from {source})"),
        ("pod_sets", f"""select hash(pod_labels) as pod_labels_hash, {parsed(dialect, 'pod_labels')}
            from (select distinct pod_labels from {source})"""),
        ("node_sets", latest_labels(dialect, "node_labels", "node", "node_labels")),
        ("namespace_sets", latest_labels(dialect, "namespace_labels", "namespace", "namespace_labels")),
        ("pod_rows", final()),
    ]
    return [(name, dialect.create.format(name=name, select=select)) for name, select in tables]


def final():
    """Joins the sums with everything small, and groups them again by the merged labels."""
    converted = ", ".join(f"{hours(f'sum(u.{column})', target)} as {target}" for column, target in SUMS.items())
    capacities = dict(zip(CAPACITIES, [
        "max(u.cpu_cores)",
        f"max(u.memory_bytes) * {GIB}",
        "max(c.cpu) / 3600.0",
        f"max(c.memory) / 3600.0 * {GIB}",
        "max(t.cpu) / 3600.0",
        f"max(t.memory) / 3600.0 * {GIB}",
    ]))
    capacity_columns = ", ".join(f"{expression} as {name}" for name, expression in capacities.items())
    group = ", ".join(["u.usage_start", "m.namespace", "n.node", "n.resource_id", *key_expressions("p", "s", "l")])
    return f"""select u.usage_start as usage_start, m.namespace as namespace, n.node as node, n.resource_id as resource_id,
        {merged("p", "s", "l")}, {converted}, {capacity_columns}
        from hashed_sums u
        join pod_sets p on p.pod_labels_hash = u.pod_labels_hash
        join namespaces m on m.namespace_hash = u.namespace_hash
        join nodes n on n.usage_start = u.usage_start and n.node_hash = u.node_hash
        left join node_sets l on l.usage_start = n.usage_start and l.node = n.node
        left join namespace_sets s on s.usage_start = u.usage_start and s.namespace = m.namespace
        left join node_capacity c on c.usage_start = u.usage_start and c.node_hash = u.node_hash
        left join cluster_capacity t on t.usage_start = u.usage_start
        group by {group}"""
