//! Settings of the database.

use super::secret::DatabaseUrl;
use super::section::section;
use super::value::{Seconds, Whole};

section! {
    /// Where the server's state is stored.
    pub struct Database["database"] {
        /// `sqlite` for the embedded engine in the data directory, or the URL of a PostgreSQL
        /// database: `postgres://user:password@host/database`.
        ///
        /// A URL on the command line can be read by others on the machine; with a password in it
        /// use `url_file`.
        url: DatabaseUrl, flag "database", default "sqlite" { DatabaseUrl::Sqlite };

        /// The most connections that are held to PostgreSQL. SQLite does not look at it.
        connections: Whole<2, 1000>, default "10" { Whole::new(10) };

        /// How many seconds a change waits for a database that does not answer. Then its caller is
        /// told so: 503 where it was not sent to the database, 504 where it was.
        commit_seconds: Seconds<1, 300>, default "10" { Seconds::new(10) };

        /// How many seconds this server may take to renew its hold on a PostgreSQL database before
        /// another server takes it over: the time that a fail-over takes. SQLite does not look at
        /// it.
        lease_seconds: Seconds<3, 300>, default "15" { Seconds::new(15) };
    }
}
