-- The OpenShift daily summary of one source and one day, as SQL.
--
-- This is the second, slow and plain wording of the rollup. It is written from the contract (the section numbers below are
-- those of docs/rollups.md's table of behaviours where they say "row", and of the summary's contract where they say
-- "section"), runs on DataFusion, and shares nothing with the engine that writes the rows, so that the two can be compared.
--
-- Tables that are there before the first statement. A column that a file lacks reads as null, whatever the file holds is
-- read as timestamp, double or text, and labels of any kind as JSON text:
--   pod_usage             one row per pod and hour (balanced), or per pod and day (self_hosted, trino; row 0)
--   pod_usage_hourly      the raw rows of the same report: capacities are known by the hour only
--   storage_usage         one row per volume, claim and pod, by the hour or the day likewise
--   node_labels           one row per node and hour or day; namespace_labels: one row per namespace
--   cost_categories       pattern, id
--   node_roles            node, resource_id, role
--
-- Functions beside those of DataFusion:
--   kept_labels(labels)          the enabled keys (reference.enabled_tag_keys) of a label column as canonical JSON: keys
--                                sorted, no blanks, values as texts or null. Null, blank, nested and malformed labels, and
--                                labels.on_malformed: rows 1 to 5
--   merge_labels(a, b, …)        one object out of several; on equal keys the later one wins. Null if any of them is null
--   not_lost(result, operand)    the result; under self_hosted an error if it is 0 and the operand is not (row 17)
--   not_zero(divisor, dividend)  the divisor; an error if it is 0 and there is something to divide (row 8)
--
-- max() over doubles is written coalesce(max(CASE WHEN x = 'NaN' THEN x END), max(x)): NaN is the greatest number, and
-- DataFusion's own max() forgets it.

-- How many rows the day has, in all reports.
CREATE TABLE input_rows AS
SELECT sum(row_count) AS row_count
FROM (
    SELECT count(*) AS row_count FROM pod_usage WHERE interval_start >= $day AND interval_start < $next_day
    UNION ALL
    SELECT count(*) FROM pod_usage_hourly
    WHERE $hourly_rows_are_extra AND interval_start >= $day AND interval_start < $next_day
    UNION ALL
    SELECT count(*) FROM storage_usage WHERE interval_start >= $day AND interval_start < $next_day
    UNION ALL
    SELECT count(*) FROM node_labels WHERE interval_start >= $day AND interval_start < $next_day
    UNION ALL
    SELECT count(*) FROM namespace_labels WHERE interval_start >= $day AND interval_start < $next_day
);

-- Section 3.4.2: the label sets of a node. Sets are distinct after filtering. All of them count (row 10), or only the one
-- of the latest time of the day; of two at the same time the greater text.
CREATE TABLE node_label_sets AS
WITH filtered AS (
    SELECT node, interval_start, kept_labels(node_labels) AS labels
    FROM node_labels
    WHERE interval_start >= $day AND interval_start < $next_day
),
sets AS (
    SELECT node, labels, max(interval_start) AS latest FROM filtered GROUP BY node, labels
),
placed AS (
    SELECT node, labels, row_number() OVER (PARTITION BY node ORDER BY latest DESC, labels DESC) AS place FROM sets
)
SELECT node, labels FROM placed WHERE $every_label_set OR place = 1;

-- The same for namespaces.
CREATE TABLE namespace_label_sets AS
WITH filtered AS (
    SELECT namespace, interval_start, kept_labels(namespace_labels) AS labels
    FROM namespace_labels
    WHERE interval_start >= $day AND interval_start < $next_day
),
sets AS (
    SELECT namespace, labels, max(interval_start) AS latest FROM filtered GROUP BY namespace, labels
),
placed AS (
    SELECT namespace, labels, row_number() OVER (PARTITION BY namespace ORDER BY latest DESC, labels DESC) AS place FROM sets
)
SELECT namespace, labels FROM placed WHERE $every_label_set OR place = 1;

