//! Settings of the sealing key.

use super::secret::SealKey;
use super::section::section;

section! {
    /// The key that seals what the server itself must use again, such as its Noise key. It is
    /// kept outside the database, and no backup holds it: keep a copy of your own.
    pub struct Seal["seal"] {
        /// 32 bytes as 64 hexadecimal digits; `openssl rand -hex 32` makes them.
        ///
        /// Without it the server makes a key at its first start and keeps it in the data
        /// directory, in the file `seal.key` with mode 0600; `key_file` may name a copy of that.
        key: Option<SealKey>, default "none" { None };
    }
}
