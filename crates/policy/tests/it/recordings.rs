//! Runs every recording of the real service: policy and tailnet in, what each node was sent out.
//!
//! `bowline_testdata::recordings` says where they are.
//! Its README describes the format.

mod hujson;
mod policy;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

/// Recordings that cannot be right: one id and the reason on a line.
const KNOWN_WRONG: &str = include_str!("recordings/known_wrong.txt");

fn known_wrong() -> BTreeMap<&'static str, &'static str> {
    KNOWN_WRONG
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .collect()
}

#[test]
fn recordings_of_the_service_come_out_exactly() {
    let Some(directory) = bowline_testdata::recordings() else {
        return;
    };
    let known_wrong = known_wrong();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    let topologies = std::fs::read_to_string(directory.join("topologies.json"));
    let topologies: Value = topologies
        .map(|text| serde_json::from_str(&text).unwrap())
        .unwrap_or_default();
    let mut table: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let record: Value = serde_json::from_str(line).unwrap();
            let kind = record["kind"].as_str().unwrap_or(&stem).to_owned();
            let id = record["id"].as_str().unwrap();
            let result = match kind.as_str() {
                "hujson" => hujson::check(&record),
                "acl" | "grant" | "routes" | "ssh" | "nodeattrs" | "policytest" | "sshtest" => {
                    policy::check(&record, &topologies)
                }
                _ => Err("unknown kind".to_owned()),
            };
            let counts = table.entry(kind).or_default();
            match (result, known_wrong.get(id)) {
                (Ok(()), None) => counts[0] += 1,
                (Err(difference), None) => {
                    counts[1] += 1;
                    println!("{id}: {difference}");
                }
                (_, Some(_)) => counts[2] += 1,
            }
        }
    }
    // Written past the test harness, which would show it on failure only.
    let mut out = std::io::stdout().lock();
    let mut row = |kind: &str, cells: [String; 3]| {
        let [passed, failed, excepted] = cells;
        writeln!(out, "{kind:<12} {passed:>7} {failed:>7} {excepted:>8}").unwrap();
    };
    row(
        "\nkind",
        ["passed", "failed", "excepted"].map(str::to_owned),
    );
    let mut total = [0; 3];
    for (kind, counts) in &table {
        row(kind, counts.map(|count| count.to_string()));
        total
            .iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    row("all", total.map(|count| count.to_string()));
    drop(out);
    assert!(total[0] > 0, "no recordings in {}", directory.display());
    assert_eq!(total[1], 0, "{} recordings failed", total[1]);
}
