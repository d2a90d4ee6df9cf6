use super::*;

fn admission(half_open: usize) -> Admission {
    Admission::new(Limits {
        half_open,
        per_source: 4,
        per_machine: 2,
        descriptors: Some(Descriptors {
            limit: 100,
            reserve: 20,
        }),
        ..Limits::default()
    })
}

fn come(admission: &Admission, source: &str) -> Ticket {
    let source: IpAddr = source.parse().unwrap();
    admission
        .admit(Listener::Main, source, false, Some(10))
        .unwrap()
}

fn open(admission: &Admission, state: State) -> usize {
    let of_state = |open: &Open| open.state == state;
    let all = admission.open();
    all.iter().filter(|o| of_state(o)).map(|o| o.count).sum()
}

#[test]
fn where_the_pool_is_full_the_largest_source_loses_its_oldest() {
    let admission = admission(4);
    let bystander = come(&admission, "192.0.2.1");
    let attacker: Vec<Ticket> = (1..=4)
        .map(|host| come(&admission, &format!("2001:db8:0:{host}::1")))
        .collect();
    let gone: Vec<bool> = attacker.iter().map(Ticket::has_ended).collect();
    assert_eq!(gone, [true, false, false, false]);
    assert!(!bystander.has_ended());
    // One that has become known counts no longer, and neither does one whose turn is not its own.
    attacker[1].establish(Shown::Device);
    let busy = attacker[2].busy();
    let more = [come(&admission, "192.0.2.7"), come(&admission, "192.0.2.8")];
    assert!(attacker.iter().skip(1).all(|ticket| !ticket.has_ended()));
    assert_eq!(
        open(&admission, State::HalfOpen),
        4 + 1,
        "one ended, not yet dropped"
    );
    drop(busy);
    // It is back as the newest: others of the largest source would go before it.
    assert!(attacker[3].has_ended() && !attacker[2].has_ended());
    drop((attacker, bystander, more));
    let inside = admission.inside();
    assert!(inside.places.is_empty() && inside.by_source.is_empty());
    assert!(inside.half_open.is_empty() && inside.silent.is_empty());
}

#[test]
fn a_source_has_a_limit_beyond_which_it_loses_its_own() {
    let admission = admission(100);
    let tickets: Vec<Ticket> = (0..4).map(|_| come(&admission, "192.0.2.1")).collect();
    for ticket in &tickets[1..] {
        ticket.establish(Shown::Device);
    }
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    let fifth = admission
        .admit(Listener::Relay, source, false, None)
        .unwrap();
    assert!(tickets[0].has_ended(), "the half-open one makes room");
    fifth.establish(Shown::Device);
    let refused = admission.admit(Listener::Main, source, false, None);
    assert_eq!(refused.unwrap_err(), Refused::Source);
    let _other = come(&admission, "192.0.2.2");
    drop(tickets);
    let _again = come(&admission, "192.0.2.1");
}

#[test]
fn near_the_end_of_the_descriptors_half_open_ones_make_room_and_then_all_are_refused() {
    let admission = admission(100);
    let at = |descriptor| {
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        admission.admit(Listener::Main, source, false, Some(descriptor))
    };
    let first = at(79).unwrap();
    let second = at(80).unwrap();
    assert!(first.has_ended() && !second.has_ended());
    second.establish(Shown::Device);
    assert_eq!(at(80).unwrap_err(), Refused::Descriptors);
    let _third = at(79).unwrap();
    assert_eq!(at(90).unwrap_err(), Refused::Descriptors);
    assert_eq!(admission.refused()[0], ("descriptors", 2));
}

#[test]
fn idle_connections_of_a_credential_make_room_where_descriptors_are_short() {
    let admission = admission(100);
    let at = |source: &str, descriptor| {
        let source: IpAddr = source.parse().unwrap();
        admission.admit(Listener::Api, source, false, Some(descriptor))
    };
    let many: Vec<Ticket> = (0..3).map(|n| at("192.0.2.1", 10 + n).unwrap()).collect();
    let bystander = at("192.0.2.2", 20).unwrap();
    for ticket in many.iter().chain([&bystander]) {
        ticket.establish(Shown::Credential);
    }
    let asks = many[0].busy();
    let newcomer = at("192.0.2.3", 80).unwrap();
    newcomer.establish(Shown::Device);
    let gone: Vec<bool> = many.iter().map(Ticket::has_ended).collect();
    assert_eq!(gone, [false, true, false], "the oldest that asks nothing");
    assert!(!bystander.has_ended());
    drop(asks);
    drop((many, bystander));
    assert_eq!(at("192.0.2.3", 80).unwrap_err(), Refused::Descriptors);
    let inside = admission.inside();
    assert!(inside.idle.is_empty() && inside.idle_places.is_empty());
}

#[tokio::test(start_paused = true)]
async fn silence_ends_what_is_half_open_and_nothing_else() {
    let admission = admission(100);
    let [silent, known, busy] = [1, 2, 3].map(|n| come(&admission, &format!("192.0.2.{n}")));
    known.establish(Shown::Device);
    let turn = busy.busy();
    tokio::time::advance(Duration::from_secs(11)).await;
    admission.sweep(Instant::now());
    assert!(silent.has_ended() && !known.has_ended() && !busy.has_ended());
    drop(turn);
    known.establish(Shown::Nothing);
    tokio::time::advance(Duration::from_secs(9)).await;
    admission.sweep(Instant::now());
    assert!(
        !known.has_ended() && !busy.has_ended(),
        "its time begins anew"
    );
    tokio::time::advance(Duration::from_secs(2)).await;
    admission.sweep(Instant::now());
    assert!(known.has_ended() && busy.has_ended());
    assert_eq!(
        admission.ended(),
        [("crowded", 0), ("silent", 3), ("machine", 0)]
    );
}

#[test]
fn a_machine_key_keeps_its_newest_connections() {
    let admission = admission(100);
    let key = MachineKey::from_bytes([7; 32]).unwrap();
    let tickets: Vec<Ticket> = (0..3)
        .map(|_| {
            let ticket = come(&admission, "192.0.2.1");
            ticket.establish(Shown::Device);
            ticket.identify(key);
            ticket
        })
        .collect();
    let gone: Vec<bool> = tickets.iter().map(Ticket::has_ended).collect();
    assert_eq!(gone, [true, false, false]);
    drop(tickets);
    assert!(admission.inside().by_machine.is_empty());
}

#[test]
fn behind_a_proxy_a_connection_counts_for_whom_the_proxy_names() {
    let admission = admission(5);
    let proxy: IpAddr = "10.0.0.1".parse().unwrap();
    let through = || admission.admit(Listener::Main, proxy, true, None).unwrap();
    let mut tickets: Vec<Ticket> = (0..5).map(|_| through()).collect();
    // More than any other source may have.
    assert!(admission.inside().by_source.is_empty());
    for (ticket, client) in tickets.iter().zip([1, 1, 1, 2]) {
        ticket.attribute(IpAddr::from([192, 0, 2, client]));
    }
    tickets.push(through());
    let gone: Vec<bool> = tickets.iter().map(Ticket::has_ended).collect();
    assert_eq!(gone, [true, false, false, false, false, false]);
    // What nobody has asked anything on yet counts for the proxy.
    tickets.push(through());
    assert!(tickets[4].has_ended());
    drop(tickets);
    assert!(admission.inside().by_source.is_empty());
}
