//! Background work as rows: what is due, who has it, and what becomes of it.

use jiff::Timestamp;

use crate::checksum;
use crate::owner::Owner;

/// Something to be done later, at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The job's id, below 2^53, unique in the whole server.
    pub id: u64,
    /// What kind of work it is: who does it is registered under this name.
    pub topic: String,
    /// Jobs of one lane run one after the other, by id, whatever their topics and due times: an
    /// endpoint gets what it is sent in order. `None`: beside all others.
    pub lane: Option<String>,
    /// No two waiting jobs have the same name: adding a second one changes nothing. A job that was
    /// claimed does not wait any more. `None`: there may be any number of the kind.
    pub name: Option<String>,
    /// When it was made. Kept to the microsecond, as are the other moments.
    pub at: Timestamp,
    /// Not before.
    pub due_at: Timestamp,
    /// What is to be done, as JSON.
    pub body: Box<str>,
}

/// A job that this process may do: nobody else does it before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub owner: Owner,
    /// The job as it was made.
    pub job: JobRow,
    /// How often it was claimed, this time included, since it last succeeded.
    pub attempts: u32,
    /// Until when the claim holds. It also tells this claim from later ones.
    pub until: Timestamp,
}

/// When a job that was claimed is to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Not before.
    pub due_at: Timestamp,
    /// How often it was tried since it last succeeded: `0` after a success.
    pub attempts: u32,
}

/// What waits of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The topic.
    pub topic: String,
    /// How many, claimed ones included.
    pub count: u64,
    /// When the next can be claimed; `None` while all of them are behind others in their lanes.
    pub next: Option<Timestamp>,
}

impl JobRow {
    /// The checksum of the row of this job.
    pub(crate) fn checksum(
        &self,
        owner: Owner,
        attempts: u32,
        claimed_until: Option<Timestamp>,
    ) -> i64 {
        checksum::job(&checksum::Job {
            id: self.id.cast_signed(),
            owner: owner.get().cast_signed(),
            topic: &self.topic,
            lane: self.lane.as_deref(),
            name: self.name.as_deref(),
            at: self.at.as_microsecond(),
            due_at: self.due_at.as_microsecond(),
            attempts: i64::from(attempts),
            claimed_until: claimed_until.map(Timestamp::as_microsecond),
            body: &self.body,
        })
    }
}

impl Claim {
    /// The checksum of the claimed row, which has no name, claimed until a moment.
    pub(crate) fn checksum(&self, until: Timestamp) -> i64 {
        let job = JobRow {
            name: None,
            ..self.job.clone()
        };
        job.checksum(self.owner, self.attempts, Some(until))
    }
}
