//! `gristmill verify` on golden cases that PostgreSQL has been filled from: nothing is found where nothing is wrong.

use std::path::Path;

use gristmill::rollups::semantics::Semantics;
use gristmill::run::RunOptions;
use gristmill::run::verify::{VerifyOptions, verify_target};
use gristmill::telemetry::progress::Progress;
use gristmill::time::UsageDay;
use gristmill::verify::{Against, Tolerance};

use crate::case::{Case, Expected, PROFILES};
use crate::case_postgres;
use crate::database;

/// Cases in which rows share an identity, labels are null, or names are reserved.
const ODD_CASES: [&str; 6] = [
    "13-storage-cost-category",
    "24-storage-no-pod",
    "h03-null-labels",
    "h05-node-label-fanout",
    "h14-encodings",
    "h27-reserved-namespaces",
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_parity_profiles_are_equal_to_themselves() {
    let mut compared = 0;
    for (name, profile) in ODD_CASES.into_iter().flat_map(|name| PROFILES.map(|profile| (name, profile))) {
        let case = Case::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name), "input");
        if matches!(case.expected(profile), Expected::Error(_)) {
            continue;
        }
        let postgres = database::database().await;
        let month = UsageDay::from_date(case.text("start_date").parse().unwrap()).month();
        let _client = case_postgres::prepare(&case, &postgres, month).await;
        let config = case.postgres_config(profile, &postgres);
        let run = gristmill::run::run(&config, &RunOptions::default(), &Progress::hidden()).await;
        assert_eq!(run.exit_code, 0, "{name}, {profile}: {run:#?}");
        let mut sides = vec![Against::Recompute];
        if profile == Semantics::SelfHosted {
            // The reference's own rows.
            sides.push(Against::Files(case.folder.join("expected.csv")));
        }
        for against in sides {
            let options = VerifyOptions { against, against_config: None, tolerance: Tolerance::DEFAULT };
            let reports = verify_target(&config, &options, &Progress::hidden()).await.unwrap();
            assert_eq!(reports.exit_code(), 0, "{name}, {profile}: {}", reports.text());
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} comparisons");
}
