//! The STUN responder: tells a node which address its packets come from.
//!
//! One kind of message is understood, the binding request of RFC 5389, and one is sent, its
//! success response with XOR-MAPPED-ADDRESS. What is not a request gets no answer, so that two
//! responders never talk to each other, and an answer is never longer than twice the request, so
//! that nothing is gained by asking in somebody else's name.

mod message;
mod server;

pub use message::{
    BindingRequest, BindingResponse, MessageError, SOFTWARE, TransactionId, encode_request,
    encode_response,
};
pub use server::{StunServer, StunStats};
