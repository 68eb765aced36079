//! `gristmill explain` as a person calls it.

use std::process::Command;

use gristmill::rollups::reference_sql::explained;
use gristmill::rollups::semantics::Semantics;

#[test]
fn the_rollup_is_printed_under_each_semantics() {
    let names = [Semantics::Balanced, Semantics::SelfHosted, Semantics::Trino];
    for semantics in names {
        let name = semantics.to_string();
        let ended = Command::new(env!("CARGO_BIN_EXE_gristmill")).args(["explain", "--semantics", &name]).output();
        let ended = ended.unwrap();
        let printed = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{name}: {}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(printed.trim_end(), explained(semantics).trim_end());
        assert!(printed.contains("GROUP BY") && printed.contains(&format!("`semantics: {name}`")), "{printed}");
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_gristmill")).args(["explain", "--semantics", "hive"]).output();
    assert_eq!(refused.unwrap().status.code(), Some(64));
}
