-- The role of every node of a window, derived from its usage (section 3.3), where no node table gives it.
--
-- Tables: pod_usage and node_labels, as for the daily summary, over the whole window.
--
-- A node without any label row in the window has no role (the join is an inner one, on the node's name alone). A reported
-- role counts, even an empty one; several: the greatest text. Otherwise the node of the API server is a master, a node
-- whose labels hold the text below, with its blank, is infra, and any other is a worker.
--
-- The small side of the join stands first: DataFusion keeps the first one in memory.
WITH labelled_nodes AS (
    SELECT
        node,
        coalesce(bool_or(contains(node_labels, '"node_role_kubernetes_io": "infra"')), false) AS is_infra
    FROM node_labels
    WHERE interval_start >= $start AND interval_start < $end
    GROUP BY node
),
nodes AS (
    SELECT
        node,
        resource_id,
        max(node_role) AS reported_role,
        coalesce(bool_or(namespace = 'openshift-kube-apiserver'), false) AS has_api_server
    FROM pod_usage
    WHERE interval_start >= $start AND interval_start < $end
    GROUP BY node, resource_id
)
SELECT
    n.node,
    n.resource_id,
    CASE
        WHEN n.reported_role IS NOT NULL THEN n.reported_role
        WHEN n.has_api_server THEN 'master'
        WHEN l.is_infra THEN 'infra'
        ELSE 'worker'
    END AS role
FROM labelled_nodes l
JOIN nodes n ON n.node = l.node
ORDER BY n.node, n.resource_id;
