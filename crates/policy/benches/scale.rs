//! What a policy costs as the tailnet grows, printed as a table.
//!
//! `cargo bench -p bowline-policy --bench scale` runs it for 100 to 100,000 devices; arguments are
//! other numbers of devices.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a program for developers, which prints"
)]

use bowline_policy::{
    Attributes, Compiled, Device, Impact, Owner, Policy, Role, Topology, TopologyChange, User,
};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A small generator of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

const GROUPS: u64 = 200;
const TAGS: u64 = 100;

fn users(devices: u64) -> u64 {
    (devices / 3).max(10)
}

fn policy_text(rules: u64, devices: u64, lines_per_rule: bool) -> String {
    let mut numbers = Numbers(7);
    let break_line = if lines_per_rule { "\n\t\t\t" } else { " " };
    let mut text = String::from("{\n\t\"groups\": {\n");
    for group in 0..GROUPS {
        let size = 5 + numbers.below(40);
        let members: Vec<String> = (0..size)
            .map(|_| format!("\"user{}@example.com\"", numbers.below(users(devices))))
            .collect();
        writeln!(text, "\t\t\"group:g{group}\": [{}],", members.join(", ")).unwrap();
    }
    text.push_str("\t},\n\t\"tagOwners\": {\n");
    for tag in 0..TAGS {
        writeln!(text, "\t\t\"tag:t{tag}\": [\"group:g{}\"],", tag % GROUPS).unwrap();
    }
    text.push_str("\t},\n\t\"autoApprovers\": {\"routes\": {\"10.0.0.0/8\": [\"tag:t0\"]}, \"exitNode\": [\"tag:t1\"]},\n\t\"acls\": [\n");
    for rule in 0..rules {
        let src = match rule % 5 {
            0 | 1 => format!("\"group:g{}\"", numbers.below(GROUPS)),
            2 => format!("\"tag:t{}\"", numbers.below(TAGS)),
            3 => format!("\"user{}@example.com\"", numbers.below(users(devices))),
            _ => "\"autogroup:member\"".to_owned(),
        };
        let dst: Vec<String> = (0..=numbers.below(3))
            .map(|_| match numbers.below(4) {
                0 => format!("\"10.{}.0.0/16:443\"", numbers.below(200)),
                _ => format!(
                    "\"tag:t{}:{}\"",
                    numbers.below(TAGS),
                    1 + numbers.below(9000)
                ),
            })
            .collect();
        writeln!(
            text,
            "\t\t{{{b}\"action\": \"accept\",{b}\"src\": [{b}{src},{b}],{b}\"dst\": [{b}{}{b}],\n\t\t}},",
            dst.join(&format!(",{break_line}")),
            b = break_line
        )
        .unwrap();
    }
    text.push_str("\t\t{\"action\": \"accept\", \"src\": [\"autogroup:member\"], \"dst\": [\"autogroup:self:*\"]},\n\t],\n\t\"tests\": [\n");
    for test in 0..100 {
        writeln!(
            text,
            "\t\t{{\"src\": \"tag:t{}\", \"deny\": [\"tag:t{}:9999\"]}},",
            test % TAGS,
            (test * 7) % TAGS
        )
        .unwrap();
    }
    text.push_str("\t],\n\t\"ssh\": [{\"action\": \"check\", \"src\": [\"autogroup:member\"], \"dst\": [\"autogroup:self\"], \"users\": [\"root\"]}],\n}\n");
    text
}

fn device(id: u64, total: u64, numbers: &mut Numbers) -> Device {
    let tagged = numbers.below(10) < 3;
    let owner = if tagged {
        Owner::Tags(vec![format!("tag:t{}", numbers.below(TAGS))])
    } else {
        Owner::User(numbers.below(users(total)))
    };
    let route = format!("10.{}.0.0/16", id % 200).parse().unwrap();
    let routes = if tagged && id.is_multiple_of(50) {
        vec![route]
    } else {
        Vec::new()
    };
    let number = u32::try_from(id).unwrap();
    Device {
        id,
        name: format!("device{id}"),
        joined: id,
        owner,
        addresses: vec![
            std::net::Ipv4Addr::from(0x6440_0000 + number).into(),
            std::net::Ipv6Addr::from((0xfd7a_115c_a1e0_u128 << 80) + u128::from(number)).into(),
        ],
        advertised: routes.clone(),
        routes,
        attributes: Attributes::new(),
        services: Vec::new(),
        online: true,
        slot: None,
    }
}

