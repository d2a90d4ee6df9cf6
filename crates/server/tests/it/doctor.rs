//! `bowline doctor`: what it says of sound and damaged databases, and its exit codes.

use crate::home::Home;

async fn doctor(home: &Home, more: &[&str]) -> (i32, String, String) {
    let ran = home.run(&[&["doctor"], more].concat()).await;
    (ran.code, ran.out, ran.err)
}

#[tokio::test]
async fn a_database_is_examined_with_its_server_and_without() {
    let home = Home::new();
    let (code, _, told) = doctor(&home, &[]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("there is no database at"), "{told}");
    home.prints(&["init", "--owner", "ann@example.com"]).await;
    let (code, said, told) = doctor(&home, &[]).await;
    assert_eq!(code, 0, "{said}{told}");
    assert!(said.contains("is sound"), "{said}");
    let path = home.data().join("bowline.db");
    let before = std::fs::read(&path).unwrap();
    let (code, said, _) = doctor(&home, &["--json"]).await;
    assert_eq!(code, 0);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["sound"], true);
    assert_eq!(said["tailnets"], 1);
    assert_eq!(std::fs::read(&path).unwrap(), before, "it changes nothing");

    // A text of an object that somebody changed with another program.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute("UPDATE users SET body = replace(body, 'ann', 'eve')", [])
        .unwrap();
    drop(other);
    let (code, said, _) = doctor(&home, &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("users: user ") && said.contains("its checksum is wrong"),
        "{said}"
    );
    let (code, said, _) = doctor(&home, &["--json"]).await;
    assert_eq!(code, 1);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["sound"], false);
    assert_eq!(said["findings"][0]["table"], "users");
    let refused = home.refuses(&Home::serve_args(&[])).await;
    assert!(
        refused.contains("damaged") && refused.contains("bowline.db"),
        "{refused}"
    );
}