-- Section 3.4.3: what a node could have given. Every pod's row repeats the capacity of its node in its hour, so the hour's
-- maximum is taken, then the hours are summed. The node '' and the null node are nodes here.
CREATE TABLE node_capacity AS
WITH hours AS (
    SELECT
        node,
        interval_start,
        coalesce(
            max(CASE WHEN node_capacity_cpu_core_seconds = 'NaN' THEN node_capacity_cpu_core_seconds END),
            max(node_capacity_cpu_core_seconds)
        ) AS cpu_core_seconds,
        coalesce(
            max(CASE WHEN node_capacity_memory_byte_seconds = 'NaN' THEN node_capacity_memory_byte_seconds END),
            max(node_capacity_memory_byte_seconds)
        ) AS memory_byte_seconds
    FROM pod_usage_hourly
    WHERE interval_start >= $day AND interval_start < $next_day
    GROUP BY node, interval_start
)
SELECT node, sum(cpu_core_seconds) AS cpu_core_seconds, sum(memory_byte_seconds) AS memory_byte_seconds
FROM hours
GROUP BY node;

-- The cluster is the sum of its nodes; one row, null without any.
CREATE TABLE cluster_capacity AS
SELECT sum(cpu_core_seconds) AS cpu_core_seconds, sum(memory_byte_seconds) AS memory_byte_seconds FROM node_capacity;

-- The pods' usage. Rows with the same label text are added up before the text is parsed. Rows without a node give no
-- summary row, but their labels must be readable all the same; so they leave only when the Pod rows are grouped.
-- Effective usage that is missing is the greater of usage and request (row 9).
CREATE TABLE pods AS
WITH texts AS (
    SELECT
        namespace,
        node,
        pod_labels,
        max(resource_id) AS resource_id,
        sum(pod_usage_cpu_core_seconds) AS usage_cpu,
        sum(pod_request_cpu_core_seconds) AS request_cpu,
        sum(CASE
            WHEN pod_effective_usage_cpu_core_seconds IS NOT NULL THEN pod_effective_usage_cpu_core_seconds
            WHEN $greatest_needs_both AND (pod_usage_cpu_core_seconds IS NULL OR pod_request_cpu_core_seconds IS NULL) THEN NULL
            ELSE greatest(pod_usage_cpu_core_seconds, pod_request_cpu_core_seconds)
        END) AS effective_cpu,
        sum(pod_limit_cpu_core_seconds) AS limit_cpu,
        sum(pod_usage_memory_byte_seconds) AS usage_memory,
        sum(pod_request_memory_byte_seconds) AS request_memory,
        sum(CASE
            WHEN pod_effective_usage_memory_byte_seconds IS NOT NULL THEN pod_effective_usage_memory_byte_seconds
            WHEN $greatest_needs_both AND (pod_usage_memory_byte_seconds IS NULL OR pod_request_memory_byte_seconds IS NULL) THEN NULL
            ELSE greatest(pod_usage_memory_byte_seconds, pod_request_memory_byte_seconds)
        END) AS effective_memory,
        sum(pod_limit_memory_byte_seconds) AS limit_memory,
        coalesce(
            max(CASE WHEN node_capacity_cpu_cores = 'NaN' THEN node_capacity_cpu_cores END),
            max(node_capacity_cpu_cores)
        ) AS node_cores,
        coalesce(
            max(CASE WHEN node_capacity_memory_bytes = 'NaN' THEN node_capacity_memory_bytes END),
            max(node_capacity_memory_bytes)
        ) AS node_memory_bytes
    FROM pod_usage
    WHERE interval_start >= $day AND interval_start < $next_day
    GROUP BY namespace, node, pod_labels
)
SELECT
    namespace, node, kept_labels(pod_labels) AS labels, resource_id,
    usage_cpu, request_cpu, effective_cpu, limit_cpu,
    usage_memory, request_memory, effective_memory, limit_memory,
    node_cores, node_memory_bytes
FROM texts;

