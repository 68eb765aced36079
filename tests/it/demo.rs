//! The demo, with the program of this test in place of the one that it would build.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// A `cargo` that builds nothing and is the real one for everything else.
fn cargo_without_builds(folder: &Path) {
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    // The path of this process does not have the folder, so the real one is found.
    let path_of_test = std::env::var("PATH").unwrap();
    let text = format!(
        "#!/bin/sh\nunset CARGO_HOME\nPATH='{path_of_test}'\ncase \"$1\" in build) exit 0 ;; *) exec cargo \"$@\" ;; esac\n"
    );
    let path = folder.join("bin/cargo");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_demo_shows_its_steps_and_its_result_and_no_json() {
    let folder = tempfile::tempdir().unwrap();
    let (cargo_home, target) = (folder.path().join("cargo"), folder.path().join("target"));
    cargo_without_builds(&cargo_home);
    std::fs::create_dir_all(target.join("demo")).unwrap();
    symlink(env!("CARGO_BIN_EXE_gristmill"), target.join("demo/gristmill")).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh"))
        .args(["-y", "--rows", "20000"])
        .env("CARGO_HOME", &cargo_home)
        .env("CARGO_TARGET_DIR", &target)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for part in ["== grinding the month into daily rows", "2025-10-30", "written", "The ten largest namespaces"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}\n{stderr}");
    }
    let long: Vec<&str> = stdout.lines().filter(|line| line.starts_with('{') || line.len() > 500).collect();
    assert!(long.is_empty(), "{long:?}");
    let left = std::fs::read_dir(folder.path()).unwrap().filter_map(Result::ok).map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| name == "cargo" || name == "target"), "the demo removes its folder");
}
