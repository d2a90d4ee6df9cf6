//! A tailnet on a database of its own, with a clock that is moved and a random source that is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is for tests alone, which fail where something is not as it must be"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{
    Actor, Clock as _, Engine, Registered, Registration, RegistrationRefused, Settings, Stream,
    Webhooks,
};
use bowline_model::device::{Device, HostFacts};
use bowline_model::id::{DeviceId, KeyId, TailnetId, UserId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::principal::Principal;
use bowline_model::record::RawJson;
use bowline_model::requirement::Requirement;
use bowline_model::waiting::CodeKey;
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Options, Sealer, Store};
use jiff::{SignedDuration, Timestamp};

use crate::clock::{TestClock, TestRandom};
use crate::post::Post;

/// One tailnet, its owner acting.
pub struct Net {
    /// Its engine.
    pub engine: Engine,
    /// The clock that the engine goes by.
    pub clock: Arc<TestClock>,
    /// What the engine was opened with.
    pub settings: Settings,
    /// The tailnet.
    pub tailnet: TailnetId,
    /// The owner of the tailnet.
    pub admin: Actor,
    /// Where the database is.
    pub directory: tempfile::TempDir,
    random: Arc<TestRandom>,
}

/// Settings with short waits.
pub fn quick() -> Settings {
    Settings {
        offline_grace: Duration::from_millis(150),
        restart_grace: Duration::from_millis(300),
        publication_interval: Duration::from_millis(1),
        code_key: Some(CodeKey::new(&[7; 32])),
        sealer: Some(Sealer::new(&[7; 32]).unwrap()),
        webhooks: Webhooks {
            courier: Some(Arc::new(Post::default())),
            ..Webhooks::default()
        },
        ..Settings::default()
    }
}