-- The volumes, likewise.
CREATE TABLE volumes AS
WITH texts AS (
    SELECT
        namespace, pod, persistentvolumeclaim, persistentvolume, storageclass, csi_volume_handle,
        persistentvolume_labels, persistentvolumeclaim_labels,
        coalesce(
            max(CASE WHEN persistentvolumeclaim_capacity_bytes = 'NaN' THEN persistentvolumeclaim_capacity_bytes END),
            max(persistentvolumeclaim_capacity_bytes)
        ) AS capacity_bytes,
        sum(persistentvolumeclaim_capacity_byte_seconds) AS capacity_byte_seconds,
        sum(volume_request_storage_byte_seconds) AS request_byte_seconds,
        sum(persistentvolumeclaim_usage_byte_seconds) AS usage_byte_seconds
    FROM storage_usage
    WHERE interval_start >= $day AND interval_start < $next_day
    GROUP BY
        namespace, pod, persistentvolumeclaim, persistentvolume, storageclass, csi_volume_handle,
        persistentvolume_labels, persistentvolumeclaim_labels
)
SELECT
    namespace, pod, persistentvolumeclaim, persistentvolume, storageclass, csi_volume_handle,
    kept_labels(persistentvolume_labels) AS volume_labels,
    kept_labels(persistentvolumeclaim_labels) AS claim_labels,
    capacity_bytes, capacity_byte_seconds, request_byte_seconds, usage_byte_seconds
FROM texts;

