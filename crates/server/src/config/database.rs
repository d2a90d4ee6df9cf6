//! Settings of the database.

use super::secret::DatabaseUrl;
use super::section::section;
use super::value::Whole;

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
    }
}
