"""The daily summary as SQL statements for engines that speak different dialects: pre-aggregated, labels parsed late.

One text serves DuckDB (tuned), chdb, DataFusion and PostgreSQL: first the rows are summed per (day, namespace, node, role,
label text), which is what a dictionary-encoded column is good at; then each distinct label text is parsed once, only for the
enabled keys; then the few hundred thousand sums are joined with labels and capacities and grouped again. `Dialect` holds
what differs. The peers keep merged labels as one column per enabled key and do not write JSON: that is in their favour.
"""

from dataclasses import dataclass
from typing import Callable

# What a benchmark configuration enables, and what is always enabled.
KEYS = ["app", "cost_center", "environment", "storage_tier", "team", "tier", "version", "vm_kubevirt_io_name"]
GIB = "9.313225746154785e-10"
SUMS = {
    "pod_usage_cpu_core_seconds": "pod_usage_cpu_core_hours",
    "pod_request_cpu_core_seconds": "pod_request_cpu_core_hours",
    "pod_limit_cpu_core_seconds": "pod_limit_cpu_core_hours",
    "pod_effective_usage_cpu_core_seconds": "pod_effective_usage_cpu_core_hours",
    "pod_usage_memory_byte_seconds": "pod_usage_memory_gigabyte_hours",
    "pod_request_memory_byte_seconds": "pod_request_memory_gigabyte_hours",
    "pod_limit_memory_byte_seconds": "pod_limit_memory_gigabyte_hours",
    "pod_effective_usage_memory_byte_seconds": "pod_effective_usage_memory_gigabyte_hours",
}
CAPACITIES = [
    "node_capacity_cpu_cores",
    "node_capacity_memory_gigabytes",
    "node_capacity_cpu_core_hours",
    "node_capacity_memory_gigabyte_hours",
    "cluster_capacity_cpu_core_hours",
    "cluster_capacity_memory_gigabyte_hours",
]
STORAGE = [
    "persistentvolumeclaim_capacity_gigabyte",
    "persistentvolumeclaim_capacity_gigabyte_months",
    "volume_request_storage_gigabyte_months",
    "persistentvolumeclaim_usage_gigabyte_months",
]
# Columns of the result, in this order, whoever computes it.
POD_COLUMNS = ["usage_start", "namespace", "node", "resource_id", *KEYS, *SUMS.values(), *CAPACITIES]
STORAGE_COLUMNS = [
    *["usage_start", "namespace", "node", "resource_id", "persistentvolumeclaim", "persistentvolume", "storageclass"],
    *KEYS,
    *STORAGE,
]
UNALLOCATED_SUMS = [name for name in SUMS.values() if "limit" not in name]
UNALLOCATED_COLUMNS = ["usage_start", "namespace", "node", "resource_id", *UNALLOCATED_SUMS, *CAPACITIES]


@dataclass
class Dialect:
    """What one engine writes differently."""

    source: Callable[[str], str]
    label: Callable[[str, str], str]
    day: str = "cast(interval_start as date)"
    create: str = "create temp table {name} as {select}"
    month_seconds: str = "86400.0 * extract(day from date_trunc('month', usage_start) + interval '1 month' - interval '1 day')"


def hours(column, target):
    """Seconds to hours, bytes to GiB."""
    return f"{column} / 3600.0 * {GIB}" if "memory" in target else f"{column} / 3600.0"


def effective(column):
    """A summed column; effective usage falls back to the greater of usage and request, row by row."""
    if "effective" not in column:
        return column
    usage, request = column.replace("effective_usage", "usage"), column.replace("effective_usage", "request")
    return f"coalesce({column}, greatest({usage}, {request}))"


def keys(prefix):
    """The key columns of an alias."""
    return ", ".join(f"{prefix}.{key} as {key}" for key in KEYS)


def merged(*aliases):
    """Key by key the first alias that has it."""
    return ", ".join(f"coalesce({', '.join(f'{alias}.{key}' for alias in aliases)}) as {key}" for key in KEYS)


def parsed(dialect, column):
    """The enabled keys of a label column."""
    return ", ".join(f"{dialect.label(column, key)} as {key}" for key in KEYS)


def latest_labels(dialect, report, name, labels):
    """Labels of the greatest interval of the day, per node or namespace."""
    newest = f"row_number() over (partition by {dialect.day}, {name} order by interval_start desc, {labels} desc)"
    rows = f"select {dialect.day} as usage_start, {name}, {labels}, {newest} as place from {dialect.source(report)}"
    return f"select usage_start, {name}, {parsed(dialect, labels)} from ({rows}) rows where place = 1"


