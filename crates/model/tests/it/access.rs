//! The tables of `docs/access.md` and `docs/users.md`: what roles and scopes may.

use std::fmt::Write as _;
use std::path::Path;

use bowline_model::right::Right;
use bowline_model::scope::{Area, Scope};
use bowline_model::user::Role;

/// Set it to write the tables in place of comparing them.
const WRITE: &str = "BOWLINE_WRITE";

const ROLES: [Role; 7] = [
    Role::Owner,
    Role::Admin,
    Role::NetworkAdmin,
    Role::ItAdmin,
    Role::BillingAdmin,
    Role::Auditor,
    Role::Member,
];

fn roles() -> String {
    let names = ROLES.map(|role| format!("`{}`", role.as_str()));
    let mut table = format!("| may | {} |\n", names.join(" | "));
    writeln!(table, "| --- |{}", " :-: |".repeat(ROLES.len())).unwrap();
    for right in Right::EVERY {
        let cells = ROLES.map(|role| if role.has(right) { "yes" } else { "–" });
        writeln!(table, "| {} | {} |", right.words(), cells.join(" | ")).unwrap();
    }
    table
}

fn scopes() -> String {
    let mut table = "| scope | covers | tags | given by |\n| --- | --- | --- | --- |\n".to_owned();
    for area in Area::EVERY {
        let of_area = Scope::every().filter(|scope| scope.area() == area);
        let names: Vec<String> = of_area.map(|scope| format!("`{scope}`")).collect();
        let needs_tags = Scope::every().any(|scope| scope.area() == area && scope.needs_tags());
        let tags = if needs_tags { "needed to write" } else { "" };
        writeln!(
            table,
            "| {} | {} | {tags} | {} |",
            names.join(", "),
            area.words(),
            givers(area),
        )
        .unwrap();
    }
    table
}

/// Whom each role changes, and which roles it gives.
fn changes() -> String {
    let mut table =
        "| role | may change users of these roles, and give them |\n| --- | --- |\n".to_owned();
    for role in ROLES {
        let others = ROLES.into_iter().filter(|other| role.covers(*other));
        let others: Vec<String> = others
            .map(|other| format!("`{}`", other.as_str()))
            .collect();
        let may = if role.has(Right::WriteUsers) {
            others.join(", ")
        } else {
            "–".to_owned()
        };
        writeln!(table, "| `{}` | {may} |", role.as_str()).unwrap();
    }
    table
}

/// The roles that may give the scopes of an area to a credential; those that may only give what reads in
/// brackets.
fn givers(area: Area) -> String {
    let of_area: Vec<Scope> = Scope::every()
        .filter(|scope| scope.area() == area)
        .collect();
    let givers = ROLES.into_iter().filter_map(|role| {
        let may = of_area.iter().filter(|scope| role.may_grant(**scope));
        match may.count() {
            0 => None,
            all if all == of_area.len() => Some(format!("`{}`", role.as_str())),
            _ => Some(format!("(`{}`)", role.as_str())),
        }
    });
    givers.collect::<Vec<_>>().join(", ")
}

/// Replaces what stands between the marks of a table.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: generated -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (before, rest) = text.split_once(&begin).expect("the page has the mark");
    let (_, after) = rest.split_once(&end).expect("the page has the mark");
    format!("{before}{begin}\n{table}\n{end}{after}")
}

/// Writes the tables of a page, or compares them.
fn check(page: &str, tables: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(page);
    let committed = std::fs::read_to_string(&path).unwrap();
    let text = tables
        .iter()
        .fold(committed.clone(), |text, (name, table)| {
            with_table(&text, name, table)
        });
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        committed == text,
        "{page} is not current: run `cargo run -p bowline-xtask -- access`"
    );
}

#[test]
fn access_page_is_current() {
    check(
        "docs/access.md",
        &[("roles", roles()), ("scopes", scopes())],
    );
    check("docs/users.md", &[("changes", changes())]);
}
