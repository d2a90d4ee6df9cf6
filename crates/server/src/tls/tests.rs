//! Pairs of files that change under a listener.

use std::fs;

use rcgen::{CertifiedKey as Issued, KeyPair, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn put(&self, issued: &Issued<KeyPair>) {
        self.write("certificate", issued.cert.pem());
        self.write("key", issued.signing_key.serialize_pem());
    }

    fn open(&self) -> Result<Arc<Certificate>> {
        Certificate::open("main", &self.path("certificate"), &self.path("key"))
    }
}

fn issued(name: &str) -> Issued<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn served(certificate: &Certificate) -> Vec<u8> {
    certificate.current.load().key.cert[0].to_vec()
}

#[test]
fn a_new_pair_is_taken_when_both_files_are_there() {
    let (dir, old, new) = (Dir::new(), issued("old.test"), issued("new.test"));
    dir.put(&old);
    let certificate = dir.open().unwrap();
    assert!(matches!(certificate.look(), Look::Same));

    dir.write("certificate", new.cert.pem());
    assert!(matches!(certificate.look(), Look::Refused(_)));
    assert_eq!(served(&certificate), old.cert.der().to_vec());

    dir.write("key", new.signing_key.serialize_pem());
    assert!(matches!(certificate.look(), Look::Replaced));
    assert_eq!(served(&certificate), new.cert.der().to_vec());
    assert!(matches!(certificate.look(), Look::Same));
    assert_eq!(certificate.replaced(), 1);
}

#[test]
fn what_cannot_be_used_leaves_the_pair_before_in_force() {
    let (dir, old, new) = (Dir::new(), issued("old.test"), issued("new.test"));
    dir.put(&old);
    let certificate = dir.open().unwrap();
    let (new_certificate, new_key) = (new.cert.pem(), new.signing_key.serialize_pem());
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let broken: [(&str, String, String, &str); 7] = [
        ("empty", String::new(), String::new(), "has no certificate"),
        (
            "no certificate",
            "hello\n".into(),
            new_key.clone(),
            "has no certificate",
        ),
        (
            "no key",
            new_certificate.clone(),
            String::new(),
            "cannot read a private key",
        ),
        (
            "half a certificate",
            half(&new_certificate),
            new_key.clone(),
            "cannot read certificates",
        ),
        (
            "half a key",
            new_certificate.clone(),
            half(&new_key),
            "cannot read a private key",
        ),
        (
            "turned around",
            new_key.clone(),
            new_certificate.clone(),
            "has no certificate",
        ),
        (
            "not of one pair",
            new_certificate.clone(),
            old.signing_key.serialize_pem(),
            "do not fit each other",
        ),
    ];
    for (what, certificate_text, key_text, told) in broken {
        dir.write("certificate", &certificate_text);
        dir.write("key", &key_text);
        let Look::Refused(error) = certificate.look() else {
            panic!("{what} was taken");
        };
        assert!(format!("{error:#}").contains(told), "{what}: {error:#}");
        assert_eq!(served(&certificate), old.cert.der().to_vec(), "{what}");
        assert!(dir.open().is_err(), "{what} is refused at a start");
    }
    fs::remove_file(dir.path("key")).unwrap();
    assert!(matches!(certificate.look(), Look::Refused(_)));
    fs::write(dir.path("certificate"), "#".repeat((1 << 20) + 1)).unwrap();
    assert!(matches!(certificate.look(), Look::Refused(_)));
    dir.put(&new);
    assert!(matches!(certificate.look(), Look::Replaced));
}

#[test]
fn a_renewal_with_the_same_size_and_time_is_seen() {
    let (dir, old, new) = (Dir::new(), issued("one.test"), issued("two.test"));
    dir.put(&old);
    let certificate = dir.open().unwrap();
    let time = fs::metadata(dir.path("certificate"))
        .unwrap()
        .modified()
        .unwrap();
    dir.put(&new);
    for name in ["certificate", "key"] {
        let file = File::options().append(true).open(dir.path(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    assert!(matches!(certificate.look(), Look::Replaced));
}

#[test]
fn a_refusal_is_said_at_the_second_look_once_and_at_once_when_asked() {
    let (dir, old) = (Dir::new(), issued("old.test"));
    dir.put(&old);
    let certificate = dir.open().unwrap();
    let mut watched = Watched::new(certificate.clone());
    let refused = || Look::Refused(anyhow::anyhow!("broken"));
    watched.note(refused(), false);
    assert!(!certificate.is_refused(), "it may be half written");
    watched.note(refused(), false);
    assert!(certificate.is_refused() && watched.is_said);
    watched.note(Look::Same, false);
    assert!(!certificate.is_refused() && !watched.is_said);
    watched.note(refused(), true);
    assert!(certificate.is_refused());
    watched.note(Look::Replaced, false);
    assert!(!certificate.is_refused());
}

#[test]
fn an_end_is_warned_of_once_when_near_and_once_when_past() {
    let (dir, old) = (Dir::new(), issued("old.test"));
    dir.put(&old);
    let mut watched = Watched::new(dir.open().unwrap());
    let end = watched.certificate.expires().unwrap();
    let before = |hours: i64| {
        end.saturating_sub(jiff::SignedDuration::from_hours(hours))
            .unwrap()
    };
    watched.warn_of_end(before(24 * 8));
    assert_eq!(watched.warned, None);
    watched.warn_of_end(before(24 * 6));
    assert_eq!(watched.warned, Some((end, false)));
    watched.warn_of_end(before(1));
    assert_eq!(watched.warned, Some((end, false)));
    watched.warn_of_end(end);
    assert_eq!(watched.warned, Some((end, true)));
}
