-- The role of every node of a window, derived from its usage (section 3.3), where no node table gives it.
--
-- Tables: pod_usage and node_labels, as for the daily summary, over the whole window.
--
-- A node without any label row in the window has no role (the join is an inner one, on the node's name alone). A reported
-- role counts, even an empty one; several: the greatest text. Otherwise the node of the API server is a master, a node
-- whose labels hold the text below, with its blank, is infra, and any other is a worker.
WITH labelled_nodes AS (
    SELECT
        node,
        coalesce(bool_or(contains(node_labels, '"node_role_kubernetes_io": "infra"')), false) AS is_infra
    FROM node_labels
    WHERE interval_start >= $start AND interval_start < $end
    GROUP BY node
)
SELECT
    p.node,
    p.resource_id,
    CASE
        WHEN max(p.node_role) IS NOT NULL THEN max(p.node_role)
        WHEN coalesce(bool_or(p.namespace = 'openshift-kube-apiserver'), false) THEN 'master'
        WHEN bool_or(l.is_infra) THEN 'infra'
        ELSE 'worker'
    END AS role
FROM pod_usage p
JOIN labelled_nodes l ON l.node = p.node
WHERE p.interval_start >= $start AND p.interval_start < $end
GROUP BY p.node, p.resource_id
ORDER BY p.node, p.resource_id;
