//! What the fuzz target does with its input; the saved corpus runs as an ordinary test.

use crate::operations::table;

/// Reads a body as every operation of the table would.
pub fn body(input: &[u8]) {
    for row in table() {
        row.try_body(input);
    }
}