-- Section 3.4.4: the cost categories of a namespace, one row per matching pattern (rows 11 and 12), or one with the
-- greatest category. LIKE takes a backslash as escape here; where it shall be an ordinary character (row 13) it is doubled.
CREATE TABLE namespace_categories AS
WITH namespaces AS (
    SELECT namespace FROM pods
    UNION
    SELECT namespace FROM volumes
    UNION
    SELECT 'Platform unallocated'
    UNION
    SELECT 'Worker unallocated'
),
matches AS (
    SELECT n.namespace, c.pattern, c.id
    FROM namespaces n
    JOIN cost_categories c
        ON n.namespace LIKE CASE WHEN $like_has_escape THEN c.pattern ELSE replace(c.pattern, '\', '\\') END
)
SELECT namespace, max(id) AS id
FROM matches
GROUP BY namespace, CASE WHEN $every_category THEN pattern END, CASE WHEN $every_category THEN id END;

-- Section 3.5: Pod rows. The outer joins repeat a pod's usage for every label set and pattern that they find; where the
-- tables above hold at most one row per node and namespace they repeat nothing.
-- On equal keys a pod's label beats its namespace's, which beats its node's.
CREATE TABLE pod_groups AS
SELECT
    p.namespace,
    p.node,
    merge_labels(coalesce(n.labels, '{}'), coalesce(s.labels, '{}'), p.labels) AS labels,
    max(p.resource_id) AS resource_id,
    max(c.id) AS cost_category_id,
    sum(p.usage_cpu) AS usage_cpu,
    sum(p.request_cpu) AS request_cpu,
    sum(p.effective_cpu) AS effective_cpu,
    sum(p.limit_cpu) AS limit_cpu,
    sum(p.usage_memory) AS usage_memory,
    sum(p.request_memory) AS request_memory,
    sum(p.effective_memory) AS effective_memory,
    sum(p.limit_memory) AS limit_memory,
    coalesce(max(CASE WHEN p.node_cores = 'NaN' THEN p.node_cores END), max(p.node_cores)) AS node_cores,
    coalesce(
        max(CASE WHEN p.node_memory_bytes = 'NaN' THEN p.node_memory_bytes END),
        max(p.node_memory_bytes)
    ) AS node_memory_bytes
FROM pods p
LEFT JOIN node_label_sets n ON n.node = p.node
LEFT JOIN namespace_label_sets s ON s.namespace = p.namespace
LEFT JOIN namespace_categories c ON c.namespace = p.namespace
WHERE p.node <> ''
GROUP BY p.namespace, p.node, merge_labels(coalesce(n.labels, '{}'), coalesce(s.labels, '{}'), p.labels);

-- Units: hours are seconds / 3600, GiB are bytes / 2^30. A capacity that is missing: row 6.
CREATE TABLE pod_rows AS
SELECT
    g.namespace,
    g.node,
    g.labels,
    g.resource_id,
    g.cost_category_id,
    not_lost(g.usage_cpu / 3600.0, g.usage_cpu) AS usage_cpu_hours,
    not_lost(g.request_cpu / 3600.0, g.request_cpu) AS request_cpu_hours,
    not_lost(g.effective_cpu / 3600.0, g.effective_cpu) AS effective_cpu_hours,
    not_lost(g.limit_cpu / 3600.0, g.limit_cpu) AS limit_cpu_hours,
    not_lost(g.usage_memory / 3600.0 / 1073741824.0, g.usage_memory) AS usage_gib_hours,
    not_lost(g.request_memory / 3600.0 / 1073741824.0, g.request_memory) AS request_gib_hours,
    not_lost(g.effective_memory / 3600.0 / 1073741824.0, g.effective_memory) AS effective_gib_hours,
    not_lost(g.limit_memory / 3600.0 / 1073741824.0, g.limit_memory) AS limit_gib_hours,
    g.node_cores,
    not_lost(g.node_memory_bytes / 1073741824.0, g.node_memory_bytes) AS node_gib,
    coalesce(not_lost(n.cpu_core_seconds / 3600.0, n.cpu_core_seconds), $capacity_if_missing) AS node_cpu_hours,
    coalesce(
        not_lost(n.memory_byte_seconds / 3600.0 / 1073741824.0, n.memory_byte_seconds), $capacity_if_missing
    ) AS node_gib_hours,
    coalesce(not_lost(k.cpu_core_seconds / 3600.0, k.cpu_core_seconds), $capacity_if_missing) AS cluster_cpu_hours,
    coalesce(
        not_lost(k.memory_byte_seconds / 3600.0 / 1073741824.0, k.memory_byte_seconds), $capacity_if_missing
    ) AS cluster_gib_hours
FROM pod_groups g
LEFT JOIN node_capacity n ON n.node = g.node
CROSS JOIN cluster_capacity k;

-- Section 3.6: where the pods that mount a volume ran. The storage report's own node is not used. A pod and node have one
-- resource id, the greatest, or every one that the report has. The small side of the join stands first: DataFusion keeps the
-- first one in memory.
CREATE TABLE volume_pods AS
WITH mounting AS (
    SELECT DISTINCT namespace, pod FROM volumes
)
SELECT p.namespace, p.pod, p.node, max(p.resource_id) AS resource_id
FROM mounting m
JOIN pod_usage p ON p.namespace = m.namespace AND p.pod = m.pod
WHERE p.interval_start >= $day AND p.interval_start < $next_day
GROUP BY p.namespace, p.pod, p.node, CASE WHEN $every_resource_id THEN p.resource_id END;

-- The volume-to-node map. Here the node '' is a node like any other.
CREATE TABLE volume_nodes AS
SELECT DISTINCT v.persistentvolumeclaim, v.persistentvolume, v.pod, v.namespace, p.node, p.resource_id
FROM volumes v
JOIN volume_pods p ON p.namespace = v.namespace AND p.pod = v.pod;

-- How many nodes share a volume. Null is not counted, so it may be 0.
CREATE TABLE volume_node_counts AS
SELECT persistentvolume, count(DISTINCT node) AS node_count FROM volume_nodes GROUP BY persistentvolume;

-- Storage rows: one per node that the pod ran on, with a null node if the pod is not in the pod report.
-- The claim's label beats the volume's, which beats the namespace's, which beats the node's. Row 8b: whether a claim that
-- was bound to two volumes repeats the nodes of both.
CREATE TABLE storage_groups AS
SELECT
    v.namespace,
    m.node,
    m.resource_id,
    v.persistentvolumeclaim,
    v.persistentvolume,
    v.storageclass,
    v.csi_volume_handle,
    merge_labels(coalesce(n.labels, '{}'), coalesce(s.labels, '{}'), v.volume_labels, v.claim_labels) AS labels,
    max(c.id) AS cost_category_id,
    coalesce(max(CASE WHEN v.capacity_bytes = 'NaN' THEN v.capacity_bytes END), max(v.capacity_bytes)) AS capacity_bytes,
    sum(v.capacity_byte_seconds) AS capacity_byte_seconds,
    sum(v.request_byte_seconds) AS request_byte_seconds,
    sum(v.usage_byte_seconds) AS usage_byte_seconds,
    max(d.node_count) AS node_count
FROM volumes v
LEFT JOIN volume_nodes m
    ON m.persistentvolumeclaim = v.persistentvolumeclaim AND m.pod = v.pod AND m.namespace = v.namespace
    AND (NOT $map_joins_on_volume OR m.persistentvolume = v.persistentvolume)
LEFT JOIN volume_node_counts d ON d.persistentvolume = v.persistentvolume
LEFT JOIN node_label_sets n ON n.node = m.node
LEFT JOIN namespace_label_sets s ON s.namespace = v.namespace
LEFT JOIN namespace_categories c ON c.namespace = v.namespace
GROUP BY
    v.namespace, m.node, m.resource_id, v.persistentvolumeclaim, v.persistentvolume, v.storageclass, v.csi_volume_handle,
    merge_labels(coalesce(n.labels, '{}'), coalesce(s.labels, '{}'), v.volume_labels, v.claim_labels);

-- GiB-months are byte-seconds divided by the seconds of the month. Request and usage are shared among the nodes, the
-- capacity is not. A divisor that is missing or 0: rows 7 and 8.
CREATE TABLE storage_rows AS
WITH divided AS (
    SELECT
        *,
        CASE
            WHEN node_count IS NULL THEN CAST($divisor_if_missing AS DOUBLE)
            WHEN node_count = 0 THEN CAST($divisor_if_zero AS DOUBLE)
            ELSE CAST(node_count AS DOUBLE)
        END AS divisor
    FROM storage_groups
)
SELECT
    namespace, node, resource_id, persistentvolumeclaim, persistentvolume, storageclass, labels, cost_category_id,
    not_lost(capacity_bytes / 1073741824.0, capacity_bytes) AS capacity_gib,
    not_lost(capacity_byte_seconds / $month_seconds / 1073741824.0, capacity_byte_seconds) AS capacity_gib_months,
    not_lost(
        request_byte_seconds / not_zero(divisor, request_byte_seconds) / $month_seconds / 1073741824.0, request_byte_seconds
    ) AS request_gib_months,
    not_lost(
        usage_byte_seconds / not_zero(divisor, usage_byte_seconds) / $month_seconds / 1073741824.0, usage_byte_seconds
    ) AS usage_gib_months
FROM divided;

-- Section 3.7: what is left of every node. A node's role is that of (node, resource_id), the greatest text of several; a
-- null resource_id has none. Reserved namespaces and the null namespace do not count as use.
CREATE TABLE unallocated_rows AS
WITH roles AS (
    SELECT node, resource_id, max(role) AS role FROM node_roles GROUP BY node, resource_id
),
nodes AS (
    SELECT
        p.node,
        max(r.role) AS role,
        max(p.resource_id) AS resource_id,
        max(p.node_cpu_hours) - sum(p.usage_cpu_hours) AS usage_cpu_hours,
        max(p.node_cpu_hours) - sum(p.request_cpu_hours) AS request_cpu_hours,
        max(p.node_cpu_hours) - sum(p.effective_cpu_hours) AS effective_cpu_hours,
        max(p.node_gib_hours) - sum(p.usage_gib_hours) AS usage_gib_hours,
        max(p.node_gib_hours) - sum(p.request_gib_hours) AS request_gib_hours,
        max(p.node_gib_hours) - sum(p.effective_gib_hours) AS effective_gib_hours,
        max(p.node_cores) AS node_cores,
        max(p.node_cpu_hours) AS node_cpu_hours,
        max(p.node_gib) AS node_gib,
        max(p.node_gib_hours) AS node_gib_hours,
        max(p.cluster_cpu_hours) AS cluster_cpu_hours,
        max(p.cluster_gib_hours) AS cluster_gib_hours
    FROM pod_rows p
    LEFT JOIN roles r ON r.node = p.node AND r.resource_id = p.resource_id
    WHERE p.namespace NOT IN
        ('Platform unallocated', 'Worker unallocated', 'Network unattributed', 'Storage unattributed')
    GROUP BY p.node
),
named AS (
    SELECT
        CASE
            WHEN role IN ('master', 'infra') THEN 'Platform unallocated'
            WHEN role = 'worker' THEN 'Worker unallocated'
        END AS namespace,
        *
    FROM nodes
)
SELECT n.*, c.id AS cost_category_id
FROM named n
LEFT JOIN namespace_categories c ON c.namespace = n.namespace;

-- The summary: Pod, unallocated and Storage rows in the order of the target's columns.
SELECT
    CAST($report_period_id AS INTEGER) AS report_period_id,
    cost_category_id,
    $cluster_id AS cluster_id,
    $cluster_alias AS cluster_alias,
    'Pod' AS data_source,
    namespace,
    node,
    resource_id,
    CAST($day AS DATE) AS usage_start,
    CAST($day AS DATE) AS usage_end,
    labels AS pod_labels,
    usage_cpu_hours AS pod_usage_cpu_core_hours,
    request_cpu_hours AS pod_request_cpu_core_hours,
    effective_cpu_hours AS pod_effective_usage_cpu_core_hours,
    limit_cpu_hours AS pod_limit_cpu_core_hours,
    usage_gib_hours AS pod_usage_memory_gigabyte_hours,
    request_gib_hours AS pod_request_memory_gigabyte_hours,
    effective_gib_hours AS pod_effective_usage_memory_gigabyte_hours,
    limit_gib_hours AS pod_limit_memory_gigabyte_hours,
    node_cores AS node_capacity_cpu_cores,
    node_cpu_hours AS node_capacity_cpu_core_hours,
    node_gib AS node_capacity_memory_gigabytes,
    node_gib_hours AS node_capacity_memory_gigabyte_hours,
    cluster_cpu_hours AS cluster_capacity_cpu_core_hours,
    cluster_gib_hours AS cluster_capacity_memory_gigabyte_hours,
    NULL AS persistentvolumeclaim,
    NULL AS persistentvolume,
    NULL AS storageclass,
    NULL AS volume_labels,
    coalesce(labels, '{}') AS all_labels,
    NULL AS persistentvolumeclaim_capacity_gigabyte,
    NULL AS persistentvolumeclaim_capacity_gigabyte_months,
    NULL AS volume_request_storage_gigabyte_months,
    NULL AS persistentvolumeclaim_usage_gigabyte_months,
    '{"cpu": 0.000000000, "memory": 0.000000000, "storage": 0.000000000}' AS infrastructure_usage_cost,
    $source_uuid AS source_uuid
FROM pod_rows
UNION ALL
SELECT
    CAST($report_period_id AS INTEGER), cost_category_id, $cluster_id, $cluster_alias, 'Pod', namespace, node, resource_id,
    CAST($day AS DATE), CAST($day AS DATE),
    NULL, usage_cpu_hours, request_cpu_hours, effective_cpu_hours, NULL,
    usage_gib_hours, request_gib_hours, effective_gib_hours, NULL,
    node_cores, node_cpu_hours, node_gib, node_gib_hours, cluster_cpu_hours, cluster_gib_hours,
    NULL, NULL, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL, $source_uuid
FROM unallocated_rows
UNION ALL
SELECT
    CAST($report_period_id AS INTEGER), cost_category_id, $cluster_id, $cluster_alias, 'Storage', namespace, node, resource_id,
    CAST($day AS DATE), CAST($day AS DATE),
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    persistentvolumeclaim, persistentvolume, storageclass, labels, coalesce(labels, '{}'),
    capacity_gib, capacity_gib_months, request_gib_months, usage_gib_months,
    '{"cpu": 0.000000000, "memory": 0.000000000, "storage": 0.000000000}', $source_uuid
FROM storage_rows;
