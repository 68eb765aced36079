//! Words from which the names of a synthetic cluster are made.

/// Namespace that marks a master: the one of the API server's static pods.
pub(super) const API_SERVER_NAMESPACE: &str = "openshift-kube-apiserver";

/// Namespaces of the platform, the API server's aside.
pub(super) const PLATFORM_NAMESPACES: [&str; 25] = [
    "openshift-monitoring",
    "openshift-ingress",
    "openshift-dns",
    "openshift-logging",
    "openshift-image-registry",
    "openshift-etcd",
    "openshift-authentication",
    "openshift-console",
    "openshift-storage",
    "openshift-multus",
    "openshift-ovn-kubernetes",
    "openshift-cluster-csi-drivers",
    "openshift-machine-config-operator",
    "openshift-marketplace",
    "openshift-network-diagnostics",
    "openshift-operators",
    "openshift-pipelines",
    "openshift-gitops",
    "openshift-oauth-apiserver",
    "openshift-kube-controller-manager",
    "openshift-kube-scheduler",
    "openshift-insights",
    "openshift-cluster-version",
    "kube-system",
    "kube-node-lease",
];

/// What the applications of a company are called.
pub(super) const PRODUCTS: [&str; 22] = [
    "payments",
    "orders",
    "catalog",
    "search",
    "accounts",
    "identity",
    "shipping",
    "reports",
    "mobile",
    "pricing",
    "media",
    "inventory",
    "support",
    "campaigns",
    "fraud",
    "invoices",
    "tickets",
    "loyalty",
    "forecast",
    "partners",
    "mail",
    "archive",
];

/// Stages in which an application runs; with the products 132 namespaces.
pub(super) const STAGES: [&str; 6] = ["prod", "stage", "test", "dev", "demo", "load"];

/// Parts of an application.
pub(super) const COMPONENTS: [&str; 16] = [
    "api",
    "web",
    "worker",
    "scheduler",
    "cache",
    "database",
    "queue",
    "ingest",
    "gateway",
    "billing",
    "notifier",
    "exporter",
    "proxy",
    "indexer",
    "sync",
    "batch",
];

/// Teams that own deployments.
pub(super) const TEAMS: [&str; 12] =
    ["amber", "basalt", "cobalt", "dolomite", "ebony", "flint", "granite", "hazel", "indigo", "jade", "kelp", "larch"];

/// Storage classes with their drivers.
pub(super) const STORAGE_CLASSES: [(&str, &str); 4] = [
    ("gp3-csi", "ebs.csi.aws.com"),
    ("gp2-csi", "ebs.csi.aws.com"),
    ("ocs-storagecluster-ceph-rbd", "openshift-storage.rbd.csi.ceph.com"),
    ("ocs-storagecluster-cephfs", "openshift-storage.cephfs.csi.ceph.com"),
];