/// Opens the store of a directory, once nobody else has it.
pub async fn open_store(path: &Path, options: Options) -> Store {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        // A killed process may still hold its lock for a moment.
        match Store::open(&path.join("bowline.db").as_path().into(), options.clone()).await {
            Ok(store) => return store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a question has an answer; fails after ten seconds.
pub async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "in vain waited until {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn bytes(kind: u8, number: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Machine key number `number`.
pub fn machine_key(number: u64) -> MachineKey {
    MachineKey::from_bytes(bytes(1, number)).unwrap()
}

/// Node key number `number`.
pub fn node_key(number: u64) -> NodeKey {
    NodeKey::from_bytes(bytes(2, number)).unwrap()
}

/// Machine and node number `number`, with an auth key.
pub fn request(number: u64, auth_key: &str) -> Registration {
    Registration {
        machine_key: machine_key(number),
        node_key: node_key(number),
        old_node_key: None,
        lock_key: String::new(),
        auth_key: Some(auth_key.to_owned()).filter(|key| !key.is_empty()),
        expiry: None,
        ephemeral: false,
        capability_version: 113,
        hostinfo: RawJson::empty_object(),
        facts: HostFacts {
            hostname: format!("host{number}"),
            ..HostFacts::default()
        },
    }
}

/// Who presents a token that is good. What they may do is left to the use cases: of their role and
/// scopes nothing is asked but that they may use the API.
pub fn present(engine: &Engine, token: &str) -> Actor {
    let actor = engine.authenticate(token).unwrap();
    actor.asking(Requirement::CALLER)
}

/// The operator of the server, acting in a tailnet.
pub fn operator(tailnet: TailnetId) -> Actor {
    Actor::operator(tailnet).asking(Requirement::CALLER)
}

/// The user, when an actor is one.
pub fn user(actor: &Actor) -> Option<UserId> {
    match &actor.principal {
        Principal::User { id, .. } => Some(*id),
        _ => None,
    }
}

impl Net {
    /// A user who acts by an API access token of theirs.
    pub async fn acting(&self, user: UserId) -> Actor {
        let operator = operator(self.tailnet);
        let made = self
            .engine
            .create_access_token(&operator, Some(user), "", None);
        let (token, _) = made.await.unwrap();
        present(&self.engine, token.expose())
    }

    /// A tailnet in a file of its own, with short waits.
    pub async fn new() -> Self {
        Self::with(quick(), Options::default()).await
    }

    /// The same with other settings.
    pub async fn with(settings: Settings, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open_store(directory.path(), options).await;
        Self::made(store, directory, settings).await
    }

    /// On another store than a file of its own. It cannot be restarted.
    pub async fn on(store: Store, settings: Settings) -> Self {
        Self::made(store, tempfile::tempdir().unwrap(), settings).await
    }

    async fn made(store: Store, directory: tempfile::TempDir, settings: Settings) -> Self {
        let start = "2026-11-26T12:00:00Z".parse().unwrap();
        let clock = Arc::new(TestClock::at(start));
        let random = Arc::new(TestRandom::default());
        let engine = Engine::open(store, settings.clone(), clock.clone(), random.clone())
            .await
            .unwrap();
        let made = engine
            .create_tailnet("ann@example.com", Some("example.com"))
            .await
            .unwrap();
        let admin = present(&engine, made.token.expose());
        Self {
            engine,
            clock,
            settings,
            tailnet: made.tailnet,
            admin,
            directory,
            random,
        }
    }

    /// Stops the server and starts it again, `away` later.
    pub async fn restart(self, away: SignedDuration) -> Self {
        self.restart_with(away, |_| ()).await
    }

    /// The same, with something done to the database while nobody has it.
    pub async fn restart_with(self, away: SignedDuration, meanwhile: impl FnOnce(&Path)) -> Self {
        self.start_again(|path, clock| {
            meanwhile(path);
            clock.pass(away);
        })
        .await
    }

    /// Stops the server and starts it again with another wall clock.
    pub async fn restart_at(self, wall: Timestamp) -> Self {
        self.restart_at_with(wall, |_| ()).await
    }

    /// The same, with something done to the database while nobody has it.
    pub async fn restart_at_with(self, wall: Timestamp, meanwhile: impl FnOnce(&Path)) -> Self {
        self.start_again(|path, clock| {
            meanwhile(path);
            clock.set(wall);
        })
        .await
    }

    async fn start_again(self, meanwhile: impl FnOnce(&Path, &TestClock)) -> Self {
        let Self {
            engine,
            clock,
            settings,
            tailnet,
            admin,
            directory,
            random,
        } = self;
        engine.close().await;
        meanwhile(directory.path(), &clock);
        let store = open_store(directory.path(), Options::default()).await;
        let engine = Engine::open(store, settings.clone(), clock.clone(), random.clone())
            .await
            .unwrap();
        Self {
            engine,
            clock,
            settings,
            tailnet,
            admin,
            directory,
            random,
        }
    }

    /// Moves the clock, and waits until what is due then is done.
    pub async fn pass(&self, time: SignedDuration) {
        self.clock.pass(time);
        self.engine.tick().await;
    }

    /// Moves the clock and lets nobody know.
    pub fn move_clock(&self, time: SignedDuration) {
        self.clock.pass(time);
    }

    /// Sets the wall clock, and waits until it was looked at.
    pub async fn set_clock(&self, wall: Timestamp) {
        self.clock.set(wall);
        self.engine.tick().await;
    }

    /// What the wall clock shows.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The newest state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.engine.snapshot(self.tailnet).unwrap()
    }

    /// Puts a policy into force.
    pub async fn set_policy(&self, text: &str) {
        let policy = bowline_policy::Policy::parse(text).unwrap();
        self.engine
            .set_policy_file(&self.admin, Some(Arc::new(policy)), None)
            .await
            .unwrap();
    }

    /// An auth key of the owner: its text and id.
    pub async fn key_with(&self, new: NewAuthKey) -> (String, KeyId) {
        self.key_of(None, new).await
    }

    /// An auth key for a user (`None`: the owner): its text and id.
    pub async fn key_of(&self, user: Option<UserId>, new: NewAuthKey) -> (String, KeyId) {
        let (minted, credential) = self
            .engine
            .create_auth_key(&self.admin, user, new)
            .await
            .unwrap();
        (minted.expose().to_owned(), credential.id)
    }

    /// The text of an auth key for one device.
    pub async fn one_off(&self) -> String {
        self.key_with(NewAuthKey::default()).await.0
    }

    /// The text of an auth key for any number of devices.
    pub async fn reusable(&self) -> String {
        self.key_with(NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        })
        .await
        .0
    }

    /// Registers, and says what became of it.
    pub async fn try_register(
        &self,
        request: Registration,
    ) -> Result<Registered, RegistrationRefused> {
        self.engine.register(request).await
    }

    /// Registers a device that is let in.
    pub async fn register(&self, request: Registration) -> DeviceId {
        match self.engine.register(request).await {
            Ok(Registered::In { device, .. }) => device,
            other => panic!("not let in: {other:?}"),
        }
    }

    /// Registers device `number` by a key of its own.
    pub async fn join(&self, number: u64) -> DeviceId {
        let key = self.one_off().await;
        self.register(request(number, &key)).await
    }

    /// A device with its soft state.
    pub fn entry(&self, device: DeviceId) -> Arc<Entry> {
        self.snapshot()
            .device(device)
            .cloned()
            .expect("the device is there")
    }

    /// A device's record.
    pub fn device(&self, device: DeviceId) -> Arc<Device> {
        self.entry(device).device.clone()
    }

    /// Whether a device is there and online.
    pub fn is_online(&self, device: DeviceId) -> bool {
        self.snapshot()
            .device(device)
            .is_some_and(|entry| entry.live.online)
    }

    /// Opens a stream, and waits until the device is online and known to have been.
    pub async fn stream(&self, device: DeviceId) -> Stream {
        let stream = self.engine.open_stream(self.tailnet, device).await.unwrap();
        until("the device is online", || {
            let entry = self.entry(device);
            (entry.live.online && entry.device.seen).then_some(())
        })
        .await;
        stream
    }

    /// Waits until every change of soft state that was asked for so far is in the snapshot.
    pub async fn settle(&self) {
        self.engine.tick().await;
    }

    /// Action and property of every audit event, the oldest first.
    pub async fn audit(&self) -> Vec<(String, String)> {
        let rows = self
            .engine
            .store()
            .audit(self.tailnet, Timestamp::MIN, Timestamp::MAX, usize::MAX)
            .await
            .unwrap();
        rows.iter()
            .map(|row| {
                let event: serde_json::Value = serde_json::from_str(&row.body).unwrap();
                let text = |pointer| {
                    event
                        .pointer(pointer)
                        .and_then(serde_json::Value::as_str)
                        .unwrap_or("")
                        .to_owned()
                };
                (text("/action"), text("/target/property"))
            })
            .collect()
    }
}
