//! Long texts that are made to cost: each is judged in bounded memory and time, whatever comes
//! of it. Every text runs in a process of its own, whose highest memory is read at its end.

use bowline_policy::{
    Attributes, Budget, Compiled, Device, Diagnostic, Owner, Policy, PreviewTarget, Question, Role,
    Topology, User,
};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

/// How long the texts are: as long as a policy may be by default, or as the variable says in MiB.
fn length() -> usize {
    let mebibytes = std::env::var(MEBIBYTES).ok();
    mebibytes.map_or(1, |text| text.parse().unwrap()) << 20
}
/// What judging a text may add to the process, the text itself included.
const MEMORY_MAX_MIB: u64 = 500;
/// Processor time of judging a text. A build without optimisation takes many times as long.
const SECONDS_MAX: f64 = if cfg!(debug_assertions) { 180.0 } else { 10.0 };
/// The variable with the length of the texts, in MiB.
const MEBIBYTES: &str = "BOWLINE_POLICY_BOMB_MIB";
/// The variable that names the bomb of a process.
const NAME: &str = "BOWLINE_POLICY_BOMB";

/// `before`, as many of `unit(0)`, `unit(1)`, … as fit, `after`.
fn filled(before: &str, after: &str, unit: impl Fn(&mut String, usize)) -> String {
    let mut text = String::with_capacity(length() + 256);
    text.push_str(before);
    let mut number = 0;
    let length = length();
    while text.len() + after.len() < length - 400 {
        unit(&mut text, number);
        number += 1;
    }
    text.push_str(after);
    text
}

fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).unwrap();
}

/// An address for each number.
fn address(number: usize) -> String {
    let number = u32::try_from(number).unwrap();
    std::net::Ipv4Addr::from(0x0b00_0000 + 2 * number).to_string()
}

