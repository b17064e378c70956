//! Does extending stay as short as `docs/extending.md` promises?

/// Its programs run as doctests of this crate (`lib.rs`); here only their length is counted.
#[test]
fn every_extension_is_under_thirty_lines() {
    let page = include_str!("../docs/extending.md");
    let programs: Vec<&str> =
        page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(programs.len(), 3, "a criterion, an allocation, a schedule");
    for program in programs {
        let shown = program.lines().filter(|line| !line.starts_with("# ")).count();
        assert!(shown < 30, "{shown} lines:\n{program}");
        assert!(program.contains("impl "), "{program}");
    }
}
