-- The Pod part of the daily summary as one reads it in its definition: each row's labels are parsed, filtered to the
-- enabled keys and merged (pod over namespace over node), then everything is grouped.
create temp table pod_rows as
with usage as (
    select
        cast(interval_start as date) as usage_start, namespace, node, resource_id,
        map_from_entries(list_filter(map_entries(cast(json(pod_labels) as map(varchar, varchar))),
                                     lambda entry: entry.key in (:enabled_keys))) as labels,
        pod_usage_cpu_core_seconds, pod_request_cpu_core_seconds, pod_limit_cpu_core_seconds,
        coalesce(pod_effective_usage_cpu_core_seconds,
                 greatest(pod_usage_cpu_core_seconds, pod_request_cpu_core_seconds)) as pod_effective_usage_cpu_core_seconds,
        pod_usage_memory_byte_seconds, pod_request_memory_byte_seconds, pod_limit_memory_byte_seconds,
        coalesce(pod_effective_usage_memory_byte_seconds,
                 greatest(pod_usage_memory_byte_seconds, pod_request_memory_byte_seconds)) as pod_effective_usage_memory_byte_seconds,
        node_capacity_cpu_cores, node_capacity_memory_bytes
    from pod_usage
    where node <> ''
),
node_sets as (
    select
        cast(interval_start as date) as usage_start, node,
        map_from_entries(list_filter(map_entries(cast(json(arg_max(node_labels, interval_start)) as map(varchar, varchar))),
                                     lambda entry: entry.key in (:enabled_keys))) as labels
    from node_labels
    group by all
),
namespace_sets as (
    select
        cast(interval_start as date) as usage_start, namespace,
        map_from_entries(list_filter(map_entries(cast(json(arg_max(namespace_labels, interval_start)) as map(varchar, varchar))),
                                     lambda entry: entry.key in (:enabled_keys))) as labels
    from namespace_labels
    group by all
),
node_hours as (
    select
        cast(interval_start as date) as usage_start, node, interval_start,
        max(node_capacity_cpu_core_seconds) as cpu, max(node_capacity_memory_byte_seconds) as memory
    from pod_usage
    group by all
),
node_capacity as (select usage_start, node, sum(cpu) as cpu, sum(memory) as memory from node_hours group by all),
cluster_capacity as (select usage_start, sum(cpu) as cpu, sum(memory) as memory from node_hours group by all),
merged as (
    select
        usage.*,
        node_capacity.cpu as node_cpu, node_capacity.memory as node_memory,
        cluster_capacity.cpu as cluster_cpu, cluster_capacity.memory as cluster_memory,
        cast(to_json(map_from_entries(list_sort(map_entries(map_concat(
            coalesce(node_sets.labels, map {}), coalesce(namespace_sets.labels, map {}), usage.labels
        ))))) as varchar) as pod_labels
    from usage
    left join node_sets on node_sets.usage_start = usage.usage_start and node_sets.node = usage.node
    left join namespace_sets on namespace_sets.usage_start = usage.usage_start and namespace_sets.namespace = usage.namespace
    left join node_capacity on node_capacity.usage_start = usage.usage_start and node_capacity.node = usage.node
    left join cluster_capacity on cluster_capacity.usage_start = usage.usage_start
)
select
    usage_start, namespace, node, pod_labels, max(resource_id) as resource_id,
    sum(pod_usage_cpu_core_seconds) / 3600.0 as pod_usage_cpu_core_hours,
    sum(pod_request_cpu_core_seconds) / 3600.0 as pod_request_cpu_core_hours,
    sum(pod_limit_cpu_core_seconds) / 3600.0 as pod_limit_cpu_core_hours,
    sum(pod_effective_usage_cpu_core_seconds) / 3600.0 as pod_effective_usage_cpu_core_hours,
    sum(pod_usage_memory_byte_seconds) / 3600.0 / 1073741824 as pod_usage_memory_gigabyte_hours,
    sum(pod_request_memory_byte_seconds) / 3600.0 / 1073741824 as pod_request_memory_gigabyte_hours,
    sum(pod_limit_memory_byte_seconds) / 3600.0 / 1073741824 as pod_limit_memory_gigabyte_hours,
    sum(pod_effective_usage_memory_byte_seconds) / 3600.0 / 1073741824 as pod_effective_usage_memory_gigabyte_hours,
    max(node_capacity_cpu_cores) as node_capacity_cpu_cores,
    max(node_capacity_memory_bytes) / 1073741824 as node_capacity_memory_gigabytes,
    max(node_cpu) / 3600.0 as node_capacity_cpu_core_hours,
    max(node_memory) / 3600.0 / 1073741824 as node_capacity_memory_gigabyte_hours,
    max(cluster_cpu) / 3600.0 as cluster_capacity_cpu_core_hours,
    max(cluster_memory) / 3600.0 / 1073741824 as cluster_capacity_memory_gigabyte_hours
from merged
group by usage_start, namespace, node, pod_labels
