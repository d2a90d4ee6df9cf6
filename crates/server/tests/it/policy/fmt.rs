//! `bowline policy fmt`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::json;

use super::{files, is, json_of, piped, policy};

#[tokio::test]
async fn formatting_is_in_place_keeps_the_mode_and_is_done_once() {
    let home = files();
    let tidy = home.file("tidy.hujson", "{}\n");
    let path = home.file("untidy.hujson", "{\"acls\":[],\n// why\n}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let ran = policy(&home, "fmt --check tidy.hujson untidy.hujson").await;
    is(&ran, 1, "untidy.hujson\n", "");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    let ran = policy(&home, "fmt tidy.hujson untidy.hujson").await;
    is(&ran, 0, "untidy.hujson: formatted\n", "");
    let formatted = fs::read_to_string(&path).unwrap();
    assert_eq!(
        formatted,
        "{
	\"acls\": [],
	// why
}
"
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let inode = fs::metadata(&path).unwrap().ino();
    is(&policy(&home, "fmt untidy.hujson").await, 0, "", "");
    is(&policy(&home, "fmt --check untidy.hujson").await, 0, "", "");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(fs::read_to_string(&path).unwrap(), formatted);
    assert_eq!(
        fs::read_to_string(tidy).unwrap(),
        "{}
"
    );
    // Nothing is left beside it.
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 4);
}

#[tokio::test]
async fn a_link_to_a_policy_stays_a_link() {
    let home = files();
    let path = home.file("untidy.hujson", "{ }");
    let link = path.with_file_name("link.hujson");
    std::os::unix::fs::symlink("untidy.hujson", &link).unwrap();
    let ran = policy(&home, "fmt link.hujson").await;
    is(&ran, 0, "link.hujson: formatted\n", "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
}

#[tokio::test]
async fn what_cannot_be_parsed_is_left_as_it_is_and_the_others_are_formatted() {
    let home = files();
    let broken = home.file("broken.hujson", "{\"acls\": [}");
    let untidy = home.file("untidy.hujson", "{ }");
    let ran = policy(&home, "fmt broken.hujson untidy.hujson").await;
    is(
        &ran,
        1,
        "untidy.hujson: formatted\n",
        "broken.hujson:1:11: error: invalid character '}' at start of value\n    1 | {\"acls\": [}\n      \
         |           ^\n",
    );
    assert_eq!(fs::read_to_string(broken).unwrap(), "{\"acls\": [}");
    assert_eq!(fs::read_to_string(&untidy).unwrap(), "{}\n");
    let ran = policy(&home, "fmt broken.hujson missing.hujson --json").await;
    assert_eq!(ran.code, 2);
    let found = json_of(&ran);
    assert_eq!((&found["ok"], &found["files"]), (&json!(false), &json!([])));
    assert_eq!(found["errors"][0]["column"], 11);
}

#[tokio::test]
async fn a_write_protected_policy_is_not_replaced() {
    let home = files();
    let path = home.file("untidy.hujson", "{ }");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let told = "bowline: cannot write untidy.hujson\n  because: it is write-protected\n";
    is(&policy(&home, "fmt untidy.hujson").await, 2, "", told);
    assert_eq!(fs::read_to_string(path).unwrap(), "{ }");
}

#[tokio::test]
async fn what_would_change_can_be_shown() {
    let home = files();
    let path = home.file("untidy.hujson", "{\n  \"acls\": [],\n}\n");
    let diff = "--- untidy.hujson\n+++ untidy.hujson (formatted)\n@@ -1,3 +1,3 @@\n {\n-  \"acls\": \
                [],\n+\t\"acls\": [],\n }\n";
    is(
        &policy(&home, "fmt --diff untidy.hujson").await,
        0,
        diff,
        "",
    );
    let both = format!("untidy.hujson\n{diff}");
    is(
        &policy(&home, "fmt --diff --check untidy.hujson").await,
        1,
        &both,
        "",
    );
    let ran = policy(&home, "fmt --diff --check untidy.hujson --json").await;
    assert_eq!(
        json_of(&ran),
        json!({
            "ok": false,
            "files": [{"file": "untidy.hujson", "changed": true, "diff": diff}],
            "errors": [],
        })
    );
    assert_eq!(fs::read_to_string(path).unwrap(), "{\n  \"acls\": [],\n}\n");
}

#[tokio::test]
async fn standard_input_is_formatted_to_standard_output() {
    let home = files();
    let ran = piped(&home, "fmt -", "{\"acls\": [],\n}").await;
    is(&ran, 0, "{\n\t\"acls\": [],\n}\n", "");
    is(&piped(&home, "fmt -", &ran.out).await, 0, &ran.out, "");
    is(
        &piped(&home, "fmt --check -", "{ }").await,
        1,
        "<stdin>\n",
        "",
    );
}