def pods(dialect, needs_roles):
    """Statements whose last one makes `pod_rows`; roles are summed along only where they are used afterwards."""
    role = "max(node_role) as node_role, " if needs_roles else ""
    sums = ", ".join(f"sum({effective(column)}) as {column}" for column in SUMS)
    converted = ", ".join(f"{hours(f'sum(u.{column})', target)} as {target}" for column, target in SUMS.items())
    group = ", ".join(["u.usage_start", "u.namespace", "u.node", *key_expressions("p", "s", "n")])
    statements = [
        ("usage_sums", f"""select {dialect.day} as usage_start, namespace, node, pod_labels, max(resource_id) as resource_id,
            {role}max(node_capacity_cpu_cores) as cpu_cores,
            max(node_capacity_memory_bytes) as memory_bytes, {sums}
            from {dialect.source('pod_usage')} where node <> '' group by 1, 2, 3, 4"""),
        ("node_capacity", f"""select usage_start, node, sum(cpu) as cpu, sum(memory) as memory from (
            select usage_start, node, hour, max(cpu) as cpu, max(memory) as memory from (
            select {dialect.day} as usage_start, node, interval_start as hour, node_capacity_cpu_core_seconds as cpu,
            node_capacity_memory_byte_seconds as memory from {dialect.source('pod_usage')}) usage_rows group by 1, 2, 3) hourly
            group by 1, 2"""),
        ("cluster_capacity", "select usage_start, sum(cpu) as cpu, sum(memory) as memory from node_capacity group by 1"),
        ("pod_sets", f"select pod_labels, {parsed(dialect, 'pod_labels')} from (select distinct pod_labels from usage_sums) texts"),
        ("node_sets", latest_labels(dialect, "node_labels", "node", "node_labels")),
        ("namespace_sets", latest_labels(dialect, "namespace_labels", "namespace", "namespace_labels")),
        ("pod_rows", f"""select u.usage_start as usage_start, u.namespace as namespace, u.node as node,
            max(u.resource_id) as resource_id, {merged('p', 's', 'n')}, {converted},
            max(u.cpu_cores) as node_capacity_cpu_cores, max(u.memory_bytes) * {GIB} as node_capacity_memory_gigabytes,
            max(c.cpu) / 3600.0 as node_capacity_cpu_core_hours,
            max(c.memory) / 3600.0 * {GIB} as node_capacity_memory_gigabyte_hours,
            max(t.cpu) / 3600.0 as cluster_capacity_cpu_core_hours,
            max(t.memory) / 3600.0 * {GIB} as cluster_capacity_memory_gigabyte_hours
            from usage_sums u join pod_sets p on p.pod_labels = u.pod_labels
            left join node_sets n on n.usage_start = u.usage_start and n.node = u.node
            left join namespace_sets s on s.usage_start = u.usage_start and s.namespace = u.namespace
            left join node_capacity c on c.usage_start = u.usage_start and c.node = u.node
            left join cluster_capacity t on t.usage_start = u.usage_start
            group by {group}"""),
    ]
    return statements


def key_expressions(*aliases):
    """The merged keys as grouping expressions."""
    return [f"coalesce({', '.join(f'{alias}.{key}' for alias in aliases)})" for key in KEYS]