type Bomb = (&'static str, fn() -> String);

const BOMBS: &[Bomb] = &[
    ("one huge comment", || {
        filled("{/*", "*/}", |text, _| text.push_str("comment "))
    }),
    ("newlines", || filled("{", "}", |text, _| text.push('\n'))),
    ("tiny members", || {
        filled("[", "1]", |text, _| text.push_str("1,"))
    }),
    ("tiny objects", || {
        filled("{\"acls\": [", "{}]}", |text, _| text.push_str("{},"))
    }),
    ("nested as deep as can be", || {
        let nest = "[".repeat(190) + &"]".repeat(190) + ",";
        filled("{\"acls\": [", "]}", |text, _| text.push_str(&nest))
    }),
    ("nested deeper", || "[".repeat(length())),
    ("one huge string", || {
        filled("{\"acls\": [\"", "\"]}", |text, _| text.push('\u{ad}'))
    }),
    ("a section many times", || {
        filled("{", "\"acls\": []}", |text, _| {
            text.push_str("\"acls\":[],");
        })
    }),
    ("groups that differ in case alone", || {
        filled("{\"groups\": {", "\"group:z\": []}}", |text, number| {
            let name: String = (0..24)
                .map(|bit| if number >> bit & 1 == 1 { 'A' } else { 'a' })
                .collect();
            put(text, format_args!("\"group:{name}\":[],"));
        })
    }),
    ("one-line rules", || {
        filled("{\"acls\": [", "]}", |text, number| {
            put(
                text,
                format_args!(
                    "{{\"action\":\"accept\",\"src\":[\"u{number}@x.com\"],\"dst\":[\"{}:1\"]}},\n",
                    address(number)
                ),
            );
        })
    }),
    ("an IP set named again and again", || {
        let mut text = String::from("{\"ipsets\": {\"ipset:a\": [");
        for number in 0..300_000 {
            put(&mut text, format_args!("\"{}\",", address(number)));
        }
        text.push_str("], \"ipset:b\": [");
        let before = std::mem::take(&mut text);
        filled(&before, "]}}", |text, _| text.push_str("\"ipset:a\","))
    }),
    ("IP sets that each name a large one", || {
        let mut text = String::from("{\"ipsets\": {\"ipset:a\": [");
        for number in 0..100_000 {
            put(&mut text, format_args!("\"{}\",", address(number)));
        }
        text.push_str("],");
        filled(&text, "\"ipset:z\":[]}}", |text, number| {
            put(
                text,
                format_args!("\"ipset:b{number}\":[\"ipset:a\",\"1.1.1.1\"],"),
            );
        })
    }),
    ("addresses from the last to the first", || {
        filled("{\"ipsets\": {\"ipset:a\": [", "]}}", |text, number| {
            put(text, format_args!("\"{}\",", address(2_000_000 - number)));
        })
    }),
    ("addresses in and out by turns", || {
        filled("{\"ipsets\": {\"ipset:a\": [", "]}}", |text, number| {
            let (here, there) = (address(number), address(number / 2));
            put(text, format_args!("\"add {here}\",\"remove {there}\","));
        })
    }),
    ("rules that name a large IP set", || {
        let mut text = String::from("{\"ipsets\": {\"ipset:a\": [");
        for number in 0..50_000 {
            put(&mut text, format_args!("\"{}\",", address(number)));
        }
        text.push_str("]}, \"acls\": [");
        filled(&text, "]}", |text, number| {
            put(
                text,
                format_args!(
                    "{{\"action\":\"accept\",\"src\":[\"ipset:a\"],\"dst\":[\"ipset:a:{}\"]}},",
                    1 + number % 60_000
                ),
            );
        })
    }),
    ("a rule with many sources and many destinations", || {
        let mut text = String::from("{\"acls\": [{\"action\":\"accept\",\"src\":[");
        for number in 0..300_000 {
            put(&mut text, format_args!("\"{}\",", address(number)));
        }
        text.push_str("],\"dst\":[");
        filled(&text, "]}]}", |text, number| {
            put(text, format_args!("\"{}:1\",", address(number)));
        })
    }),
    ("a grant with many destinations and many ports", || {
        let mut text = String::from("{\"grants\": [{\"src\":[\"*\"],\"ip\":[");
        for number in 0..500_000 {
            put(&mut text, format_args!("\"tcp:{}\",", 1 + number % 60_000));
        }
        text.push_str("],\"dst\":[");
        filled(&text, "]}]}", |text, number| {
            put(text, format_args!("\"{}\",", address(number)));
        })
    }),
    ("one huge group", || {
        filled(
            "{\"groups\": {\"group:a\": [",
            "]}, \"acls\": [{\"action\":\"accept\",\"src\":[\"group:a\"],\"dst\":[\"*:*\"]}]}",
            |text, number| {
                put(text, format_args!("\"u{number}@x.com\","));
            },
        )
    }),
    ("a login in many groups", || {
        let mut text = String::from("{\"groups\": {");
        for number in 0..200_000 {
            put(
                &mut text,
                format_args!("\"group:g{number}\":[\"u1@x.com\"],"),
            );
        }
        text.push_str("}, \"acls\": [{\"action\":\"accept\",\"dst\":[\"*:*\"],\"src\":[");
        filled(&text, "]}]}", |text, number| {
            put(text, format_args!("\"group:g{}\",", number % 200_000));
        })
    }),
    ("tests of every rule", || {
        let mut text = String::from("{\"acls\": [");
        for number in 0..20_000 {
            put(
                &mut text,
                format_args!(
                    "{{\"action\":\"accept\",\"src\":[\"autogroup:member\"],\"dst\":[\"{}:1\"]}},",
                    address(number)
                ),
            );
        }
        text.push_str("], \"tests\": [");
        filled(&text, "]}", |text, number| {
            put(
                text,
                format_args!(
                    "{{\"src\":\"u{}@x.com\",\"deny\":[\"9.9.9.9:1\",\"9.9.9.8:1\"]}},",
                    1 + number % 100
                ),
            );
        })
    }),
    ("SSH tests of every SSH rule", || {
        let mut text = String::from("{\"tagOwners\":{\"tag:t0\":[]},\"ssh\": [");
        for number in 0..20_000 {
            put(
                &mut text,
                format_args!(
                    "{{\"action\":\"accept\",\"src\":[\"autogroup:member\"],\"dst\":[\"tag:t0\"],\"users\":[\"u{number}\"]}},"
                ),
            );
        }
        text.push_str("], \"sshTests\": [");
        filled(&text, "]}", |text, number| {
            put(
                text,
                format_args!(
                    "{{\"src\":\"u{}@x.com\",\"dst\":[\"tag:t0\"],\"deny\":[\"root\",\"x\"]}},",
                    1 + number % 100
                ),
            );
        })
    }),
    ("rules for people's own devices", || {
        filled("{\"acls\": [", "]}", |text, number| {
            put(
                text,
                format_args!(
                    "{{\"action\":\"accept\",\"src\":[\"autogroup:member\",\"x{number}@x.com\"],\"dst\":[\"autogroup:self:{}\"]}},",
                    1 + number % 60_000
                ),
            );
        })
    }),
    ("postures", || {
        filled(
            "{\"postures\": {",
            "\"posture:z\": []}, \"acls\": []}",
            |text, number| {
                put(
                    text,
                    format_args!(
                        "\"posture:p{number}\":[\"node:os IN ['a','b','c']\",\"custom:a == 'x'\"],"
                    ),
                );
            },
        )
    }),
    ("directory groups", || {
        filled(
            "{\"acls\": [{\"action\":\"accept\",\"dst\":[\"*:*\"],\"src\":[",
            "]}]}",
            |text, number| {
                put(text, format_args!("\"group:g{number}@x.com\","));
            },
        )
    }),
    ("tags that own tags", || {
        filled("{\"tagOwners\": {", "\"tag:z\": []}}", |text, number| {
            put(text, format_args!("\"tag:t{number}\":[],"));
        })
    }),
    ("node attributes", || {
        filled("{\"nodeAttrs\": [", "]}", |text, number| {
            put(
                text,
                format_args!("{{\"target\":[\"*\"],\"attr\":[\"a{number}\"]}},"),
            );
        })
    }),
    ("approvers", || {
        filled(
            "{\"autoApprovers\": {\"routes\": {",
            "}}}",
            |text, number| {
                put(
                    text,
                    format_args!("\"{}/32\":[\"autogroup:member\"],", address(number)),
                );
            },
        )
    }),
];

/// A thousand devices: of a hundred users, tagged, and routers.
fn tailnet() -> Topology {
    let users = (1..=100).map(|id| User {
        id,
        login: format!("u{id}@x.com"),
        role: Role::Member,
    });
    let devices = (1..=1000u64).map(|id| Device {
        id,
        name: format!("d{id}"),
        joined: id,
        owner: if id % 10 == 0 {
            Owner::Tags(vec![format!("tag:t{}", id % 50)])
        } else {
            Owner::User(1 + id % 100)
        },
        addresses: vec![std::net::Ipv4Addr::from(0x6440_0000 + u32::try_from(id).unwrap()).into()],
        advertised: vec!["11.0.0.0/8".parse().unwrap()],
        routes: if id % 100 == 0 {
            vec!["11.0.0.0/8".parse().unwrap()]
        } else {
            Vec::new()
        },
        attributes: Attributes::new(),
        services: Vec::new(),
        online: true,
        slot: None,
    });
    Topology {
        users: users.collect(),
        devices: devices.collect(),
        ..Topology::default()
    }
}

/// Everything that the API does with a text. Each piece of work has a budget of its own there.
fn everything(text: &str) -> (f64, String) {
    let told = |errors: Vec<Diagnostic>| errors[0].message.chars().take(60).collect::<String>();
    let closed = Arc::new(Policy::parse("{}").unwrap());
    let net = Compiled::new(closed, &tailnet());
    let judged = |budget: &Budget| -> Result<Arc<Policy>, Vec<Diagnostic>> {
        let policy = Arc::new(Policy::parse_within(text, budget)?);
        let one = |error: Diagnostic| vec![error];
        let new = net.with_policy_within(&policy, budget);
        let new = new.map_err(Diagnostic::from).map_err(one)?;
        new.run_tests_within(budget).map_err(one)?;
        Ok(policy)
    };
    let started = processor_seconds();
    let policy = match judged(&Budget::default()) {
        Ok(policy) => policy,
        Err(errors) => return (processor_seconds() - started, told(errors)),
    };
    let judged = processor_seconds() - started;
    // What is accepted is formatted, and asked about.
    let formatted = bowline_policy::hujson::format(text).unwrap().len();
    let budget = Budget::default();
    let preview = net.with_policy_within(&policy, &budget).map(|net| {
        let target = PreviewTarget::User("u1@x.com".to_owned());
        net.preview_within(&target, &budget)
            .map(|found| found.len())
    });
    let budget = Budget::default();
    let explained = net.with_policy_within(&policy, &budget).map(|net| {
        let question = Question {
            src: "u1@x.com".to_owned(),
            dst: "u2@x.com:1".to_owned(),
            protocol: None,
        };
        net.explain_within(&question, &budget)
            .map(|it| it.pairs.len())
    });
    let diff = net.diff_within(&policy, &[], &Budget::default());
    let outcome = format!(
        "accepted; formatted {formatted}, preview {preview:?}, explained \
         {explained:?}, diff {:?}",
        diff.map(|diff| diff.access.len())
    );
    (judged, outcome)
}

/// Processor time of this process so far. Other work on the machine does not count.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |at: usize| -> f64 { fields.split(' ').nth(at).unwrap().parse().unwrap() };
    // A tick is a hundredth of a second on every Linux.
    (ticks(11) + ticks(12)) / 100.0
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<u64>().unwrap() / 1024
}