fn topology(devices: u64) -> Topology {
    let mut numbers = Numbers(11);
    Topology {
        users: (0..users(devices))
            .map(|id| User {
                id,
                login: format!("user{id}@example.com"),
                role: Role::Member,
            })
            .collect(),
        devices: (1..=devices)
            .map(|id| device(id, devices, &mut numbers))
            .collect(),
        ..Topology::default()
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn show(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// The first device of each class that a change touched is computed again.
fn touched(net: &Compiled, impact: &Impact) -> usize {
    for class in impact.visibility.iter().chain(&impact.filters) {
        let Some(members) = net.members(*class) else {
            continue;
        };
        net.visible_to(*class);
        if impact.filters.contains(class)
            && let Some(first) = net.ids(members).next()
        {
            net.filters_for(first);
        }
    }
    impact.visibility.union(&impact.filters).count()
}

fn scale(devices: u64) -> Vec<String> {
    let text = policy_text(1000, devices, false);
    let (parse, policy) = timed(|| Arc::new(Policy::parse(&text).unwrap()));
    let topology = topology(devices);
    let (compile, net) = timed(|| Compiled::new(Arc::clone(&policy), &topology));
    let (tests, ()) = timed(|| net.run_tests().unwrap());
    let (views, classes) = timed(|| {
        let classes: Vec<_> = net.classes().collect();
        for class in &classes {
            net.visible_to(*class);
            if let Some(first) = net
                .members(*class)
                .and_then(|members| net.ids(members).next())
            {
                net.filters_for(first);
            }
        }
        classes.len()
    });
    let mut numbers = Numbers(99);
    let mut next = net.clone();
    let newcomer = device(devices + 1, devices, &mut numbers);
    let mut on_user = newcomer.clone();
    on_user.owner = Owner::User(1);
    let (copy, _) = timed(|| next.clone());
    let (join, impact) = timed(|| next.apply(TopologyChange::Device(Box::new(on_user))));
    let (join_views, join_classes) = timed(|| touched(&next, &impact));
    let mut tagged = newcomer;
    tagged.id += 1;
    tagged.owner = Owner::Tags(vec!["tag:t5".to_owned()]);
    tagged.addresses = vec!["100.127.0.1".parse().unwrap()];
    let (tagged_join, impact) = timed(|| next.apply(TopologyChange::Device(Box::new(tagged))));
    let (tagged_views, tagged_classes) = timed(|| touched(&next, &impact));
    let mut member = User {
        id: 3,
        login: "user3@example.com".to_owned(),
        role: Role::Admin,
    };
    let (role, _) = timed(|| next.apply(TopologyChange::User(member.clone())));
    member.role = Role::Member;
    next.apply(TopologyChange::User(member));
    // One rule more, for many devices at both ends.
    let rule =
        r#"{"action": "accept", "src": ["autogroup:tagged"], "dst": ["autogroup:member:60000"]},"#;
    let proposed = text.replacen("\"acls\": [", &format!("\"acls\": [{rule}"), 1);
    let proposed = Arc::new(Policy::parse(&proposed).unwrap());
    let (compare, diff) = timed(|| net.diff(&proposed, &[]));
    assert!(!diff.access.is_empty());
    vec![
        devices.to_string(),
        show(parse),
        show(compile),
        show(tests),
        format!("{} ({classes})", show(views)),
        show(copy),
        format!("{} + {} ({join_classes})", show(join), show(join_views)),
        format!(
            "{} + {} ({tagged_classes})",
            show(tagged_join),
            show(tagged_views)
        ),
        show(role),
        format!("{} ({})", show(compare), diff.access.len()),
    ]
}

fn main() {
    let sizes: Vec<u64> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![100, 1_000, 10_000, 100_000]
    } else {
        sizes
    };
    println!("1,000 rules, 200 groups, 100 tags; in brackets the classes that were computed\n");
    println!(
        "| devices | parse | compile | 100 tests | views of all classes | copy \
         | a user's device joins + views | a tagged device joins + views \
         | a user's role changes | diff of one rule |"
    );
    println!("|{}", " ---: |".repeat(10));
    for devices in sizes {
        println!("| {} |", scale(devices).join(" | "));
    }
    let text = policy_text(15_000, 1_000, true);
    let (parse, policy) = timed(|| Arc::new(Policy::parse(&text).unwrap()));
    let (compile, net) = timed(|| Compiled::new(policy, &topology(1_000)));
    let (tests, ()) = timed(|| net.run_tests().unwrap());
    let (format, _) = timed(|| bowline_policy::hujson::format(&text).unwrap());
    println!(
        "\n15,000 rules on {} lines, 1,000 devices: parse {}, compile {}, tests {}, format {}",
        text.lines().count(),
        show(parse),
        show(compile),
        show(tests),
        show(format)
    );
}