def storage(dialect):
    """Statements after those of the pods; the last one makes `storage_rows`."""
    names = ["v.namespace", "n.node", "n.resource_id", "v.persistentvolumeclaim", "v.persistentvolume", "v.storageclass"]
    group = ", ".join(["v.usage_start", *names, "v.csi_volume_handle", *key_expressions("c", "p", "s", "l")])
    months = dialect.month_seconds.replace("usage_start", "v.usage_start")
    return [
        ("volumes", f"""select {dialect.day} as usage_start, namespace, pod, persistentvolumeclaim, persistentvolume, storageclass,
            csi_volume_handle, persistentvolume_labels, persistentvolumeclaim_labels,
            max(persistentvolumeclaim_capacity_bytes) as capacity_bytes,
            sum(persistentvolumeclaim_capacity_byte_seconds) as capacity,
            sum(volume_request_storage_byte_seconds) as request, sum(persistentvolumeclaim_usage_byte_seconds) as used
            from {dialect.source('storage_usage')} group by 1, 2, 3, 4, 5, 6, 7, 8, 9"""),
        ("pod_nodes", f"""select u.usage_start as usage_start, u.namespace as namespace, u.pod as pod, u.node as node,
            max(u.resource_id) as resource_id
            from (select {dialect.day} as usage_start, namespace, pod, node, resource_id from {dialect.source('pod_usage')}) u
            join (select distinct usage_start, namespace, pod from volumes) w
            on w.usage_start = u.usage_start and w.namespace = u.namespace and w.pod = u.pod group by 1, 2, 3, 4"""),
        ("shared", """select v.usage_start as usage_start, v.persistentvolume as persistentvolume, count(distinct n.node) as nodes
            from volumes v join pod_nodes n on n.usage_start = v.usage_start and n.namespace = v.namespace and n.pod = v.pod
            group by 1, 2"""),
        ("volume_sets", f"""select persistentvolume_labels, {parsed(dialect, 'persistentvolume_labels')}
            from (select distinct persistentvolume_labels from volumes) texts"""),
        ("claim_sets", f"""select persistentvolumeclaim_labels, {parsed(dialect, 'persistentvolumeclaim_labels')}
            from (select distinct persistentvolumeclaim_labels from volumes) texts"""),
        ("storage_rows", f"""select v.usage_start as usage_start, {', '.join(f'{name} as {name[2:]}' for name in names)},
            {merged('c', 'p', 's', 'l')}, max(v.capacity_bytes) * {GIB} as persistentvolumeclaim_capacity_gigabyte,
            sum(v.capacity) / max({months}) * {GIB} as persistentvolumeclaim_capacity_gigabyte_months,
            sum(v.request) / max(coalesce(nullif(d.nodes, 0), 1)) / max({months}) * {GIB} as volume_request_storage_gigabyte_months,
            sum(v.used) / max(coalesce(nullif(d.nodes, 0), 1)) / max({months}) * {GIB} as persistentvolumeclaim_usage_gigabyte_months
            from volumes v left join pod_nodes n on n.usage_start = v.usage_start and n.namespace = v.namespace and n.pod = v.pod
            left join shared d on d.usage_start = v.usage_start and d.persistentvolume = v.persistentvolume
            join volume_sets p on p.persistentvolume_labels = v.persistentvolume_labels
            join claim_sets c on c.persistentvolumeclaim_labels = v.persistentvolumeclaim_labels
            left join node_sets l on l.usage_start = v.usage_start and l.node = n.node
            left join namespace_sets s on s.usage_start = v.usage_start and s.namespace = v.namespace
            group by {group}"""),
    ]


def unallocated(_dialect):
    """Statements after those of the pods; the last one makes `unallocated_rows`."""
    rest = ", ".join(
        f"max(r.node_capacity_{unit_of(name)}) - sum(r.{name}) as {name}" for name in UNALLOCATED_SUMS
    )
    capacities = ", ".join(f"max(r.{name}) as {name}" for name in CAPACITIES)
    return [
        ("roles", "select node, resource_id, max(node_role) as node_role from usage_sums group by 1, 2"),
        ("unallocated_rows", f"""select t.usage_start as usage_start, case when o.node_role in ('master', 'infra')
            then 'Platform unallocated' when o.node_role = 'worker' then 'Worker unallocated' end as namespace,
            t.node as node, t.resource_id as resource_id, {', '.join(f't.{name} as {name}' for name in UNALLOCATED_SUMS + CAPACITIES)}
            from (select r.usage_start as usage_start, r.node as node, max(r.resource_id) as resource_id, {rest}, {capacities}
            from pod_rows r group by 1, 2) t join roles o on o.node = t.node and o.resource_id = t.resource_id"""),
    ]


def unit_of(name):
    """The capacity that a usage column is compared with."""
    return "cpu_core_hours" if "cpu" in name else "memory_gigabyte_hours"


def statements(dialect, part):
    """(name, statement) in order: `pods` alone, or `all` of the rollup."""
    tables = pods(dialect, needs_roles=part == "all")
    if part == "all":
        tables += storage(dialect) + unallocated(dialect)
    return [(name, dialect.create.format(name=name, select=select)) for name, select in tables]


def results(part):
    """Result tables with their columns."""
    tables = {"pod_rows": POD_COLUMNS}
    if part == "all":
        tables |= {"storage_rows": STORAGE_COLUMNS, "unallocated_rows": UNALLOCATED_COLUMNS}
    return tables


def type_of(column):
    """A result column's type."""
    if column == "usage_start":
        return "DATE"
    is_number = any(word in column for word in ("hours", "months", "gigabyte", "capacity"))
    return "DOUBLE" if is_number else "VARCHAR"
