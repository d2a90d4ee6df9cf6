use serde_json::json;

use super::*;

/// Values that a type takes, and values that it does not.
fn samples(of: Type) -> (Vec<Value>, Vec<Value>) {
    let key = |prefix: &str, digits: &str| json!(format!("{prefix}{}", digits.repeat(32)));
    let whole = |number: i128| -> Value { serde_json::from_str(&number.to_string()).unwrap() };
    match of {
        Text => (
            vec![json!(""), json!("x")],
            vec![json!(5), json!(true), json!([]), json!({})],
        ),
        Flag => (
            vec![json!(true)],
            vec![json!("true"), json!(0), json!([]), json!({})],
        ),
        Whole(least, most) => (
            vec![whole(least), whole(most)],
            vec![
                whole(least - 1),
                whole(most + 1),
                json!(1.0),
                json!(1.5),
                json!("1"),
                json!(true),
            ],
        ),
        Float => (
            vec![json!(-1.5), json!(3)],
            vec![json!("1"), json!(true), json!([])],
        ),
        Time => (
            [
                "2026-01-02T03:04:05Z",
                "2026-01-02T03:04:05.678901234+01:00",
                "0001-01-01T00:00:00Z",
            ]
            .map(|text| json!(text))
            .to_vec(),
            [
                json!(5),
                json!(""),
                json!("2026-01-02"),
                json!("2026-01-02 03:04:05Z"),
                json!("2026-13-02T03:04:05Z"),
                json!("2026-01-02T03:04:05"),
                json!("12026-01-02T03:04:05Z"),
            ]
            .to_vec(),
        ),
        Key(prefix) => (
            vec![key(prefix, "00"), key(prefix, "af")],
            vec![
                json!(5),
                json!(""),
                key("privkey:", "af"),
                key(prefix, "ag"),
                key(prefix, "afa"),
            ],
        ),
        Address => (
            vec![json!("10.0.0.1"), json!("fd7a::1")],
            vec![json!(5), json!("10.0.0.1/32"), json!("x")],
        ),
        AddressPort => (
            vec![json!("10.0.0.1:1"), json!("[fd7a::1]:65535")],
            vec![json!(5), json!("10.0.0.1"), json!("10.0.0.1:65536")],
        ),
        Prefix => (
            vec![json!("10.0.0.1/8"), json!("::/0")],
            vec![
                json!(5),
                json!("10.0.0.0"),
                json!("10.0.0.0/33"),
                json!("10.0.0.0/08"),
                json!("::/129"),
            ],
        ),
        Bytes => (
            vec![json!(""), json!("AAE="), json!("AAAA")],
            vec![json!(5), json!("AAA"), json!("A-A="), json!([1])],
        ),
        Raw => (vec![json!(5), json!({"a": []})], vec![]),
        List(of) => {
            let (good, bad) = samples(*of);
            let lists = bad.into_iter().map(|value| json!([value]));
            (
                vec![json!([]), good.into()],
                lists.chain([json!({}), json!("x"), json!(5)]).collect(),
            )
        }
        Type::Map(keys, of) => {
            let (good, bad) = samples(*of);
            let keyed = |value: Value| json!({"7": value});
            let mut bad: Vec<Value> = bad.into_iter().map(keyed).collect();
            bad.extend([json!([]), json!("x")]);
            if keys.is_some() {
                bad.push(json!({"x": null}));
            }
            (
                good.into_iter().map(keyed).chain([json!({})]).collect(),
                bad,
            )
        }
        Object(members) => {
            let mut all = (
                vec![json!({}), json!({"no such member": 5})],
                vec![json!([]), json!("x"), json!(5)],
            );
            for (name, of) in members {
                let (good, bad) = samples(*of);
                let member = |value: Value| json!({*name: value});
                // Another case is the same member.
                let other = |value: Value| json!({name.to_uppercase(): value});
                all.0
                    .extend(good.into_iter().chain([Value::Null]).map(member));
                all.1.extend(bad.iter().cloned().map(other));
                all.1.extend(bad.into_iter().map(member));
            }
            all
        }
    }
}

#[test]
fn each_member_of_a_message_takes_its_own_type_and_no_other() {
    let (good, bad) = samples(MAP_RESPONSE);
    assert!(bad.len() > 5000, "{}", bad.len());
    for message in &good {
        check_value("MapResponse", MAP_RESPONSE, message).unwrap();
    }
    for message in &bad {
        let violation =
            check_value("MapResponse", MAP_RESPONSE, message).expect_err(&message.to_string());
        assert_eq!(violation.rule, Rule::WrongType);
    }
}

#[test]
fn letters_that_go_takes_for_ascii_are_taken_so() {
    let message = json!({"No\u{64}e": {"Ho\u{17f}tinfo": {"O\u{17f}": 5}}});
    let message = message.as_object().unwrap();
    assert_eq!(check(message).unwrap_err().rule, Rule::WrongType);
}