/// One bomb, in the process that is started for it; nothing in any other.
#[test]
fn one_bomb() {
    let Ok(name) = std::env::var(NAME) else {
        return;
    };
    let (_, make) = BOMBS.iter().find(|(known, _)| *known == name).unwrap();
    let text = make();
    if text.len() > length() {
        println!("{name}: is a text of {} bytes or nothing", text.len());
        return;
    }
    let before = status("VmRSS:") - u64::try_from(text.len() >> 20).unwrap();
    let started = processor_seconds();
    let (judged, outcome) = everything(&text);
    let (memory, all) = (status("VmHWM:") - before, processor_seconds() - started);
    println!("{name}: {memory} MiB, {judged:.2} s judging, {all:.2} s in all: {outcome}");
    assert!(memory <= MEMORY_MAX_MIB, "{name} took {memory} MiB");
    // Judging, a preview, an explanation and a comparison have a budget each.
    assert!(judged <= SECONDS_MAX, "{name} took {judged} s");
    assert!(all <= 5.0 * SECONDS_MAX, "{name} took {all} s");
}

/// With texts of 15 MiB, for a release build on a quiet machine:
/// `BOWLINE_POLICY_BOMB_MIB=15 cargo test --release -p bowline-policy --test it bombs -- --nocapture`.
#[test]
fn no_text_takes_more_than_half_a_gigabyte_or_ten_seconds() {
    let mut failed = Vec::new();
    for (name, _) in BOMBS {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["bombs::one_bomb", "--exact", "--nocapture"])
            .env(NAME, name)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let line = out.lines().find(|line| line.starts_with(name));
        println!("{}", line.unwrap_or("no outcome"));
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            failed.push(format!("{name}: {:?} {error}", output.status));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
